"""WebSocket frames in, messages out: a reader beside the connection (RFC 6455 5.2, permessage-deflate RFC 7692).

It sees the server's side of a conversation and takes no part in it: control frames are stepped over, faults are the two
ends' own business. Law: what is kept is bounded; a message too large to be kept is skipped.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MESSAGE_BYTES = 4 << 20
MAX_INFLATED_BYTES = 16 << 20
FIN, COMPRESSED, MASKED = 0x80, 0x40, 0x80
CONTROL = 8
"""From this opcode on a frame is no part of a message."""
TAIL = b"\x00\x00\xff\xff"
"""What a sender takes off the end of each compressed message (RFC 7692 7.2.1)."""


class FrameReader:
    """Feed it pieces, get each message that is complete. ``extensions``: the field of that name in the 101."""

    __slots__ = ("_compressed", "_inflater", "_keeps_context", "_message", "_rest", "_size", "_skip", "_too_large")

    def __init__(self, extensions: str = "") -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if "permessage-deflate" in extensions else None
        self._keeps_context = "server_no_context_takeover" not in extensions
        self._rest = bytearray()
        self._skip = 0
        self._message: list[bytes] = []
        self._size = 0
        self._compressed = False
        self._too_large = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The messages that this piece completes. ValueError or zlib.error for what is no conversation."""
        if self._skip:
            skipped = min(self._skip, len(piece))
            self._skip -= skipped
            piece = piece[skipped:]
        rest = self._rest
        rest += piece
        at = 0
        while (frame := _head(rest, at)) is not None:
            first, start, length = frame
            if self._is_kept(first, length):
                if len(rest) < start + length:
                    break
                yield from self._take(first, _payload(rest, start, length))
            else:
                self._leave_out(first)
                if len(rest) < start + length:
                    self._skip = start + length - len(rest)
                    at = len(rest)
                    break
            at = start + length
        del rest[:at]

    def finish(self) -> Iterator[bytes]:
        """A message that lacks its end is none."""
        return iter(())

    @property
    def is_between(self) -> bool:
        """Whether no frame is half written."""
        return not self._rest and not self._skip

    def _is_kept(self, first: int, length: int) -> bool:
        """Whether it is part of a message that is read. Asked again while the frame is not whole; changes nothing."""
        if first & 0x0F >= CONTROL:
            return False
        goes_on = not first & 0x0F
        before = self._size if goes_on else 0
        return before + length <= MAX_MESSAGE_BYTES and not (goes_on and self._too_large)

    def _begin(self, first: int) -> None:
        """A frame with a kind of its own begins a message."""
        if first & 0x0F:
            self._message, self._size, self._too_large = [], 0, False
            self._compressed = bool(first & COMPRESSED)

    def _leave_out(self, first: int) -> None:
        """A control frame stands between the frames of a message; any other makes its message one that is not read."""
        if first & 0x0F >= CONTROL:
            return
        self._begin(first)
        self._message, self._too_large = [], True
        if self._compressed and self._keeps_context:
            raise ValueError("a message too large, on whose contents later ones depend")

    def _take(self, first: int, payload: bytes) -> Iterator[bytes]:
        self._begin(first)
        self._size += len(payload)
        self._message.append(payload)
        if not first & FIN:
            return
        message, self._message = b"".join(self._message), []
        if self._compressed:
            message = self._inflate(message)
        yield message

    def _inflate(self, message: bytes) -> bytes:
        if self._inflater is None:
            raise ValueError("compressed, and nobody had agreed to that")
        plain = self._inflater.decompress(message + TAIL, MAX_INFLATED_BYTES)
        if self._inflater.unconsumed_tail:
            raise ValueError("more than is worth reading")
        if not self._keeps_context:
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        return plain


def _head(data: bytearray, at: int) -> tuple[int, int, int] | None:
    """(first byte, where mask and payload start, their length) of the frame at ``at``; None when its head is not whole."""
    if len(data) < at + 2:
        return None
    length = data[at + 1] & 0x7F
    masked = 4 if data[at + 1] & MASKED else 0
    wide = {126: 2, 127: 8}.get(length, 0)
    if len(data) < at + 2 + wide:
        return None
    if wide:
        length = int.from_bytes(data[at + 2 : at + 2 + wide], "big")
    return data[at], at + 2 + wide, length + masked


def _payload(data: bytearray, start: int, length: int) -> bytes:
    """Servers do not mask (RFC 6455 5.1), and where one does nobody could read it but by undoing that."""
    return bytes(data[start : start + length])
