"""Asking for the usage of a stream whose caller did not, and giving the caller the stream that it would have had.

Opt-in (``metering.stream_usage: ask``), because it touches bytes. The request gains ``stream_options``; of the answer the last
chunk (usage without choices) and the ``"usage":null`` of the others are taken out, everything else stays byte for byte.
Source: platform.openai.com/docs/api-reference/chat/create, "stream_options.include_usage".
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import orjson

from gateway.dialects.values import parse_request
from gateway.value import value

if TYPE_CHECKING:
    from gateway.call import Ask

OPERATIONS = frozenset(("chat", "text_completion"))
WISH = b'"stream_options":{"include_usage":true},'
MAX_EVENT_BYTES = 1 << 20
"""An event larger than this is passed on as it is, and so is everything after it: it holds no usage chunk."""
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_NULL_USAGE = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,\s*')


def with_usage(ask: Ask, body: bytes) -> bytes | None:
    """The body that asks for usage; None where that is not ours to do: no such stream, or the caller speaks of it itself."""
    if ask.operation not in OPERATIONS or not ask.stream or ask.fault:
        return None
    if "stream_options" in parse_request(body)[0]:
        return None
    at = body.index(b"{") + 1
    return body[:at] + WISH + body[at:]


@value
class Wishes:
    """For which calls usage is asked: for all or none, but for those that ``others`` names (``upstream:``, ``team:``,
    ``model:PATTERN``).
    """

    by_default: bool
    others: tuple[str, ...] = ()

    def ask(self, upstream: str, team: str, model: str) -> bool:
        """Whether it is asked for in this call."""
        if not self.others:
            return self.by_default
        return self.by_default is not any(self._speaks_of(each, upstream, team, model) for each in self.others)

    @staticmethod
    def _speaks_of(other: str, upstream: str, team: str, model: str) -> bool:
        of, _, name = other.partition(":")
        if of == "model":
            return fnmatchcase(model, name)
        return name == (upstream if of == "upstream" else team)


class Unasked:
    """Takes out of an event stream what the caller did not ask for. Satisfies ``wire.Rewriter``."""

    __slots__ = ("_held", "_off")

    def __init__(self) -> None:
        self._held = b""
        self._off = False

    def feed(self, piece: bytes) -> bytes:
        """What of it is to be written now: whole events. Only an event that was cut in two waits for its rest."""
        if self._off:
            return piece
        held = self._held + piece
        end = 0
        for match in _BLANK_LINE.finditer(held, max(0, len(self._held) - 3)):
            end = match.end()
        whole, self._held = held[:end], held[end:]
        if len(self._held) > MAX_EVENT_BYTES:
            whole, self._held, self._off = whole + self._held, b"", True
        return whole if b'"usage"' not in whole else self._without(whole)

    def end(self) -> bytes:
        """What is left when the stream is over, or breaks off."""
        held, self._held = self._held, b""
        return self._event(held) if b'"usage"' in held else held

    def _without(self, events: bytes) -> bytes:
        kept: list[bytes] = []
        start = 0
        for match in _BLANK_LINE.finditer(events):
            event = self._event(events[start : match.start()])
            if event or match.start() == start:
                kept += (event, match[0])
            start = match.end()
        return b"".join([*kept, events[start:]])

    def _event(self, event: bytes) -> bytes:
        """The event without its usage; nothing where usage is all that it holds."""
        if b'"usage"' not in event or not event.lstrip(b"\r\n").startswith(b"data:"):
            return event
        try:
            root: Any = orjson.loads(event.lstrip(b"\r\n")[5:])
        except ValueError:
            return event
        if type(root) is not dict or "usage" not in root:
            return event
        if type(root["usage"]) is dict and root.get("choices") == []:
            return b""
        return _NULL_USAGE.sub(b"", event, count=1) if root["usage"] is None else event
