"""The front: the listener for apps. Each request becomes an ``Arrival``, and is handed to the callable it was given.

aiohttp's server stands where the hostile bytes arrive; ``accepted.py`` is its connection, made ours. Knows HTTP; does not know what a
call is.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.call import Headers
from gateway.errors import Failure, Kind, Whose
from gateway.wire.accepted import FrontConnection, Written, parse_failure
from gateway.wire.arrival import Arrival
from gateway.wire.deadlines import Deadlines
from gateway.wire.reply import Reply

BACKLOG = 2048
LOOKS = 20
Complain = Callable[[Failure], tuple[int, Headers, bytes]]
"""A failure before any dialect is known, as (status, header fields, body)."""


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
        body_s: float,
        keepalive_s: float,
    ) -> None:
        self._handle = handle
        self._complain = complain
        self.max_body_bytes = max_body_bytes
        self.body_s = body_s
        """The longest wait for a piece of a body; 0 = no limit."""
        self.deadlines = Deadlines()
        """Of clients that make others wait."""
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
            return Written(keep_alive=False)
        if connection.writing_paused:
            await connection.room()
        if not request.content.is_eof():
            connection.watch_body(request.content)
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
            if arrival.chunked and arrival.fields[b"transfer-encoding"][0].lower() != b"chunked":
                # RFC 9112 6.1: what comes is still coded, and passing it on would say that it is not
                arrival.reply.close = True
                self.complain_to(arrival.reply, parse_failure(400, None))
            else:
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
        self.deadlines.close()
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


_KEEP = Written(keep_alive=True)
_CLOSE = Written(keep_alive=False)
