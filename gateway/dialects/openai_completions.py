"""The dialect of the legacy ``completions``: a prompt, or several, or token ids; no messages.

Usage is counted as in chat. What is billed is one answer per prompt and choice, and the candidates that ``best_of`` made
and threw away as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.dialects import prompts
from gateway.dialects.openai_usage import choices_of, split
from gateway.dialects.values import MAX_CHOICES, Json, add_text, asked, choices, output_bound, parse, parse_request
from gateway.dialects.voices import OpenAIVoice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.call import Ask
    from gateway.dialects import Reading
    from pricing.usage import Usage


class OpenAICompletions(OpenAIVoice):
    """See the module's docstring."""

    __slots__ = ()
    operation = "text_completion"
    metered = True

    def ask(self, body: bytes) -> Ask:
        """``choices`` is prompts x the larger of ``n`` and ``best_of``."""
        root, fault = parse_request(body)
        answers = choices(root.get("n"), root.get("best_of")) * _prompts(root.get("prompt"))
        most = output_bound(root.get("max_tokens"), root.get("max_completion_tokens"))
        return asked(self.operation, body, root, fault, choices=min(answers, MAX_CHOICES), max_output_tokens=most)

    def read(self, document: bytes, reading: Reading) -> None:
        """One chunk or the whole body: both hold their text in ``choices[].text``."""
        for answer in choices_of(document, reading):
            if type(answer) is dict:
                add_text(reading, answer.get("text"))
                reading.finished = answer.get("finish_reason") is not None

    def usage(self, raw: Json) -> Usage | None:
        """As in chat."""
        return split(raw, "prompt_tokens", "completion_tokens")

    def prompt(self, body: bytes) -> Iterator[str]:
        """The prompts that are text, and the suffix."""
        root, _ = parse(body)
        return prompts.together(prompts.texts(root.get("prompt")), prompts.texts(root.get("suffix")))

    def framing(self, body: bytes) -> int:
        """The prompts that are token ids."""
        root, _ = parse(body)
        return prompts.token_ids(root.get("prompt"))


def _prompts(prompt: Any) -> int:
    """How many prompts: an array of strings or of arrays is many, an array of integers is one."""
    if type(prompt) is not list:
        return 1
    return max(1, sum(type(item) is not int for item in prompt))
