"""The front: connections of apps become ``Arrival``s, one a request, and each is handed to the callable it was given.

aiohttp's server stands where the hostile bytes arrive: its parser, limits and keep-alive are used as they are. Its response
objects are not: an answer is written straight to the transport by ``Reply``, and aiohttp is told afterwards whether the
connection lives on. Knows HTTP; does not know what a call is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from gateway.call import Headers
from gateway.errors import Failure, Kind, Whose
from gateway.wire.headers import first, has_token
from gateway.wire.reply import Reply

if TYPE_CHECKING:
    from gateway.wire.relay import Relay

log = logging.getLogger("gateway.front")

Complain = Callable[[Failure], tuple[int, Headers, bytes]]
"""A failure before any dialect is known, as (status, header fields, body)."""


class Joined(Protocol):
    """The other side of an upgraded connection."""

    def from_front(self, data: bytes) -> None:
        """Bytes of the client's frames."""

    def front_paused(self) -> None:
        """The client does not keep up."""

    def front_resumed(self) -> None:
        """It has room again."""

    def cut(self, failure: Failure) -> None:
        """The gateway ends it."""


class _ToJoined:
    """What aiohttp calls a payload parser: it is fed everything that follows the handshake."""

    def __init__(self, other: Joined) -> None:
        self._other = other

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._other.from_front(data)
        return False, b""

    def feed_eof(self) -> None:
        """The connection's own ``connection_lost`` says it to whom it concerns."""


class _Written(web.StreamResponse):
    """Tells aiohttp that the answer is already out, and whether the connection may serve another request."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive_after = keep_alive

    @property
    def keep_alive(self) -> bool:
        return self._keep_alive_after

    async def prepare(self, request: web.BaseRequest) -> None:
        """The head is out."""

    async def write_eof(self, data: Any = b"") -> None:
        """The body is out."""


class FrontConnection(RequestHandler):
    """aiohttp's connection, with the news that a relay needs: the client left, is slow, has room again."""

    __slots__ = ("_front", "_joined", "arrival")

    def __init__(self, manager: web.Server, *, front: Front, **limits: Any) -> None:
        super().__init__(manager, **limits)
        self._front = front
        self._joined: Joined | None = None
        self.arrival: Arrival | None = None

    def join(self, other: Joined | None) -> None:
        """An upgraded connection: from here on what the client sends goes there, beginning with what is already here."""
        self._joined = other
        if other is not None:
            self.set_parser(_ToJoined(other))  # type: ignore[arg-type]  # aiohttp types it as its own reader

    def cut(self, failure: Failure) -> None:
        """End what is going on here, as far as it has come to a relay."""
        if self._joined is not None:
            self._joined.cut(failure)
        elif self.arrival is not None and self.arrival.relay is not None:
            self.arrival.relay.lost(failure)

    def close_if_idle(self) -> None:
        """Close a connection on which nothing is being asked. aiohttp's ``close`` alone would only turn it deaf."""
        waiting = self._waiter
        if (waiting is not None and not waiting.done()) or not self._request_count:
            self.close()
            if self.transport is not None:
                self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        arrival = self.arrival
        super().connection_lost(exc)
        if arrival is not None:
            arrival.left()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._joined is not None:
            self._joined.front_paused()
        elif self.arrival is not None and self.arrival.relay is not None:
            self.arrival.relay.front_paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._joined is not None:
            self._joined.front_resumed()
        elif self.arrival is not None and self.arrival.relay is not None:
            self.arrival.relay.front_resumed()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp could not parse, or a bug of ours. The input is never quoted."""
        if status >= 500:
            log.error("a bug while answering a request", exc_info=exc)
        arrival = self.arrival
        if self.transport is None:
            return _Written(keep_alive=False)
        reply = arrival.reply if arrival is not None else Reply(self.transport, http10=False, close=True)
        if reply.started:
            if not reply.ended:
                reply.break_off()
        else:
            reply.close = True
            self._front.complain_to(reply, _parse_failure(status, exc))
        return _Written(keep_alive=False)


def _parse_failure(status: int, exc: BaseException | None) -> Failure:
    if status >= 500:
        return Failure(Kind.INTERNAL, Whose.OURS, "The gateway failed while handling this request.")
    if isinstance(exc, LineTooLong) or "Too many" in str(exc):
        return Failure(
            Kind.HEADER_TOO_LARGE,
            Whose.FRONT,
            "The request line or the header fields are larger than the gateway accepts.",
        )
    return Failure(Kind.MALFORMED_REQUEST, Whose.FRONT, "The request is no valid HTTP/1.1 message.")


class Arrival:
    """One request on the front: its head, the means to read its body, and the way for an answer."""

    __slots__ = (
        "_connection",
        "_content",
        "_drain_s",
        "_leaving",
        "_max_body_bytes",
        "chunked",
        "declared_bytes",
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
        request: web.BaseRequest,
        connection: FrontConnection,
        transport: asyncio.Transport,
        *,
        max_body_bytes: int,
    ) -> None:
        message = request._message  # noqa: SLF001 - the parsed head; the public views of it decode and copy
        self.method: str = message.method
        self.target: str = message.path
        self.headers: Headers = message.raw_headers
        self.chunked: bool = bool(message.chunked)
        self.upgrade: bool = bool(message.upgrade) and has_token(self.headers, b"upgrade", b"websocket")
        self._content = request.content
        self._connection = connection
        self._max_body_bytes = max_body_bytes
        self._drain_s = 0.0
        self._leaving: Callable[[], Any] | None = None
        declared = first(self.headers, b"content-length")
        self.declared_bytes = int(declared) if declared is not None and not self.chunked else -1
        self.has_body = self.chunked or self.declared_bytes > 0
        self.gone = False
        self.relay: Relay | None = None
        self.reply = Reply(transport, http10=message.version < (1, 1), close=bool(message.should_close))

    @property
    def connection(self) -> FrontConnection:
        """For an upgrade, which takes it over."""
        return self._connection

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
        elif self._connection.writing_paused:
            relay.front_paused()

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
        transport = self._connection.transport
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
        pieces = [piece async for piece in self.pieces()]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives; reading stops when the consumer does (back-pressure)."""
        if self.declared_bytes > self._max_body_bytes:
            raise self._too_large()
        self._continue()
        total = 0
        while True:
            try:
                piece = await self._content.readany()
            except (web.RequestPayloadError, ConnectionError, asyncio.IncompleteReadError):
                self.reply.close = True
                raise Failure(
                    Kind.MALFORMED_REQUEST, Whose.FRONT, "The request body is broken or incomplete."
                ) from None
            if not piece:
                return
            total += len(piece)
            if total > self._max_body_bytes:
                raise self._too_large()
            yield piece

    def _continue(self) -> None:
        """RFC 9110 10.1.1: whoever reads the body answers the expectation."""
        if has_token(self.headers, b"expect", b"100-continue"):
            self.reply.interim(100, b"Continue", ())

    def _too_large(self) -> Failure:
        self.reply.close = True  # what is left of the body would be read as the next request
        limit_mb = self._max_body_bytes // (1024 * 1024)
        return Failure(
            Kind.BODY_TOO_LARGE,
            Whose.FRONT,
            f"The request body is larger than {limit_mb} MB, the limit of this gateway.",
        )


class Front:
    """The listener. ``handle`` is called with each arrival and must have answered it when it returns."""

    def __init__(
        self,
        handle: Callable[[Arrival], Awaitable[None]],
        complain: Complain,
        *,
        max_body_bytes: int,
        max_header_bytes: int,
        max_headers: int,
        keepalive_s: float,
    ) -> None:
        self._handle = handle
        self._complain = complain
        self.max_body_bytes = max_body_bytes
        self._limits = {
            "max_line_size": max_header_bytes,
            "max_field_size": max_header_bytes,
            "max_headers": max_headers,
            "keepalive_timeout": keepalive_s,
            "auto_decompress": False,
            "access_log": None,
            "lingering_time": 2.0,
        }
        self._server: _Server | None = None
        self._listener: asyncio.Server | None = None
        self._arrivals: set[Arrival] = set()
        self._quiet = asyncio.Event()
        self.draining = False

    @property
    def port(self) -> int:
        """The port listened on."""
        assert self._listener is not None  # noqa: S101 - asked before listen()
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def active(self) -> int:
        """Requests being answered."""
        return len(self._arrivals)

    async def listen(self, host: str, port: int) -> None:
        """Begin to accept. OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = _Server(self, self._serve, **self._limits)
        self._listener = await loop.create_server(self._server, host, port, backlog=2048)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        transport = request.transport
        assert isinstance(connection, FrontConnection)  # noqa: S101 - for the type checker
        if transport is None:
            return _Written(keep_alive=False)
        arrival = Arrival(request, connection, transport, max_body_bytes=self.max_body_bytes)
        connection.arrival = arrival
        if self.draining:
            arrival.reply.close = True
        self._arrivals.add(arrival)
        try:
            await self._handle(arrival)
        finally:
            self._arrivals.discard(arrival)
            if self.draining and not self._arrivals:
                self._quiet.set()
        if not arrival.reply.ended:
            raise RuntimeError("a request was left without an answer")
        connection.arrival = None
        return _CLOSE if arrival.reply.close or self.draining else _KEEP

    def complain_to(self, reply: Reply, failure: Failure) -> None:
        """Answer a failure that no dialect could."""
        status, headers, body = self._complain(failure)
        reply.whole(status, b"Bad Request" if status < 500 else b"Internal Server Error", headers, body)

    async def stop(self, grace_s: float) -> int:
        """Accept nothing more, let running requests finish, then break off what is left; returns how many that were."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        self._close_idle()
        if self._arrivals and not self._quiet.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), grace_s)
        late = list(self._arrivals)
        for arrival in late:
            arrival.reply.close = True
            arrival.connection.cut(Failure(Kind.SHUTTING_DOWN, Whose.OURS, "The gateway is shutting down."))
        if self._server is not None:
            await self._server.shutdown(timeout=1.0)
        return len(late)

    def hurry(self) -> None:
        """Wait no longer for running requests."""
        self._quiet.set()

    def _close_idle(self) -> None:
        for connection in self._server.connections if self._server is not None else []:
            if isinstance(connection, FrontConnection):
                connection.close_if_idle()


class _Server(web.Server):
    """aiohttp's factory of connections, making ours."""

    def __init__(
        self, front: Front, serve: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **limits: Any
    ) -> None:
        super().__init__(serve)
        self._front = front
        self._limits = limits

    def __call__(self) -> RequestHandler:
        return FrontConnection(self, front=self._front, loop=self._loop, **self._limits)


_KEEP = _Written(keep_alive=True)
_CLOSE = _Written(keep_alive=False)
