"""A connection of an app: one request after another becomes an ``Arrival`` and is handed to the front.

aiohttp's parser, limits and time-outs are used as they are, its loop over the requests only for those that are out of the ordinary
(docs/decisions/0013). Its response objects are not: an answer is written straight to the transport by ``Reply``. Knows HTTP; does
not know what a call is.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from gateway.errors import Failure, Kind, Whose
from gateway.wire.arrival import Arrival
from gateway.wire.reply import Reply

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

    from gateway.wire import LastWords
    from gateway.wire.front import Front

log = logging.getLogger("gateway.front")


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


class Written(web.StreamResponse):
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


class _Behind(deque[Any]):
    """The requests behind one whose body is still on its way, and the error if that is broken."""

    def __init__(self, body: StreamReader, waiting: deque[Any]) -> None:
        super().__init__()
        self._body = body
        for entry in waiting:
            self.append(entry)

    def append(self, entry: Any) -> None:
        super().append(entry)
        if type(entry[0]) is not RawRequestMessage and not self._body.is_eof():
            self._body.set_exception(web.RequestPayloadError("the body is broken"))


class _Unread:
    """A connection that is closed, but for what its client has not read yet: given up when it reads nothing for ``patience_s``. What
    counts is what is left here and in the kernel, whose buffer a slow client can read from for long before it asks for more.
    """

    __slots__ = ("_due_ns", "_left_bytes", "_patience_ns", "_transport")

    def __init__(self, transport: asyncio.Transport, patience_s: float) -> None:
        self._transport = transport
        self._patience_ns = int(patience_s * 1e9)
        self._left_bytes = 0
        self._due_ns = 0

    def look(self, now_ns: int) -> int:
        """See ``deadlines.Timed``; the first look only begins."""
        if now_ns < self._due_ns:
            return self._due_ns
        left_bytes = self._transport.get_write_buffer_size() + self._in_kernel()
        if left_bytes == self._left_bytes:
            self._transport.abort()
            return 0
        self._left_bytes = left_bytes
        self._due_ns = now_ns + self._patience_ns
        return self._due_ns

    def _in_kernel(self) -> int:
        """What was written and not acknowledged yet (SIOCOUTQ of tcp(7), which has the number of TIOCOUTQ); 0 where nobody says."""
        try:
            asked = ioctl(self._transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # closed meanwhile
            return 0
        return int.from_bytes(asked, sys.byteorder)


class FrontConnection(RequestHandler):
    """aiohttp's connection, with the news that a relay needs: the client left, is slow, has room again."""

    __slots__ = ("_front", "_is_behind", "_is_held", "_joined", "_unread", "arrival")

    def __init__(self, manager: web.Server, *, front: Front, **limits: Any) -> None:
        super().__init__(manager, **limits)
        self._front = front
        self._joined: Joined | None = None
        self._is_behind = False
        """The parser may have stopped before a request that is here already, and waits to be asked for it."""
        self._is_held = False
        """The parser may stop in the middle of a body although reading is not paused."""
        self.arrival: Arrival | None = None
        self._unread: _Unread | None = None

    async def start(self) -> None:
        """Aiohttp's loop over the requests of a connection, without what answers need that it writes itself: a task, a request, a
        writer and a response for each (14 us a call, measured). What is out of the ordinary, a request that could not be parsed or
        an upgrade, is left to the original, which then has the connection for the rest of its life.
        """
        transport = self.transport
        try:
            while not self._force_close:
                if self._is_behind and not self._messages:
                    self._is_behind = False
                    self.data_received(b"")
                if not self._messages:
                    self._waiter = self._loop.create_future()
                    try:
                        await self._waiter
                    finally:
                        self._waiter = None
                if self._paused:
                    await self.room()
                    continue
                message, payload = self._messages[0]
                if self._upgraded or type(message) is not RawRequestMessage or message.upgrade:
                    self._is_held = True
                    await super().start()
                    return
                if self.transport is None:
                    break
                self._messages.popleft()
                if payload.is_eof():
                    self._parser.message_consumed()  # type: ignore[union-attr]  # None when the connection is lost
                    if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                        self._resume_reading_if_drained()
                    is_good = await self._answer(message, payload, self.transport)
                else:
                    is_good = await self._answer_early(message, payload, self.transport)
                if not is_good:
                    break
            if not self._force_close:
                self._task_handler = None
                if self.transport is not None:
                    self.transport.close()
        finally:
            if transport is not None and transport.get_write_buffer_size():
                self._linger_unread(transport)

    async def _answer_early(
        self, message: RawRequestMessage, payload: StreamReader, transport: asyncio.Transport
    ) -> bool:
        """One request whose body is still on its way. The parser counts it among those that wait here when its body ends, which is
        after it was taken: until it is told of that it may have stopped one request early, with what follows in its hands.
        """
        self.watch_body(payload)
        try:
            return await self._answer(message, payload, transport)
        finally:
            self._messages = deque(self._messages)
            self._is_behind = True
            if self._parser is not None:
                self._parser.message_consumed()

    def watch_body(self, payload: StreamReader) -> None:
        """A body that turns out to be broken is told to whoever reads it: aiohttp only queues the error behind its request."""
        self._messages = _Behind(payload, self._messages)

    def awaits(self, arrival: Arrival) -> float:
        """The next piece of this body is the client's to send. Returns how long it may take, in seconds; 0 = for ever."""
        patience_s = self._front.body_s
        if patience_s:
            arrival.due_ns = time.monotonic_ns() + int(patience_s * 1e9)
            self._front.deadlines.watch(arrival, arrival.due_ns)
        return patience_s

    def awaited(self, arrival: Arrival) -> None:
        """It came, or nobody wants it any more."""
        self._front.deadlines.forget(arrival)

    async def room(self) -> None:
        """Until the client has read most of what was answered: nobody may ask on and on and read nothing."""
        try:
            async with asyncio.timeout(self._keepalive_timeout or None):
                await self._drain_helper()
        except (TimeoutError, ConnectionError):
            transport = self.transport
            self.force_close()
            if transport is not None:
                transport.abort()

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
            if self._handler_waiter is not None and not self._handler_waiter.done():
                self._handler_waiter.set_result(None)
        if not payload.is_eof() and not self._force_close:
            await self._linger(payload)
        if not self._keepalive or self._close or self._force_close:
            return False
        self._next_keepalive_close_time = closes_at = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(closes_at, self._process_keepalive)
        return True

    def _linger_unread(self, transport: asyncio.Transport) -> None:
        """Closing waits for the client to read what is out, and would wait for ever for one that does not."""
        self._unread = unread = _Unread(transport, self._keepalive_timeout)
        self._front.deadlines.watch(unread, unread.look(time.monotonic_ns()))

    async def _linger(self, payload: StreamReader) -> None:
        """Read what is left of a body that nobody wants, for a while: a client that still sends would not see its answer."""
        try:
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof() and not self._force_close:
                    await payload.readany()
        except (TimeoutError, web.RequestPayloadError, ConnectionError):
            self.close()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Each body that is read asks for it, most of them for nothing (7 us a call, measured). A body that ends while reading is paused
        leaves its pause in the parser, which then stops in the middle of a later one: from then on all that ask are heard.
        """
        if self._reading_paused or self._buffer_paused or self._is_held:
            self._is_held = self._is_held or not resume_parser
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
        if self._unread is not None:
            self._front.deadlines.forget(self._unread)
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
        return Written(keep_alive=False)

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
            self._front.complain_to(reply, parse_failure(status, exc))


def parse_failure(status: int, exc: BaseException | None) -> Failure:
    if status >= 500:
        return Failure(Kind.INTERNAL, Whose.OURS, "The gateway failed while handling this request.")
    if isinstance(exc, LineTooLong) or "Too many" in str(exc):
        return Failure(
            Kind.HEADER_TOO_LARGE,
            Whose.FRONT,
            "The request line or the header fields are larger than the gateway accepts.",
        )
    return Failure(Kind.MALFORMED_REQUEST, Whose.FRONT, "The request is no valid HTTP/1.1 message.")
