"""The front: connections of apps become ``Arrival``s, one a request, and each is handed to the callable it was given.

aiohttp's server stands where the hostile bytes arrive: its parser, limits and keep-alive are used as they are. Its response
objects are not: an answer is written straight to the transport by ``Reply``, and aiohttp is told afterwards whether the
connection lives on. Knows HTTP; does not know what a call is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from gateway.call import Headers
from gateway.errors import Failure, Kind, Whose
from gateway.wire.arrival import Arrival
from gateway.wire.reply import Reply

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

    from gateway.wire import LastWords

log = logging.getLogger("gateway.front")

BACKLOG = 2048
LOOKS = 20
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

    def cut(self, failure: Failure, last: LastWords | None = None) -> None:
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

    async def start(self) -> None:
        """Aiohttp's loop over the requests of a connection, without what answers need that it writes itself: a task, a request, a
        writer and a response for each (14 us a call, measured). What is out of the ordinary, a request that could not be parsed or
        an upgrade, is left to the original, which then has the connection for the rest of its life.
        """
        while not self._force_close:
            if not self._messages:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, payload = self._messages[0]
            if self._upgraded or type(message) is not RawRequestMessage or message.upgrade:
                await super().start()
                return
            self._messages.popleft()
            self._parser.message_consumed()  # type: ignore[union-attr]  # None when the connection is lost, which ends this loop
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            if self.transport is None or not await self._answer(message, payload, self.transport):
                break
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _answer(self, message: RawRequestMessage, payload: StreamReader, transport: asyncio.Transport) -> bool:
        """One request. Whether the connection is good for another one."""
        arrival = Arrival(message, payload, self, transport, max_body_bytes=self._front.max_body_bytes)
        self._current_request = arrival  # type: ignore[assignment]  # aiohttp asks only that it can be cancelled
        self._request_in_progress = True
        try:
            self._keepalive = await self._front.serve(arrival)
        except asyncio.CancelledError:
            self.force_close()
            raise
        except Exception as error:
            self._keepalive = False
            self._complain(500, error)
        finally:
            self._current_request = None
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        if not payload.is_eof() and not self._force_close:
            await self._linger(payload)
        if not self._keepalive or self._close or self._force_close:
            return False
        self._next_keepalive_close_time = closes_at = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(closes_at, self._process_keepalive)
        return True

    async def _linger(self, payload: StreamReader) -> None:
        """Read what is left of a body that nobody wants, for a while: a client that still sends would not see its answer."""
        try:
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof():
                    await payload.readany()
        except (TimeoutError, web.RequestPayloadError, ConnectionError):
            self.close()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Each body that is read asks for it, most of them for nothing (7 us a call, measured)."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def join(self, other: Joined | None) -> None:
        """An upgraded connection: from here on what the client sends goes there, beginning with what is already here."""
        self._joined = other
        if other is not None:
            self.set_parser(_ToJoined(other))  # type: ignore[arg-type]  # aiohttp types it as its own reader

    def cut(self, failure: Failure, last: LastWords | None = None) -> None:
        """End what is going on here, as far as it has come to a relay."""
        if self._joined is not None:
            self._joined.cut(failure, last)
        elif self.arrival is not None and self.arrival.relay is not None:
            self.arrival.relay.cut(failure, last)

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
        """What aiohttp could not parse, or a bug of ours."""
        self._complain(status, exc)
        return _Written(keep_alive=False)

    def _complain(self, status: int, exc: BaseException | None) -> None:
        """Answer with it, as far as nothing was answered yet. The input is never quoted."""
        if status >= 500:
            log.error("a bug while answering a request", exc_info=exc)
        arrival = self.arrival
        if self.transport is None:
            return
        reply = arrival.reply if arrival is not None else Reply(self.transport, http10=False, close=True)
        if reply.started:
            if not reply.ended:
                reply.break_off()
        else:
            reply.close = True
            self._front.complain_to(reply, _parse_failure(status, exc))


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
        self._listeners: list[asyncio.Server] = []
        self._arrivals: set[Arrival] = set()
        self._quiet = asyncio.Event()
        self.draining = False
        self._is_lingering = self._is_hurried = False
        self._ended_at = 0.0

    @property
    def port(self) -> int:
        """The port listened on."""
        port: int = self._listeners[0].sockets[0].getsockname()[1]
        return port

    @property
    def active(self) -> int:
        """Requests being answered."""
        return len(self._arrivals)

    async def listen(self, host: str, port: int, sockets: Sequence[socket.socket] = ()) -> None:
        """Begin to accept, on ``sockets`` where somebody has opened them already. OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = _Server(self, self._serve, **self._limits)
        for each in sockets:
            self._listeners.append(await loop.create_server(self._server, sock=each, backlog=BACKLOG))
        if not sockets:
            self._listeners.append(await loop.create_server(self._server, host, port, backlog=BACKLOG))

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """What aiohttp's own loop calls."""
        connection, transport = request.protocol, request.transport
        assert isinstance(connection, FrontConnection)  # noqa: S101 - for the type checker
        if transport is None:
            return _Written(keep_alive=False)
        message = request._message  # noqa: SLF001 - the parsed head; the public views of it decode and copy
        arrival = Arrival(message, request.content, connection, transport, max_body_bytes=self.max_body_bytes)
        return _KEEP if await self.serve(arrival) else _CLOSE

    async def serve(self, arrival: Arrival) -> bool:
        """Have a request answered. Whether its connection is good for another one."""
        connection = arrival.connection
        connection.arrival = arrival
        if self.draining:
            arrival.reply.close = True
        self._arrivals.add(arrival)
        try:
            await self._handle(arrival)
        finally:
            self._arrivals.discard(arrival)
            self._ended_at = asyncio.get_running_loop().time() if self._is_lingering else 0.0
            if self.draining and not self._arrivals:
                self._quiet.set()
        if not arrival.reply.ended:
            raise RuntimeError("a request was left without an answer")
        connection.arrival = None
        return not (arrival.reply.close or (self.draining and not self._is_lingering))

    def complain_to(self, reply: Reply, failure: Failure) -> None:
        """Answer a failure that no dialect could."""
        status, headers, body = self._complain(failure)
        reply.whole(status, b"Bad Request" if status < 500 else b"Internal Server Error", headers, body)

    async def stop(self, grace_s: float, linger_s: float = 0.0) -> int:
        """Accept nothing more, let running requests finish, then break off what is left; returns how many that were. Connections are
        kept until nothing was asked on any for ``linger_s``: who asks is answered, and told to go elsewhere.
        """
        self.draining = True
        for listener in self._listeners:
            listener.close()
        until = asyncio.get_running_loop().time() + grace_s
        if linger_s:
            await self._say_farewell(until, linger_s)
        self._close_idle()
        if self._arrivals and not self._quiet.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), until - asyncio.get_running_loop().time())
        late = list(self._arrivals)
        for arrival in late:
            arrival.reply.close = True
            arrival.connection.cut(Failure(Kind.SHUTTING_DOWN, Whose.OURS, "The gateway is shutting down."))
        if self._server is not None:
            await self._server.shutdown(timeout=1.0)
        return len(late)

    async def _say_farewell(self, until: float, linger_s: float) -> None:
        """An answer that began before the end said nothing of it, so that its client may well ask on; the next one does say it."""
        loop = asyncio.get_running_loop()
        self._is_lingering = True
        self._ended_at = loop.time()
        while loop.time() < until and (self._arrivals or loop.time() - self._ended_at < linger_s):
            await asyncio.sleep(linger_s / LOOKS)
            if self._is_hurried:
                break
        self._is_lingering = False

    def hurry(self) -> None:
        """Wait no longer for running requests."""
        self._is_hurried = True
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
