"""A body that the gateway ends: it goes on to the next place where it may end, and there the last words are said.

Stands where a rewriter stands, so that a relay needs to ask nothing more of a chunk. Knows no form of a body: the words do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.wire import LastWords, Rewriter


class Farewell:
    """Satisfies ``Rewriter``. ``before`` is the one that stood here; ``said`` is called when the last words were given out."""

    __slots__ = ("_before", "_last", "_said", "over")

    def __init__(self, before: Rewriter | None, last: LastWords, said: Callable[[], None]) -> None:
        self._before = before
        self._last = last
        self._said = said
        self.over = False

    def feed(self, piece: bytes) -> bytes:
        """See ``Rewriter``."""
        if self.over:
            return b""
        shown = piece if self._before is None else self._before.feed(piece)
        words = self._last.after(shown)
        if words is None:
            return shown
        self.over = True
        self._said()
        return words

    def end(self) -> bytes:
        """Nothing follows the last words; a body that came to its own end first has its own."""
        return b"" if self.over or self._before is None else self._before.end()
