"""What a request makes a provider read beyond the text of its body: images, files, links, what tools bring in.

A token of text has at least one byte, so the bytes of a body bound its tokens. Not so for a link of thirty bytes to an image of
forty thousand tokens. This walk finds what breaks that rule, so that a strict budget can hold enough for it, and what is
large without costing much (inline images), so that a guess does not hold too much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.dialects.skim import length
from gateway.dialects.values import Json, as_object, name

IMAGES = frozenset(("computer_screenshot", "image", "image_url", "input_image"))
SOUNDS = frozenset(("input_audio",))
OPEN = frozenset(("container_upload", "document", "file", "input_file", "item_reference", "video", "video_url"))
"""Types of parts that can stand for any amount of text: files, links to them, items kept by the provider."""
INLINE = frozenset(("text", "content"))
"""Sources of a document that stand in the body as text."""
PAYLOADS = ("data", "file_data", "image_url", "url")

IMAGE_MOST_TOKENS = 50_000
"""gpt-4o-mini counts 2,833 tokens and 5,667 for each of at most eight tiles (OpenAI, "Images and vision"): 48,169. Others less."""
IMAGE_LIKELY_TOKENS = 1_105
SOUND_BYTES_PER_TOKEN = 400
"""Ten tokens a second (OpenAI, "Audio"); compressed speech in base64 has 4,000 bytes a second or more."""
TOOLS_MOST_TOKENS = 1_000
"""The hidden prompt that comes with tools: 313 to 804 tokens at Anthropic ("Tool use", pricing), the longest that is published."""
SEARCHES = 50
"""Searches of one call where the caller sets no maximum. No provider publishes one."""


@dataclass(slots=True)
class Beyond:
    """Tokens at the most and likely, beyond those of the text; ``bytes`` of the body that are no text; ``open``: no bound."""

    most: int = 0
    likely: int = 0
    bytes: int = 0
    open: bool = False
    searches: int = 0

    def messages(self, messages: Any) -> None:
        """Look into what has parts; a message of plain text costs one look."""
        for message in messages if type(messages) is list else ():
            if type(message) is dict and type(message.get("content")) is not str:
                self._walk(message)

    def _walk(self, root: Json) -> None:
        stack: list[Any] = [root]
        while stack:
            item = stack.pop()
            if type(item) is list:
                stack.extend(item)
            elif type(item) is dict and not self._part(item):
                stack.extend(value for value in item.values() if type(value) in (dict, list))

    def _part(self, part: Json) -> bool:
        """Whether it is media: then nothing more is in it."""
        kind = part.get("type")
        if type(kind) is not str:
            return False
        if kind in IMAGES:
            self.image(_payload(part))
        elif kind in SOUNDS:
            self.sound(_payload(part))
        elif kind in OPEN and as_object(part.get("source")).get("type") not in INLINE:
            self.open = True
            self.bytes += _payload(part)
        else:
            return False
        return True

    def image(self, payload_bytes: int) -> None:
        """One image, inline or by its link."""
        self.most += IMAGE_MOST_TOKENS
        self.likely += IMAGE_LIKELY_TOKENS
        self.bytes += payload_bytes

    def sound(self, payload_bytes: int) -> None:
        """One recording, inline: its bytes bound its tokens."""
        self.likely += payload_bytes // SOUND_BYTES_PER_TOKEN
        self.bytes += payload_bytes

    def tools(self, tools: Any, hosted: Callable[[str], bool]) -> None:
        """What the caller's own tools bring in comes in a later body; what ``hosted`` types bring in is read at once."""
        if type(tools) is not list or not tools:
            return
        self.most += TOOLS_MOST_TOKENS
        for tool in tools:
            kind = name(as_object(tool).get("type"))
            if kind and hosted(kind):
                self.hosted(kind, tool.get("max_uses"))

    def hosted(self, kind: str, most_uses: Any = None) -> None:
        """A tool that the provider runs."""
        self.open = True
        if "search" in kind.lower():
            self.searches += most_uses if type(most_uses) is int and 0 <= most_uses <= SEARCHES else SEARCHES


def _payload(part: Json) -> int:
    """The characters of its data or link, one level down at most."""
    inner = [part, *(value for value in part.values() if type(value) is dict)]
    return sum(length(each[key]) for each in inner for key in PAYLOADS if type(each.get(key)) is str)
