"""An ``Arrival``: one request on the front, with its head, the means to read its body, and the way for an answer.

Knows the connection that it came on and, once there is one, the relay that answers. Law: a body is read only as fast as
somebody takes it, and never beyond its limit.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion11, web

from gateway.call import Fields, Headers
from gateway.errors import Failure, Kind, Whose
from gateway.wire.headers import names_token, noted, value_of
from gateway.wire.reply import Reply

if TYPE_CHECKING:
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from gateway.wire.accepted import FrontConnection
    from gateway.wire.relay import Relay


class _Stalled(web.RequestPayloadError):
    """A body of which no more came in time: broken, for whoever reads it."""


class Arrival:
    """One request on the front: its head, the means to read its body, and the way for an answer."""

    __slots__ = (
        "_content",
        "_drain_s",
        "_leaving",
        "_max_body_bytes",
        "chunked",
        "connection",
        "declared_bytes",
        "due_ns",
        "fields",
        "gone",
        "has_body",
        "headers",
        "method",
        "relay",
        "reply",
        "target",
        "upgrade",
    )

    def __init__(
        self,
        message: RawRequestMessage,
        content: StreamReader,
        connection: FrontConnection,
        transport: asyncio.Transport,
        *,
        max_body_bytes: int,
    ) -> None:
        """``message`` is the head as aiohttp's parser has read it, ``content`` its body."""
        self.method: str = message.method
        self.target: str = message.path
        self.headers: Headers = message.raw_headers
        self.fields: Fields = noted(message.raw_headers)
        self.chunked: bool = bool(message.chunked)
        self.upgrade: bool = bool(message.upgrade) and names_token(self.fields, b"upgrade", b"websocket")
        self._content = content
        self.connection = connection
        """An upgrade takes it over."""
        self._max_body_bytes = max_body_bytes
        self._drain_s = 0.0
        self.due_ns: int
        """When the piece of the body must be there that is waited for."""
        self._leaving: Callable[[], Any] | None = None
        declared = value_of(self.fields, b"content-length")
        self.declared_bytes = int(declared) if declared is not None and not self.chunked else -1
        self.has_body = self.chunked or self.declared_bytes > 0
        self.gone = False
        self.relay: Relay | None = None
        # aiohttp's parser loses what follows a wish for another protocol than WebSocket: nothing may follow it
        close = bool(message.should_close or (message.upgrade and not self.upgrade))
        self.reply = Reply(transport, http10=message.version < HttpVersion11, close=close)

    @property
    def address(self) -> str:
        """Of the other end of the connection; "" when it is not known (any more)."""
        transport = self.connection.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        return str(peer[0]) if isinstance(peer, tuple) else ""

    def drain_when_left(self, seconds: float) -> None:
        """If the client leaves, read the answer to its end all the same, for so long at most (0 = do not)."""
        self._drain_s = seconds

    def attach(self, relay: Relay | None) -> None:
        """The relay that answers, or None when it is done. It hears of the client from now on."""
        self.relay = relay
        if relay is None:
            return
        if self.gone:
            relay.front_lost(drain_s=self._drain_s)
        elif self.connection.writing_paused:
            relay.front_paused()

    def _cancel(self, exc: BaseException) -> None:
        """aiohttp: the connection is lost."""
        self._content.set_exception(exc)

    def on_leaving(self, call: Callable[[], Any] | None) -> None:
        """What to do if the client leaves before there is a relay."""
        self._leaving = call
        if call is not None and self.gone:
            call()

    def left(self) -> None:
        """The client closed its connection."""
        self.gone = True
        if self._leaving is not None:
            self._leaving()
        if self.relay is not None:
            self.relay.front_lost(drain_s=self._drain_s)

    def is_reset(self) -> bool:
        """Whether the client's side of the connection is dead, asked of the kernel: for when nothing is read from it."""
        transport = self.connection.transport
        connection = transport.get_extra_info("socket") if transport is not None else None
        if connection is None or connection.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(connection.fileno(), 0)  # errors and hang-ups are told unasked
        return bool(poll.poll(0))

    @property
    def is_here(self) -> bool:
        """The whole body has arrived already, as small ones do: it can leave in one write, and a second time if need be."""
        return self.has_body and self._content.is_eof()

    async def body(self) -> bytes:
        """The whole body; Failure when it is too large, broken, or the client left."""
        if not self.has_body:
            return b""
        content = self._content
        if content.is_eof() and 0 < self.declared_bytes <= self._max_body_bytes and content.exception() is None:
            return content.read_nowait()
        pieces = [piece async for piece in self.pieces()]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives; reading stops when the consumer does (back-pressure)."""
        if self.declared_bytes > self._max_body_bytes:
            raise self._too_large()
        self._continue()
        total = 0
        while True:
            patience_s = self.connection.awaits(self)
            try:
                piece = await self._content.readany()
            except _Stalled:
                raise self._too_slow(patience_s) from None
            except (web.RequestPayloadError, ConnectionError, asyncio.IncompleteReadError):
                self.reply.close = True
                raise Failure(
                    Kind.MALFORMED_REQUEST, Whose.FRONT, "The request body is broken or incomplete."
                ) from None
            finally:
                self.connection.awaited(self)
            if not piece:
                return
            total += len(piece)
            if total > self._max_body_bytes:
                raise self._too_large()
            yield piece

    def look(self, now_ns: int) -> int:
        """See ``deadlines.Timed``. Only asked while a piece is waited for: an upstream that holds an upload up is not the client's fault."""
        if now_ns < self.due_ns:
            return self.due_ns
        self._content.set_exception(_Stalled())
        return 0

    def _continue(self) -> None:
        """RFC 9110 10.1.1: whoever reads the body answers the expectation."""
        if names_token(self.fields, b"expect", b"100-continue"):
            self.reply.interim(100, b"Continue", ())

    def _too_slow(self, patience_s: float) -> Failure:
        self.reply.close = True
        self._content.set_exception(None)  # type: ignore[arg-type]  # what still comes can be read, and left aside
        return Failure(
            Kind.BODY_TIMEOUT,
            Whose.FRONT,
            f"No more of the request body came for {patience_s:g} s, the limit of this gateway.",
        )

    def _too_large(self) -> Failure:
        self.reply.close = True  # what is left of the body would be read as the next request
        limit_mb = self._max_body_bytes // (1024 * 1024)
        return Failure(
            Kind.BODY_TOO_LARGE,
            Whose.FRONT,
            f"The request body is larger than {limit_mb} MB, the limit of this gateway.",
        )
