"""The upstreams: where to connect, and the connections that are kept for the next call.

A ``Connection`` carries one exchange at a time: it writes what it is given and pushes what it receives into the relay of
that exchange. A ``Pool`` hands out idle connections, newest first, and opens new ones; nobody waits for a free one. Knows
sockets, TLS and time-outs; does not know what travels.
"""

from __future__ import annotations

import asyncio
import math
import random
import select
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, cast

from gateway.wire import failures
from gateway.wire.connecting import Connector
from gateway.wire.deadlines import Deadlines

if TYPE_CHECKING:
    from gateway.wire.credentials import Keyring
    from gateway.wire.endpoint import Endpoint
    from gateway.wire.relay import Relay

WRITE_HIGH_WATER = 64 * 1024
"""Bytes that may wait for the upstream to read before an upload is held back."""
LAST_WORDS_S = 10.0
"""How long an upstream may take to read what a client sent before it left an upgraded connection."""
TCP_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 20), (socket.TCP_KEEPCNT, 3))
"""A peer that vanished is noticed after two minutes, although no time-out ends a long silent answer."""
SPREAD = 0.1
"""Connections that were made together reach their greatest age apart, by this part of it: not all are made anew at once."""


class Connection(asyncio.Protocol):
    """One connection to an upstream. Satisfies ``wire.Line``."""

    __slots__ = (
        "_drained",
        "_poll",
        "_pool",
        "_relay",
        "_tunnel",
        "by_proxy",
        "closed",
        "endpoint",
        "idle_since",
        "retires_at",
        "sending",
        "transport",
        "used",
    )

    def __init__(self, pool: Pool, *, by_proxy: bool = False) -> None:
        self._pool = pool
        self.endpoint = pool.endpoint
        self.by_proxy = by_proxy
        """True where a proxy reads each request, as it does without TLS."""
        self._relay: Relay | None = None
        self._tunnel: Tunnel | None = None
        self._drained: asyncio.Future[None] | None = None
        self._poll = select.poll()
        self.transport: asyncio.Transport
        self.closed = False
        self.sending = False
        """True while a streamed request body is still on its way: such a connection cannot be used again."""
        self.idle_since = 0.0
        self.retires_at = math.inf
        self.used = 0

    def begin(self, relay: Relay, head: bytes, body: bytes | None) -> None:
        """Send a request head and, if it is at hand, its body; what comes back goes to the relay."""
        self.used += 1
        self._relay = relay
        pool, endpoint = self._pool, self.endpoint
        relay.begin(self, pool.deadlines, first_byte_s=endpoint.first_byte_s, idle_s=endpoint.idle_s)
        if self.closed:  # lost since it was made: nobody will tell of it again
            relay.lost(failures.incomplete())
            return
        if self.by_proxy and endpoint.proxy is not None:
            head = endpoint.proxy.absolute(head, pool.origin)
        if not body:
            self.transport.write(head)
        elif len(body) <= WRITE_HIGH_WATER:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))  # one packet less, and nothing is copied

    def write(self, piece: bytes) -> None:
        """More of the request's body."""
        if not self.closed:
            self.transport.write(piece)

    @property
    def drained(self) -> asyncio.Future[None] | None:
        """Done when the upstream has read enough of what was written, or the exchange is over; None when it has room."""
        return self._drained

    def tunnel(self, tunnel: Tunnel) -> None:
        """From here on bytes go to the tunnel: the connection was upgraded."""
        self._relay = None
        self._tunnel = tunnel

    def abort(self) -> None:
        """Drop the connection now; what was not sent is lost. A second time changes nothing."""
        if not self.closed:
            self.closed = True
            self._pool.forget(self)
            self.transport.abort()

    def finish(self) -> None:
        """Close the connection once the upstream has read what was written, or when it has had its time for that."""
        if self.closed:
            return
        self.transport.close()
        if self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(LAST_WORDS_S, self.abort)

    def is_stale(self) -> bool:
        """Whether an idle connection is of no use any more: closed, or something (at best a FIN) waits to be read.

        The event loop learns of a FIN only at its next turn; asking the kernel (1 us) keeps a request from being written
        into a connection that the upstream has already closed.
        """
        return self.closed or self.transport.is_closing() or bool(self._poll.poll(0))

    # -- wire.Line ----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading, so that the upstream has to wait."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def done(self, *, reusable: bool) -> None:
        """The exchange is over. A request that is still being written makes the connection useless."""
        self._relay = None
        self._wake_writer()
        if reusable and not self.closed and not self.sending and not self.transport.get_write_buffer_size():
            self._pool.give_back(self)
        else:
            self.abort()

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        transport.set_write_buffer_limits(WRITE_HIGH_WATER)
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in TCP_KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        if self.endpoint.max_age_s:
            self.retires_at = time.monotonic() + self.endpoint.max_age_s * random.uniform(1 - SPREAD, 1)  # noqa: S311
        self._poll.register(connection.fileno(), select.POLLIN | select.POLLRDHUP)

    def data_received(self, data: bytes) -> None:
        if self._relay is not None:
            self._relay.feed(data)
        elif self._tunnel is not None:
            self._tunnel.from_upstream(data)
        else:  # an answer that nobody asked for (RFC 9112 6.3: the connection cannot be trusted any more)
            self.abort()

    def eof_received(self) -> None:
        if self._relay is not None:
            self._relay.eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._wake_writer()
        self._pool.forget(self)
        if self._relay is not None:
            self._relay.lost(failures.incomplete())
        if self._tunnel is not None:
            self._tunnel.upstream_lost()

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()
        if self._tunnel is not None:
            self._tunnel.upstream_paused()

    def resume_writing(self) -> None:
        self._wake_writer()
        if self._tunnel is not None:
            self._tunnel.upstream_resumed()

    def _wake_writer(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)


class Tunnel:
    """The promise of what takes over an upgraded connection (``websocket.py``)."""

    def from_upstream(self, data: bytes) -> None:
        """Bytes arrived."""
        raise NotImplementedError

    def upstream_lost(self) -> None:
        """The connection is gone."""
        raise NotImplementedError

    def upstream_paused(self) -> None:
        """The upstream does not keep up."""
        raise NotImplementedError

    def upstream_resumed(self) -> None:
        """It has room again."""
        raise NotImplementedError


class Pool:
    """The connections of one upstream. All mutable state is one deque of idle connections, the set of all, and the timer that closes
    those that stay idle.
    """

    def __init__(self, endpoint: Endpoint, keys: Keyring | None = None) -> None:
        """``keys``: of an endpoint with ``credentials``."""
        self.endpoint = endpoint
        self.keys = keys
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._retired = False
        self._letting_go: asyncio.TimerHandle | None = None
        self._connector = Connector(endpoint)
        self.deadlines = Deadlines()
        """Of the exchanges on its connections."""
        self.origin = b"http://" + endpoint.host_header
        """The upstream in a request that a proxy reads."""

    def __repr__(self) -> str:
        busy = len(self._all) - len(self._idle)
        return f"<Pool {self.endpoint.name}: {busy} busy, {len(self._idle)} idle>"

    @property
    def busy(self) -> int:
        """Connections with an exchange on them."""
        return len(self._all) - len(self._idle)

    @property
    def idle(self) -> int:
        """Connections waiting for an exchange."""
        return len(self._idle)

    def take(self) -> Connection | None:
        """An idle connection that is still good, newest first; the others are closed on the way."""
        expired = time.monotonic() - self.endpoint.keepalive_s
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since > expired and not connection.is_stale():
                return connection
            connection.abort()
        return None

    async def connect(self, *, tunnel: bool = False) -> Connection:
        """A new connection, or a Failure that says what went wrong and names no address. ``tunnel``: a proxy on the way is not to
        read what travels, as it does where the upstream has no TLS.
        """
        endpoint = self.endpoint
        by_proxy = endpoint.proxy is not None and not (endpoint.tls or tunnel)
        connection = await self._connector.connect(lambda: Connection(self, by_proxy=by_proxy), tunnel=not by_proxy)
        if not connection.closed:
            self._all.add(connection)
        return connection

    def keep(self, connecting: asyncio.Future[Connection]) -> None:
        """A connection that nobody waits for any more; a failure to make it concerns nobody."""
        if not connecting.cancelled() and connecting.exception() is None:
            self.give_back(connecting.result())

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next exchange."""
        now = time.monotonic()
        if self._retired or now >= connection.retires_at or len(self._idle) >= self.endpoint.max_idle:
            connection.abort()
        elif not connection.closed:
            connection.idle_since = now
            self._idle.append(connection)
            if self._letting_go is None:
                self._let_go_in(self.endpoint.keepalive_s)

    def _let_go_in(self, seconds: float) -> None:
        self._letting_go = asyncio.get_running_loop().call_later(seconds, self._let_go)

    def _let_go(self) -> None:
        """Close those that no exchange has needed for long; the oldest stand at the left."""
        self._letting_go = None
        expired = time.monotonic() - self.endpoint.keepalive_s
        while self._idle and self._idle[0].idle_since <= expired:
            self._idle.popleft().abort()
        if self._idle:
            self._let_go_in(self._idle[0].idle_since - expired)

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def retire(self) -> None:
        """The config no longer names this endpoint: close what is idle now and the rest when it is done."""
        self._retired = True
        for connection in list(self._idle):
            connection.abort()

    def close(self) -> None:
        """Close everything, busy or not."""
        self._retired = True
        for connection in list(self._all):
            connection.abort()
        self.deadlines.close()
        if self._letting_go is not None:
            self._letting_go.cancel()
