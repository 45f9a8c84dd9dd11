"""Upgraded connections (OpenAI's realtime API): frames both ways, each one exactly as it came.

The handshake goes through like any request, with its ``Upgrade``. When the upstream agrees (101), the two sockets are
joined byte for byte: fragmentation, compression, pings and close codes are the two ends' own business (RFC 6455), and a
frame leaves the moment it arrives. When the upstream does not agree, its answer is an ordinary one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import Failure
from gateway.wire.attempts import Sent
from gateway.wire.headers import request_head
from gateway.wire.relay import Relay
from gateway.wire.upstreams import Connection, Tunnel

if TYPE_CHECKING:
    from gateway.call import Request
    from gateway.wire import LastWords, Watcher
    from gateway.wire.arrival import Arrival
    from gateway.wire.upstreams import Pool

POLICY_VIOLATION = 1008
MAX_REASON_BYTES = 123


async def relay_upgrade(arrival: Arrival, request: Request, pool: Pool, watcher: Watcher) -> Sent:
    """Send the handshake; on 101 stay until one of the two ends has closed. Like ``attempts.send`` it raises nothing."""
    try:
        connection = await pool.connect(tunnel=True)
    except Failure as failure:
        return Sent(None, 1, failure)
    turn = pool.keys.take(leading=request.of_one_account) if pool.keys is not None else None
    relay = Relay(request.method, arrival.reply, watcher, drain_bytes=0, loop=asyncio.get_running_loop())
    endpoint = connection.endpoint
    head = request_head(
        request.method,
        request.upstream_target.encode("utf-8", "surrogateescape"),
        request.headers,
        request.fields,
        host=endpoint.host_header,
        credential=endpoint.credential if turn is None else turn.key.header,
        length=None,
        upgrade=True,
        traceparent=request.traceparent,
    )
    connection.begin(relay, head, None)
    arrival.attach(relay)
    try:
        await relay.finished
    finally:
        arrival.attach(None)
    sent = Sent(relay, 1, relay.failure)
    if pool.keys is not None and turn is not None:
        sent.provider_key = turn.key.name
        sent.set_aside = pool.keys.answered(turn, relay.status, relay.headers, leading=request.of_one_account)
    if relay.upgraded is None:
        return sent
    tunnel = _Joined(arrival, connection, relay, watcher)
    watcher.upgraded(relay.headers)
    await tunnel.open(relay.upgraded)
    sent.failure, sent.request_bytes = relay.failure, tunnel.upward_bytes
    return sent


def close_frame(code: int, reason: str) -> bytes:
    """The server's side of a closing handshake (RFC 6455 5.5.1); a reason longer than 123 bytes is shortened."""
    said = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
    return b"\x88" + bytes((len(said) + 2,)) + code.to_bytes(2, "big") + said


class _Joined(Tunnel):
    """Two transports that write what the other one reads, with back-pressure both ways."""

    def __init__(self, arrival: Arrival, connection: Connection, relay: Relay, watcher: Watcher) -> None:
        self._watcher = watcher
        self._arrival = arrival
        self._front = arrival.connection
        self._up = connection
        self._relay = relay
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.upward_bytes = 0

    async def open(self, early: bytes) -> None:
        """Pass the 101 on, then frames, until one end is gone."""
        relay = self._relay
        self._up.tunnel(self)
        try:
            self._arrival.on_leaving(self._front_lost)
            self._arrival.reply.switch(relay.status, relay.reason, relay.headers)
            self._front.join(self)  # before anything is written: a client that does not read must be able to say so
            if early:
                self.from_upstream(early)
            await self._closed
        finally:
            self._arrival.on_leaving(None)
            self._front.join(None)
            self._up.finish()

    # -- from the client ----------------------------------------------------------------------------------------------

    def from_front(self, data: bytes) -> None:
        """Bytes of the client's frames."""
        self.upward_bytes += len(data)
        self._up.write(data)

    def front_paused(self) -> None:
        """The client does not keep up."""
        self._up.pause()

    def front_resumed(self) -> None:
        """It has room again."""
        self._up.resume()

    def cut(self, failure: Failure, last: LastWords | None = None) -> None:
        """The gateway ends it: with a close frame, if no frame is half written."""
        words = last.after(b"") if last is not None else None
        if words and self._front.transport is not None:
            self._front.transport.write(words)
        self._relay.failure = failure
        self._finish()

    def _front_lost(self) -> None:
        self._finish()

    # -- from the upstream --------------------------------------------------------------------------------------------

    def from_upstream(self, data: bytes) -> None:
        self._relay.response_bytes += len(data)
        transport = self._front.transport
        if transport is not None:
            transport.write(data)
        self._watcher.chunk(data)

    def upstream_lost(self) -> None:
        if self._front.transport is not None:
            self._front.transport.close()  # after what is still in its buffer: a close frame most likely
        self._finish()

    def upstream_paused(self) -> None:
        self._front.pause_reading()

    def upstream_resumed(self) -> None:
        self._front.resume_reading(resume_parser=False)

    def _finish(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
