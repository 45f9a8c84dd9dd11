"""The answer's way out on the front: heads, chunks and endings, written straight to the transport.

Owns the framing towards one client for one request. Knows no upstream. Laws: a byte is written the moment it is given; an
answer that broke off is never made to look whole; nothing is written after the end.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from gateway.call import Fields, Headers
from gateway.wire.headers import HOP_BY_HOP, noted, response_head


class Reply:
    """One answer. ``started`` is True once the final head is out, ``ended`` once nothing may follow."""

    __slots__ = ("_chunked", "_transport", "close", "continued", "ended", "http10", "sent_bytes", "started", "status")

    def __init__(self, transport: asyncio.Transport, *, http10: bool, close: bool) -> None:
        self._transport = transport
        self._chunked = False
        self.http10 = http10
        self.close = close or http10
        self.continued = False
        self.started = False
        self.ended = False
        self.status = 0
        self.sent_bytes = 0

    @property
    def gone(self) -> bool:
        """The client is no longer there."""
        return self._transport.is_closing()

    def interim(self, status: int, reason: bytes, headers: Headers) -> None:
        """A 1xx head (RFC 9110 15.2): never to HTTP/1.0, and 100 only once."""
        if self.http10 or self.started or self.gone or (status == 100 and self.continued):
            return
        self.continued = self.continued or status == 100
        head = response_head(status, reason, headers, noted(headers), chunked=False, close=False)
        self._transport.write(head)

    def start(
        self,
        status: int,
        reason: bytes,
        headers: Headers,
        fields: Fields,
        *,
        extra: Headers,
        sized: bool,
        bodiless: bool = False,
        first: bytes = b"",
    ) -> None:
        """The head, in one write with the first piece of the body. ``sized``: its length is known from the head."""
        self.started = True
        self.status = status
        self._chunked = not (sized or bodiless or self.http10)
        # an answer to HEAD has the fields of the answer to GET, Transfer-Encoding included, and 204 never has it (RFC 9112 6.1)
        coded = self._chunked or (bodiless and not self.http10 and status != 204 and b"transfer-encoding" in fields)
        head = response_head(status, reason, headers, fields, chunked=coded, close=self.close, extra=extra)
        self.sent_bytes += len(first)
        if not self.gone:
            self._transport.write(head + self._framed(first) if first else head)

    def body(self, piece: bytes) -> None:
        """A piece of the body, not empty."""
        self.sent_bytes += len(piece)
        transport = self._transport
        if not transport.is_closing():
            transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)

    def end(self, trailers: Headers = ()) -> None:
        """The body was whole."""
        self.ended = True
        if self._chunked and not self.gone:
            lines = b"".join(b"%b: %b\r\n" % field for field in trailers if field[0].lower() not in HOP_BY_HOP)
            self._transport.write(b"0\r\n" + lines + b"\r\n")

    def whole(self, status: int, reason: bytes, headers: Headers, body: bytes, *, head_only: bool = False) -> None:
        """An answer of the gateway's own, in one write."""
        self.start(status, reason, headers, noted(headers), extra=(), sized=True, first=b"" if head_only else body)
        self.end()

    def switch(self, status: int, reason: bytes, headers: Headers) -> None:
        """101: the head goes out with its ``Upgrade``, and what follows is no longer HTTP."""
        self.started = self.ended = self.close = True
        self.status = status
        if not self.gone:  # uvloop raises where asyncio writes into the void
            head = response_head(status, reason, headers, noted(headers), chunked=False, close=False, upgrade=True)
            self._transport.write(head)

    def break_off(self) -> None:
        """The answer cannot be finished: what was sent stays sent, and the client must see that it is not whole.

        Closing without the last chunk, or short of Content-Length, says so. A body that ends with the connection
        (HTTP/1.0) has no other sign than a reset.
        """
        self.ended = True
        self.close = True
        if self.http10 and not self.gone:
            connection = self._transport.get_extra_info("socket")
            if connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()

    def _framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece
