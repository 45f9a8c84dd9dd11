"""A plain JSON answer: kept as it comes, and read once, when it is over. The usual one, for which a tap does too much.

Sees references, owns nothing, never holds up a byte and never raises. What is larger than an answer can be is not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.dialects import Reading
from gateway.metering.tap import IMAGE_BYTES, MAX_JSON_BYTES

if TYPE_CHECKING:
    from gateway.dialects import Dialect


class Whole:
    """One answer, to a watch the same as a ``Tap``."""

    __slots__ = ("_dialect", "_limit", "_pieces", "bytes", "reading")

    def __init__(self, dialect: Dialect) -> None:
        self.bytes = 0
        """Seen so far."""
        self.reading = Reading()
        """Empty until the answer is over."""
        self._dialect = dialect
        self._limit = IMAGE_BYTES if dialect.operation == "images" else MAX_JSON_BYTES
        self._pieces: list[bytes] = []

    def feed(self, piece: bytes) -> None:
        """Note one piece."""
        self.bytes += len(piece)
        if self.bytes <= self._limit:
            self._pieces.append(piece)
        else:
            self._pieces = []

    def finish(self) -> Reading:
        """Everything that could be learned. Asking again gives the same. Whatever goes wrong here is the answer's fault."""
        pieces, self._pieces = self._pieces, []
        if pieces:
            try:
                self._dialect.read(b"".join(pieces), self.reading)
            except Exception:
                self.reading = Reading()
        return self.reading
