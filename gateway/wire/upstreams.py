"""The upstreams: where to connect, and the connections that are kept for the next call.

A ``Connection`` carries one exchange at a time: it writes what it is given and pushes what it receives into the relay of
that exchange. A ``Pool`` hands out idle connections, newest first, and opens new ones; nobody waits for a free one. Knows
sockets, TLS and time-outs; does not know what travels.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from aiohappyeyeballs import start_connection

from gateway.errors import Failure, Kind, Whose

if TYPE_CHECKING:
    from gateway.wire.credentials import Credential, Keyring
    from gateway.wire.relay import Relay

WRITE_HIGH_WATER = 64 * 1024
"""Bytes that may wait for the upstream to read before an upload is held back."""
LAST_WORDS_S = 10.0
"""How long an upstream may take to read what a client sent before it left an upgraded connection."""
TCP_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 20), (socket.TCP_KEEPCNT, 3))
"""A peer that vanished is noticed after two minutes, although no time-out ends a long silent answer."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an upstream is and how to talk to it, compiled from the config. Times in seconds, 0 = no limit."""

    name: str
    provider: str
    protocol: str
    host: str
    port: int
    tls: bool
    host_header: bytes
    base_path: str
    credential: tuple[bytes, bytes] | None = field(default=None, repr=False)
    credentials: tuple[Credential, ...] = ()
    """Several, of which each call has one; then ``credential`` is None."""
    verify_tls: bool = True
    ca_file: str = ""
    connect_s: float = 10.0
    first_byte_s: float = 0.0
    idle_s: float = 0.0
    keepalive_s: float = 15.0
    max_idle: int = 256


class Connection(asyncio.Protocol):
    """One connection to an upstream. Satisfies ``wire.Line``."""

    __slots__ = (
        "_drained",
        "_poll",
        "_pool",
        "_relay",
        "_tunnel",
        "closed",
        "idle_since",
        "sending",
        "transport",
        "used",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._relay: Relay | None = None
        self._tunnel: Tunnel | None = None
        self._drained: asyncio.Future[None] | None = None
        self._poll = select.poll()
        self.transport: asyncio.Transport
        self.closed = False
        self.sending = False
        """True while a streamed request body is still on its way: such a connection cannot be used again."""
        self.idle_since = 0.0
        self.used = 0

    @property
    def endpoint(self) -> Endpoint:
        """Where it leads."""
        return self._pool.endpoint

    def begin(self, relay: Relay, head: bytes, body: bytes | None) -> None:
        """Send a request head and, if it is at hand, its body; what comes back goes to the relay."""
        self.used += 1
        self._relay = relay
        endpoint = self._pool.endpoint
        relay.begin(self, first_byte_s=endpoint.first_byte_s, idle_s=endpoint.idle_s)
        if body and len(body) <= WRITE_HIGH_WATER:
            self.transport.write(head + body)
            return
        self.transport.write(head)
        if body:
            self.transport.write(body)

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
            self._relay.lost(
                Failure(
                    Kind.UPSTREAM_RESET, Whose.UPSTREAM, "The upstream closed the connection without a complete answer."
                )
            )
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
    """The connections of one upstream. All mutable state is one deque of idle connections and the set of all."""

    def __init__(self, endpoint: Endpoint, keys: Keyring | None = None) -> None:
        """``keys``: of an endpoint with ``credentials``."""
        self.endpoint = endpoint
        self.keys = keys
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._retired = False
        self._tls = _tls_for(endpoint) if endpoint.tls else None

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

    async def connect(self) -> Connection:
        """A new connection, or a Failure that says what went wrong and names no address."""
        endpoint = self.endpoint
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(endpoint.connect_s or None):
                addresses = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
                reached = await start_connection(addresses, happy_eyeballs_delay=0.25)  # RFC 8305 section 5
                _, connection = await loop.create_connection(
                    lambda: Connection(self),
                    sock=reached,
                    ssl=self._tls,
                    server_hostname=endpoint.host if self._tls else None,
                )
        except TimeoutError:
            raise Failure(
                Kind.UPSTREAM_TIMEOUT, Whose.UPSTREAM, "Connecting to the upstream took too long.", may_retry=True
            ) from None
        except (OSError, ssl.SSLError, UnicodeError) as error:
            raise Failure(Kind.UPSTREAM_UNREACHABLE, Whose.UPSTREAM, _why(error), may_retry=True) from None
        self._all.add(connection)
        return connection

    def keep(self, connecting: asyncio.Future[Connection]) -> None:
        """A connection that nobody waits for any more; a failure to make it concerns nobody."""
        if not connecting.cancelled() and connecting.exception() is None:
            self.give_back(connecting.result())

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next exchange."""
        if self._retired or len(self._idle) >= self.endpoint.max_idle:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

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


def _tls_for(endpoint: Endpoint) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=endpoint.ca_file or None)
    tls.set_alpn_protocols(["http/1.1"])
    if not endpoint.verify_tls:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls


def _why(error: Exception) -> str:
    """What a caller may know of a connection that did not come about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "The upstream's TLS certificate could not be verified."
    if isinstance(error, ssl.SSLError):
        return "The TLS handshake with the upstream failed."
    if isinstance(error, socket.gaierror):
        return "The upstream's host name could not be resolved."
    if isinstance(error, ConnectionRefusedError):
        return "The upstream refused the connection."
    return "The upstream could not be reached."
