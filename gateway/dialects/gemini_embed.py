"""The dialect of Gemini's ``embedContent`` and ``batchEmbedContents``: only input is billed.

Most models say nothing of their usage here; then the texts are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.dialects import prompts
from gateway.dialects.gemini import GeminiGenerate
from gateway.dialects.values import as_list, as_object, asked, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.call import Ask
    from gateway.dialects import Reading


class GeminiEmbed(GeminiGenerate):
    """See the module's docstring."""

    __slots__ = ()
    operation = "embeddings"

    def ask(self, body: bytes) -> Ask:
        """The output bound is 0: nothing is written, so nothing is set aside for it."""
        root, fault = parse(body)
        return asked(self.operation, body, root, fault, max_output_tokens=0)

    def read(self, document: bytes, reading: Reading) -> None:
        """The body: its usage, if it tells any."""
        root, _ = parse(document)
        if type(root.get("usageMetadata")) is dict:
            reading.usage = root["usageMetadata"]
        reading.finished = reading.finished or "embedding" in root or "embeddings" in root

    def prompt(self, body: bytes) -> Iterator[str]:
        """The content, or those of every request in a batch."""
        root, _ = parse(body)
        batch = [as_object(each).get("content") for each in as_list(root.get("requests"))]
        return prompts.together(prompts.texts(root.get("content")), prompts.texts(batch))

    def framing(self, body: bytes) -> int:
        """None."""
        return 0
