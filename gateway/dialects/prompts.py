"""The texts of a request that a provider would bill as input, and what is billed beside them.

Owns the walk through messages of any shape: every string is a text unless its key says that it is a label or media. So a
new kind of part is counted on the day it appears, and counting errs high. The walk keeps its own stack: the nesting of a
body is a stranger's choice, and Python's recursion ends earlier than the parser's 1024 levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LABELS = frozenset(
    {
        "annotations", "cache_control", "call_id", "detail", "encrypted_content", "file_id", "id", "index", "media_type",
        "role", "signature", "status", "thoughtSignature", "thought_signature", "tool_call_id", "tool_use_id", "type",
    }
)  # fmt: skip
"""Keys whose strings are no prompt text."""

MEDIA = frozenset({"file", "image_url", "input_audio", "video_url"})
"""Keys whose whole value is media."""

MEDIA_PARTS = frozenset(
    {"document", "file", "image", "image_url", "input_audio", "input_file", "input_image", "video_url"}
)
"""Values of ``type`` that make an object one piece of media."""

MESSAGE_TOKENS = 4
PRIMING_TOKENS = 3
"""Framing of each message, its role included, and of the answer that follows (OpenAI cookbook, "How to count tokens with
tiktoken")."""


def texts(value: Any) -> Iterator[str]:
    """Every text below a JSON value, in no promised order; labels and media left out."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is str:
            yield item
        elif type(item) is list:
            stack.extend(item)
        elif type(item) is dict:
            stack.extend(_parts(item))


def _parts(item: dict[str, Any]) -> list[Any]:
    """The values of an object that may hold text."""
    media = item.get("type") in (
        "base64",
        "input_image",
        "input_file",
    )  # Anthropic's source; Responses keeps data inline
    return [] if media else [value for key, value in item.items() if key not in LABELS and key not in MEDIA]


def definitions(value: Any) -> Iterator[str]:
    """Tool definitions and schemas, each as the JSON text that the model gets to read (about: templates differ)."""
    items = value if type(value) is list else [value]
    for item in items:
        if item is not None:
            yield json_text(item)


def json_text(value: Any) -> str:
    """The value as JSON, or its texts where it is nested too deep to be written."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # nested deeper than orjson writes (254 levels)
        return "\n".join(texts(value))


def token_ids(value: Any) -> int:
    """How many token ids stand in an input that comes tokenised: one array of integers, or an array of such arrays."""
    if type(value) is not list:
        return 0
    return sum(1 if type(item) is int else _integers(item) for item in value)


def _integers(value: Any) -> int:
    return sum(type(item) is int for item in value) if type(value) is list else 0


def together(*sources: Iterable[str]) -> Iterator[str]:
    """The texts of several sources, empty ones left out."""
    for source in sources:
        yield from filter(None, source)
