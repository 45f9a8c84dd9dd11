"""What a picture in a request counts for, by the rules that providers publish, where nobody tells.

The size comes from the first bytes of an inline picture (PNG, GIF, JPEG, WebP); one that is only linked to, or unreadable,
counts the flat number of its dialect. Sources: OpenAI, "Images and vision", calculating costs; Anthropic, "Vision", image
costs; Google, "Image understanding", token calculation.
"""

from __future__ import annotations

import binascii
import re
import struct
from typing import TYPE_CHECKING, Any

from gateway.dialects.values import Json, as_object
from gateway.value import value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOKED_AT = 96 * 1024
"""Characters of base64: a JPEG can have that much about its camera before it says how large it is."""
MAX_SIDE = 1 << 16
PATCH_MODELS: tuple[tuple[str, float], ...] = (
    ("gpt-4.1-mini", 1.62), ("gpt-4.1-nano", 2.46), ("gpt-5-mini", 1.62), ("gpt-5-nano", 2.46), ("o4-mini", 1.72),
)  # fmt: skip
"""Models that see patches of 32 pixels, at most 1,536 of them, and what each counts for."""
TILE_MODELS: tuple[tuple[str, int, int], ...] = (
    ("gpt-4o-mini", 2833, 5667), ("gpt-4", 85, 170), ("gpt-5", 70, 140), ("o1", 75, 150), ("o3", 75, 150),
)  # fmt: skip
"""Models that see tiles of 512 pixels: what a picture counts for, and each tile of it. Others like gpt-4o."""
MAX_PATCHES = 1536
CLAUDE_SIDE, CLAUDE_PIXELS, CLAUDE_MOST = 1568, 750, 1600
GEMINI_SMALL, GEMINI_TILE, GEMINI_TOKENS = 384, 768, 258
_DATA = re.compile(r"data:image/[\w.+-]{1,40};base64,")
_SOF = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
"""JPEG's markers of a frame, in which its size stands."""


@value
class Picture:
    """Pixels, and how closely OpenAI is to look (``low``, ``high`` or "")."""

    width: int
    height: int
    detail: str = ""


def found_in(value: Any, parts: frozenset[str]) -> Iterator[Picture | None]:
    """Every piece of media below a JSON value; None for what is no picture that can be read."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is list:
            stack.extend(item)
        elif type(item) is dict:
            if type(item.get("type")) is str and item["type"] in parts:
                yield _picture(item)
            stack.extend(item.values())


def tokens(value: Any, parts: frozenset[str], flat: int, rule: Callable[[Picture], int]) -> int:
    """What the media below a JSON value count for."""
    return sum(flat if picture is None else rule(picture) for picture in found_in(value, parts))


def openai_rule(model: str) -> Callable[[Picture], int]:
    """By the family of the model."""
    name = model.lower().rpartition("/")[2]
    for prefix, factor in PATCH_MODELS:
        if name.startswith(prefix):
            return lambda picture: _patches(picture, factor)
    base, tile = next(((base, tile) for prefix, base, tile in TILE_MODELS if name.startswith(prefix)), (85, 170))
    return lambda picture: base if picture.detail == "low" else base + tile * _tiles(picture)


def claude_rule(picture: Picture) -> int:
    """Scaled to a longer side of 1568 pixels; one token for 750 pixels."""
    scale = min(1.0, CLAUDE_SIDE / max(picture.width, picture.height))
    return min(CLAUDE_MOST, _up(picture.width * scale * picture.height * scale / CLAUDE_PIXELS))


def gemini_rule(picture: Picture) -> int:
    """258 tokens, or as many for each tile of 768 pixels."""
    if max(picture.width, picture.height) <= GEMINI_SMALL:
        return GEMINI_TOKENS
    return GEMINI_TOKENS * _up(picture.width / GEMINI_TILE) * _up(picture.height / GEMINI_TILE)


def _tiles(picture: Picture) -> int:
    """Scaled into 2048 x 2048, then to a shorter side of 768; never enlarged."""
    scale = min(1.0, 2048 / max(picture.width, picture.height))
    width, height = picture.width * scale, picture.height * scale
    scale = min(1.0, 768 / min(width, height))
    return _up(width * scale / 512) * _up(height * scale / 512)


def _patches(picture: Picture, factor: float) -> int:
    count = _up(picture.width / 32) * _up(picture.height / 32)
    return _up(min(count, MAX_PATCHES) * factor)


def _up(number: float) -> int:
    """Rounded up; what floats make of a whole number is that number."""
    return -int(-number // 1) if abs(number - round(number)) > 1e-9 else round(number)


def _picture(part: Json) -> Picture | None:
    """OpenAI's ``image_url`` (an object or a text) or Anthropic's ``source``."""
    image = part.get("image_url")
    url = image if type(image) is str else as_object(image).get("url")
    detail = as_object(image).get("detail") or part.get("detail")
    if type(url) is str:
        match = _DATA.match(url)
        data = url[match.end() : match.end() + LOOKED_AT] if match is not None else ""
    else:
        inner = as_object(part.get("source")).get("data")
        data = inner[:LOOKED_AT] if type(inner) is str else ""
    return read(data, detail if type(detail) is str else "")


def read(data: str, detail: str = "") -> Picture | None:
    """The picture whose bytes begin with this base64."""
    try:
        head = binascii.a2b_base64(data[: len(data) // 4 * 4])
    except (ValueError, UnicodeEncodeError):
        return None
    size = _size(head)
    if size is None or not 0 < min(size) <= max(size) <= MAX_SIDE:
        return None
    return Picture(*size, detail)


def _size(head: bytes) -> tuple[int, int] | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
        return width, height
    if head[:6] in (b"GIF87a", b"GIF89a") and len(head) >= 10:
        width, height = struct.unpack("<HH", head[6:10])
        return width, height
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp(head)
    return _jpeg(head) if head.startswith(b"\xff\xd8") else None


def _webp(head: bytes) -> tuple[int, int] | None:
    """RFC 9649: lossy, lossless, extended."""
    kind = head[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    """ITU T.81 B: segments of (FF, marker, length) until the frame's."""
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if marker in _SOF:
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return width, height
        at += 1 if marker == 0xFF else 2 + max(length, 2)
    return None
