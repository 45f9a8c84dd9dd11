"""Bytes of an event stream in, the data of its events out (WHATWG HTML, "Server-sent events", 9.2.6); JSON lines likewise.

Knows lines and fields, no JSON and no dialect. Law: how the bytes were cut into pieces changes nothing of what comes out,
and what is kept between pieces is bounded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.dialects.repeated import Form

MAX_EVENT_BYTES = 1 << 20
"""An event larger than this is skipped: it holds an image, or is an attack on memory."""
BOM = b"\xef\xbb\xbf"
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")


class EventSplitter:
    """Feed it pieces, get the data of each event that is complete; ``finish`` gives one that lacks its blank line."""

    __slots__ = ("_carry", "_first", "_limit", "_rest", "_skipping")

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._rest = b""
        self._carry = b""
        """A CR at the end of a piece: alone it ends a line, before LF it does so together with it."""
        self._skipping = False
        self._first = True

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of each event that this piece completes. The iterator must be used up."""
        if self._carry or b"\r" in piece:
            piece = self._unify(piece)
        events = (self._rest + piece).split(b"\n\n")
        self._rest = events.pop()
        if events:
            yield from self._complete(events)
        if len(self._rest) > self._limit + 1:  # + 1: a line end that may be half of the blank line to come
            self._skipping = True
            self._rest = self._rest[-1:]

    @property
    def tail(self) -> bytes:
        """The end of an event that is not whole; empty between two events."""
        return self._rest[-1:] + self._carry

    def run(self, piece: bytes, form: Form) -> str | None:
        """The texts of the events of that form with which this piece goes on; what follows them waits to be fed. None, and nothing
        done, where there are none.
        """
        if self._carry or self._skipping or b"\r" in piece:
            return None
        whole = self._rest + piece
        found = form.read(whole[: whole.rfind(b"\n\n") + 2])
        if found is None:
            return None
        text, end = found
        self._rest = whole[end:]
        return text

    def finish(self) -> Iterator[bytes]:
        """What is left at the end of the stream, as one last event."""
        yield from self.feed(b"\n\n")

    def _unify(self, piece: bytes) -> bytes:
        """Every line end as LF."""
        piece = self._carry + piece
        self._carry = b""
        if piece.endswith(b"\r"):
            self._carry, piece = b"\r", piece[:-1]
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _complete(self, events: list[bytes]) -> Iterator[bytes]:
        if self._skipping:
            self._skipping = self._first = False
            del events[0]
        for event in events:
            if event.startswith(b"data: ") and b"\n" not in event and len(event) <= self._limit:
                yield event[6:]
            elif len(event) <= self._limit:
                yield from self._parse(event.removeprefix(BOM) if self._first else event)
            self._first = False

    @staticmethod
    def _parse(event: bytes) -> Iterator[bytes]:
        """An event of several lines: its data lines joined, everything else ignored."""
        found = [line for line in event.split(b"\n") if line.startswith(b"data:") or line == b"data"]
        if found:
            yield b"\n".join(line[5:].removeprefix(b" ") for line in found)


class AfterEvent:
    """Ends a stream after the event that is being written, with one more. Satisfies ``wire.LastWords``."""

    __slots__ = ("_event", "_tail")

    def __init__(self, tail: bytes, event: bytes) -> None:
        """``tail`` is how the event that is not whole ends so far (``EventSplitter.tail``)."""
        self._tail = tail
        self._event = event

    def after(self, piece: bytes) -> bytes | None:
        """See ``wire.LastWords``."""
        if not self._tail:
            return self._event
        whole = self._tail + piece
        found = _BLANK_LINE.search(whole)
        if found is None:
            self._tail = whole[-3:]
            return None
        return piece[: max(0, found.end() - len(self._tail))] + self._event


class LineSplitter:
    """The same for JSON lines: each line that is not empty; one that is larger than the limit is skipped."""

    __slots__ = ("_limit", "_rest", "_skipping")

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._rest = b""
        self._skipping = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The lines that this piece completes."""
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if not self._skipping and line.strip() and len(line) <= self._limit:
                yield line
            self._skipping = False
        if len(self._rest) > self._limit:
            self._skipping, self._rest = True, b""

    def finish(self) -> Iterator[bytes]:
        """The last line, which may lack its end."""
        yield from self.feed(b"\n")
