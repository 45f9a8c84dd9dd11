"""The dialect of ``chat/completions``: OpenAI's, and that of everybody who copied it.

Reads the JSON body and the events of a stream. Known oddities: ``usage`` is null on all chunks but the last; transformers
puts it beside the finish reason and never sends ``[DONE]``; xAI and vLLM can send it, cumulative, on every chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.dialects import pictures, prompts
from gateway.dialects.beyond import Beyond
from gateway.dialects.openai_usage import choices_of, split
from gateway.dialects.values import (
    Json,
    add_text,
    as_list,
    as_object,
    asked,
    choices,
    name,
    output_bound,
    parse,
    parse_request,
)
from gateway.dialects.voices import OpenAIVoice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.call import Ask
    from gateway.dialects import Reading
    from pricing.usage import Usage

IMAGE_TOKENS = 1105
"""A large image in high detail (OpenAI, "Images and vision": 2048 x 4096 pixels), for one whose size is not seen."""
TOOLS_TOKENS = 12
"""The frame around a list of tools (OpenAI cookbook, "How to count tokens with tiktoken")."""


OWN_TOOLS = frozenset(("function", "custom"))
BESIDE_CONTENT = frozenset(("reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "audio"))
"""What else of a message or delta the model has written."""


class OpenAIChat(OpenAIVoice):
    """See the module's docstring."""

    __slots__ = ()
    operation = "chat"
    metered = True

    def ask(self, body: bytes) -> Ask:
        """The larger of ``max_completion_tokens`` and ``max_tokens`` is the bound; ``n`` is the number of choices."""
        root, fault = parse_request(body)
        most = output_bound(root.get("max_completion_tokens"), root.get("max_tokens"))
        answers = choices(root["n"]) if "n" in root else 1
        return asked(self.operation, body, root, fault, _beyond(root), choices=answers, max_output_tokens=most)

    def read(self, document: bytes, reading: Reading) -> None:
        """One chunk or the whole body."""
        answers = choices_of(document, reading)
        for answer in answers:
            if type(answer) is dict and (plain := self._read_choice(answer, reading)) and len(answers) == 1:
                reading.note_form(document, b"content", plain)

    def _read_choice(self, answer: Json, reading: Reading) -> str:
        """A later chunk of another choice takes ``finished`` back, so that n answers count as whole only at the end. Returns
        the text of a delta that has nothing else.
        """
        reading.finished = answer.get("finish_reason") is not None or "message" in answer
        delta = answer.get("delta") or answer.get("message")
        if type(delta) is not dict:
            return ""
        content = delta.get("content")
        if type(content) is str:
            add_text(reading, content)
        elif content is not None:
            _add_parts(reading, content)
        if len(delta) > 1 or content is None:
            if not BESIDE_CONTENT.isdisjoint(delta):
                _add_rest(reading, delta)
            return ""
        return content if type(content) is str and not reading.finished else ""

    def usage(self, raw: Json) -> Usage | None:
        """``prompt_tokens`` includes cached ones, ``completion_tokens`` includes reasoning and rejected predictions."""
        return split(raw, "prompt_tokens", "completion_tokens")

    def prompt(self, body: bytes) -> Iterator[str]:
        """Messages with their tool calls, then definitions of tools and of the answer's schema."""
        root, _ = parse(body)
        return prompts.together(
            prompts.texts(root.get("messages")),
            prompts.definitions(root.get("tools")),
            prompts.definitions(root.get("functions")),
            prompts.definitions(as_object(root.get("response_format")).get("json_schema")),
        )

    def framing(self, body: bytes) -> int:
        """Four tokens a message and three for the answer, a frame around tools, what each image counts for, a flat number for a file."""
        root, fault = parse(body)
        messages = root.get("messages")
        tokens = 0 if fault else prompts.PRIMING_TOKENS + prompts.MESSAGE_TOKENS * len(as_list(messages))
        tools = TOOLS_TOKENS if root.get("tools") or root.get("functions") else 0
        rule = pictures.openai_rule(name(root.get("model")))
        return tokens + tools + pictures.tokens(messages, prompts.MEDIA_PARTS, IMAGE_TOKENS, rule)


def _beyond(root: Json) -> Beyond:
    beyond = Beyond()
    beyond.messages(root.get("messages"))
    if tools := root.get("tools") or root.get("functions"):
        beyond.tools(tools, lambda kind: kind not in OWN_TOOLS)
    if root.get("web_search_options") is not None or "search" in name(root.get("model")):
        beyond.hosted("web_search")
    return beyond


def _add_rest(reading: Reading, delta: Json) -> None:
    """What stands beside ``content``; OpenRouter and vLLM say ``reasoning``, most others ``reasoning_content``."""
    if thought := delta.get("reasoning_content") or delta.get("reasoning"):
        add_text(reading, thought)
    if refusal := delta.get("refusal"):
        add_text(reading, refusal)
    if calls := delta.get("tool_calls"):
        for call in as_list(calls):
            if type(call) is dict:
                _add_function(reading, call.get("function") or call.get("custom"))
    if function := delta.get("function_call"):
        _add_function(reading, function)
    if audio := delta.get("audio"):
        add_text(reading, as_object(audio).get("transcript"))


def _add_function(reading: Reading, function: Any) -> None:
    if type(function) is dict:
        add_text(reading, function.get("name"))
        add_text(reading, function.get("arguments") or function.get("input"))


def _add_parts(reading: Reading, content: Any) -> None:
    """Content as a list of parts (Mistral's reasoning models)."""
    for text in prompts.texts(content):
        add_text(reading, text)
