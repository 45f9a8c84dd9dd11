"""The dialect of ``embeddings``: only input is billed, and an answer is mostly numbers that nobody here needs.

So the numbers are stepped over: usage stands behind the last array in what OpenAI sends, and parsing that tail costs
about 1 us where a body of 30 KB costs about 100. A body of another shape is parsed whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.dialects import prompts
from gateway.dialects.values import Json, as_object, asked, count, note_model, parse
from gateway.dialects.voices import OpenAIVoice
from pricing.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.call import Ask
    from gateway.dialects import Reading

TAIL_BYTES = 2048


class OpenAIEmbeddings(OpenAIVoice):
    """See the module's docstring."""

    __slots__ = ()
    operation = "embeddings"
    metered = True

    def ask(self, body: bytes) -> Ask:
        """The output bound is 0: nothing is written, so nothing is set aside for it."""
        root, fault = parse(body)
        return asked(self.operation, body, root, fault, max_output_tokens=0)

    def read(self, document: bytes, reading: Reading) -> None:
        """The body: its tail if that is enough, else all of it."""
        root = _tail(document) or parse(document)[0]
        note_model(reading, root)
        if type(root.get("usage")) is dict:
            reading.usage = root["usage"]
        reading.finished = reading.finished or "usage" in root or "data" in root

    def usage(self, raw: Json) -> Usage | None:
        """``prompt_tokens``, or the total where a provider gives nothing else; images where they are told apart."""
        read = count(raw.get("prompt_tokens"))
        if read is None:
            read = count(raw.get("total_tokens"))
        if read is None:
            return None
        images = min(count(as_object(raw.get("prompt_tokens_details")).get("image_tokens")) or 0, read)
        return Usage(input=read - images, image_in=images)

    def prompt(self, body: bytes) -> Iterator[str]:
        """The inputs that are text."""
        root, _ = parse(body)
        return prompts.together(prompts.texts(root.get("input")))

    def framing(self, body: bytes) -> int:
        """The inputs that are token ids."""
        root, _ = parse(body)
        return prompts.token_ids(root.get("input"))


def _tail(document: bytes) -> dict[str, Any]:
    """The members behind the last array as an object; empty when model and usage are not both among them."""
    tail = document[-TAIL_BYTES:]
    start = tail.find(b'"', tail.rfind(b"]") + 1)
    root = parse(b"{" + tail[start:])[0] if start > 0 else {}
    return root if "model" in root and "usage" in root else {}
