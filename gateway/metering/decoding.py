"""Content codings undone on a copy, piece by piece, with a bound on what comes out.

Owns gzip, deflate, br and zstd (RFC 9110 8.4.1, RFC 7932, RFC 8878). The bytes that the client gets are never touched.
Law: output is produced in steps of bounded size, so that a small piece cannot become a large memory.
"""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEP_BYTES = 65_536
"""How much is decoded at a time."""
GZIP_BITS = zlib.MAX_WBITS | 16
"""zlib's way to say: with a gzip header."""
ZSTD_WINDOW_LOG = 23
"""8 MiB, the largest window that HTTP allows (RFC 9659)."""


class Undecodable(Exception):  # noqa: N818 - said of bytes, not of us
    """These bytes are not what the header said."""


class Decoder(Protocol):
    """One content coding."""

    def decode(self, piece: bytes) -> Iterator[bytes]:
        """The plain bytes of this piece, at most ``STEP_BYTES`` at a time; Undecodable when they are damaged."""


class _Identity:
    def decode(self, piece: bytes) -> Iterator[bytes]:
        yield piece


PLAIN = _Identity()
"""It keeps nothing, so that one does for all answers."""


class _Zlib:
    """One zlib stream, or several gzip members in a row (RFC 1952 2.2)."""

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._stream = zlib.decompressobj(window_bits)

    def decode(self, piece: bytes) -> Iterator[bytes]:
        plain = b""
        while (piece and not self._ended(piece)) or len(plain) == STEP_BYTES:
            try:
                plain = self._stream.decompress(piece, STEP_BYTES)
            except zlib.error as error:
                raise Undecodable(str(error)) from error
            yield plain
            piece = self._stream.unconsumed_tail or self._stream.unused_data

    def _ended(self, piece: bytes) -> bool:
        """At the end of a member: start the next one if there is one, ignore anything else (as gzip itself does)."""
        if not self._stream.eof:
            return False
        if self._window_bits == GZIP_BITS and piece.startswith(b"\x1f"):
            self._stream = zlib.decompressobj(GZIP_BITS)
            return False
        return True


class _Deflate:
    """With or without the zlib header, because servers disagree (RFC 9110 8.4.1.2); its two bytes tell which."""

    def __init__(self) -> None:
        self._head = b""
        self._stream: _Zlib | None = None

    def decode(self, piece: bytes) -> Iterator[bytes]:
        if self._stream is None:
            piece = self._head = self._head + piece
            if len(piece) < 2:
                return
            with_header = (
                piece[0] & 0x0F == zlib.DEFLATED and int.from_bytes(piece[:2], "big") % 31 == 0
            )  # RFC 1950 2.2
            self._stream = _Zlib(zlib.MAX_WBITS if with_header else -zlib.MAX_WBITS)
            self._head = b""
        yield from self._stream.decode(piece)


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def decode(self, piece: bytes) -> Iterator[bytes]:
        try:
            plain = self._stream.process(piece, output_buffer_limit=STEP_BYTES)
            while plain or not self._stream.can_accept_more_data():  # it may accept more and still hold output back
                yield plain
                plain = self._stream.process(b"", output_buffer_limit=STEP_BYTES)
        except brotli.error as error:
            raise Undecodable("damaged br") from error


class _Zstd:
    def __init__(self) -> None:
        self._stream = self._start()

    @staticmethod
    def _start() -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})

    def decode(self, piece: bytes) -> Iterator[bytes]:
        try:
            while True:
                if self._stream.eof:
                    self._stream = self._start()
                yield self._stream.decompress(piece, STEP_BYTES)
                piece = self._stream.unused_data if self._stream.eof else b""
                if not piece and (self._stream.eof or self._stream.needs_input):
                    return
        except zstd.ZstdError as error:
            raise Undecodable("damaged zstd") from error


_DECODERS: dict[str, Callable[[], Decoder]] = {
    "": _Identity,
    "identity": _Identity,
    "gzip": lambda: _Zlib(GZIP_BITS),
    "x-gzip": lambda: _Zlib(GZIP_BITS),
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}


def decoder_for(encoding: str) -> Decoder | None:
    """The decoder of a ``content-encoding`` value; None for one that is unknown, or for several at once."""
    if not encoding:
        return PLAIN
    make = _DECODERS.get(encoding.strip().lower())
    return make() if make else None


def is_plain(encoding: str) -> bool:
    """Whether the bytes are what they are: then nothing can come out larger than it went in."""
    return not encoding or _DECODERS.get(encoding.strip().lower()) is _Identity
