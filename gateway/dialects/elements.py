"""Bytes of a JSON array in, its elements out as they arrive: the form of Gemini's streams without ``alt=sse``.

Knows brackets and strings, no dialect. Law: how the bytes were cut into pieces changes nothing of what comes out, and what
is kept between pieces is bounded.
"""

from __future__ import annotations

import re
from copy import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ELEMENT_BYTES = 16 << 20
"""A chunk of an answer, with an image in it perhaps."""
_BETWEEN = b", \t\r\n"
_PLAIN = re.compile(rb'["{}\[\]]')
_QUOTED = re.compile(rb'["\\]')


class ElementSplitter:
    """Feed it pieces, get each element (object or array) that is complete. What is no array is one element itself."""

    __slots__ = ("_at", "_depth", "_is_first", "_outer", "_quoted", "_rest", "_start")

    def __init__(self) -> None:
        self._rest = b""
        self._at = self._start = 0
        self._depth = 0
        self._outer = -1
        """The depth at which elements stand; unknown before the first bracket."""
        self._quoted = False
        self._is_first = True

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The elements that this piece completes. OverflowError for one that is too large."""
        self._rest += piece
        while (end := self._end()) >= 0:
            yield self._rest[self._start : end].lstrip(_BETWEEN)
            self._start = end
            self._is_first = False
        self._rest = self._rest[self._start :]
        self._at -= self._start
        self._start = 0
        if len(self._rest) > MAX_ELEMENT_BYTES:
            raise OverflowError("an element larger than is worth keeping")

    def finish(self) -> Iterator[bytes]:
        """An element that lacks its end is none."""
        return iter(())

    @property
    def before(self) -> bytes | None:
        """What has to be written before another element; None in the middle of one, or where there is no array."""
        if self._outer != 1 or self._depth != 1 or self._quoted:
            return None
        rest = self._rest.strip(b" \t\r\n")
        return b"" if rest == b"," else None if rest else b"" if self._is_first else b","

    def end_in(self, piece: bytes) -> int:
        """Where in the next piece the element ends that is being written; -1 if it does not."""
        self._rest += piece
        end = self._end()
        return -1 if end < 0 else end - (len(self._rest) - len(piece))

    def _end(self) -> int:
        """Read on, to the end of an element or of what is there (-1)."""
        rest = self._rest
        while found := (_QUOTED if self._quoted else _PLAIN).search(rest, self._at):
            mark = found[0]
            if mark == b"\\":
                if found.end() == len(rest):
                    break
                self._at = found.end() + 1
                continue
            self._at = found.end()
            if mark == b'"':
                self._quoted = not self._quoted
            elif self._bracket(mark):
                return self._at
        else:
            self._at = len(rest)
        return -1

    def _bracket(self, mark: bytes) -> bool:
        """Whether it closes an element."""
        if mark in b"{[":
            if self._outer < 0:
                self._outer = int(mark == b"[")
                self._start = self._at if self._outer else self._start
            self._depth += 1
            return False
        self._depth -= 1
        return self._depth == self._outer


class AfterElement:
    """Ends an array after the element that is being written, with one more. Satisfies ``wire.LastWords``."""

    __slots__ = ("_element", "_splitter")

    def __init__(self, splitter: ElementSplitter, element: bytes) -> None:
        self._splitter = copy(splitter)
        self._element = element

    def after(self, piece: bytes) -> bytes | None:
        """See ``wire.LastWords``."""
        before = self._splitter.before
        if before is not None:
            return before + b"\n" + self._element + b"\n]"
        end = self._splitter.end_in(piece)
        return None if end < 0 else piece[:end] + b",\n" + self._element + b"\n]"
