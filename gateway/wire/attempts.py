"""Sending one request: which connection, and whether a second try is right.

A kept connection may have been closed by the upstream in the very moment it is used. The request is then sent once more on
a fresh connection, if that cannot do it twice: no byte of an answer came, the body is still at hand, and either no byte of
the request was written or the method is idempotent (RFC 9110 9.2.2) or carries an ``Idempotency-Key``.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import Failure, Kind, Whose
from gateway.wire.headers import request_head
from gateway.wire.relay import Relay

if TYPE_CHECKING:
    from gateway.call import Request
    from gateway.wire import Watcher
    from gateway.wire.arrival import Arrival
    from gateway.wire.credentials import SetAside
    from gateway.wire.upstreams import Connection, Pool

LOOK_SECONDS = 1.0
IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))  # RFC 9110 9.2.2


@dataclass(slots=True)
class Sent:
    """What became of a request: the last relay (None when no connection was made), tries, and the failure if any."""

    relay: Relay | None
    attempts: int
    failure: Failure | None
    request_bytes: int = 0
    provider_key: str = ""
    """Which of several the upstream was shown."""
    set_aside: SetAside | None = None
    """What the answer said of it."""


async def send(arrival: Arrival, request: Request, pool: Pool, watcher: Watcher, *, drain_bytes: int) -> Sent:
    """Send the request and copy the answer. Returns when the exchange is over, however it ended; raises nothing of its own."""
    attempts = 0
    turn = pool.keys.take(leading=request.of_one_account) if pool.keys is not None else None
    credential = pool.endpoint.credential if turn is None else turn.key.header
    kept = pool.take()
    while True:
        attempts += 1
        try:
            connection = kept or await _connect(arrival, pool)
        except Failure as failure:
            return Sent(None, attempts, failure)
        relay = Relay(request.method, arrival.reply, watcher, drain_bytes=drain_bytes, loop=asyncio.get_running_loop())
        sent_bytes = await _exchange(arrival, request, connection, relay, credential)
        if kept is None or not _may_send_again(arrival, request, relay):
            sent = Sent(relay, attempts, relay.failure, sent_bytes)
            if pool.keys is not None and turn is not None:
                sent.provider_key = turn.key.name
                sent.set_aside = pool.keys.answered(turn, relay.status, relay.headers, leading=request.of_one_account)
            return sent
        kept = None


async def _connect(arrival: Arrival, pool: Pool) -> Connection:
    """A fresh connection; not waited for any longer when the client leaves. It is made all the same and kept for the next
    call: CPython loses the socket of a connection that is cancelled in the moment in which it is won (3.11, staggered_race).
    """
    connecting = asyncio.ensure_future(pool.connect())
    left = asyncio.get_running_loop().create_future()
    arrival.on_leaving(left.cancel)
    try:
        await asyncio.wait((connecting, left), return_when=asyncio.FIRST_COMPLETED)
    finally:
        arrival.on_leaving(None)
        if not connecting.done():
            connecting.add_done_callback(pool.keep)
    if not connecting.done():
        raise Failure(Kind.UPSTREAM_RESET, Whose.FRONT, "The client left before the upstream was reached.")
    return connecting.result()


async def _exchange(
    arrival: Arrival, request: Request, connection: Connection, relay: Relay, credential: tuple[bytes, bytes] | None
) -> int:
    body = request.body if request.sent_body is None else request.sent_body
    endpoint = connection.endpoint
    streamed = body is None and arrival.has_body
    head = request_head(
        request.method,
        request.upstream_target.encode("utf-8", "surrogateescape"),
        request.headers,
        request.fields,
        host=endpoint.host_header,
        credential=credential,
        length=_length(arrival, body, touched=request.sent_body is not None),
        traceparent=request.traceparent,
    )
    connection.sending = streamed
    connection.begin(relay, head, body)
    arrival.attach(relay)
    sent_bytes = len(body or b"")
    try:
        if streamed:
            sent_bytes = await _upload(arrival, connection, relay)
        await relay.finished
    except asyncio.CancelledError:  # only a shutdown does that: a cut call is over like any other, and has its cost
        relay.finished = asyncio.get_running_loop().create_future()  # that one was cancelled with us
        relay.lost(Failure(Kind.SHUTTING_DOWN, Whose.OURS, "The gateway is shutting down."))
    finally:
        arrival.attach(None)
    if relay.upgraded is not None:  # a switch of protocols that nobody asked for (RFC 9110 15.2.2)
        connection.abort()
        relay.failure = Failure(
            Kind.UPSTREAM_UNREADABLE, Whose.UPSTREAM, "The upstream switched protocols without being asked."
        )
    return sent_bytes


def _length(arrival: Arrival, body: bytes | None, *, touched: bool) -> int | None:
    """What to say of the body's length: nothing new, its size once it was read whole, or that it is unknown."""
    if not (arrival.chunked or touched):
        return None
    return -1 if body is None else len(body)


async def _upload(arrival: Arrival, connection: Connection, relay: Relay) -> int:
    """Pass a request body on piece by piece, at the pace of the slower side. Ends at once when the exchange is over before
    the body is: the rest of it is of no use, and a client that sends slowly has to hear of it.
    """
    sent_bytes = 0
    over = asyncio.timeout(None)

    def end(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the body has ended in this very turn
            over.reschedule(0)

    try:
        async with over:
            relay.finished.add_done_callback(end)
            try:
                async for piece in arrival.pieces():
                    sent_bytes += len(piece)
                    connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if arrival.chunked else piece)
                    relay.uploaded()
                    await _drain(arrival, connection)
            finally:
                relay.finished.remove_done_callback(end)
        if arrival.chunked:
            connection.write(b"0\r\n\r\n")
        connection.sending = False
    except Failure as failure:
        relay.lost(failure)
    except TimeoutError:
        if not arrival.reply.started:
            arrival.reply.close = True  # what is left of the body would be read as the next request
    return sent_bytes


async def _drain(arrival: Arrival, connection: Connection) -> None:
    """Until the upstream has room again. Meanwhile nothing is read from the client, and the event loop hears nothing of it:
    so the kernel is asked now and then whether it is still there.
    """
    while (waiting := connection.drained) is not None:
        await asyncio.wait((waiting,), timeout=LOOK_SECONDS)
        if not waiting.done() and arrival.is_reset():
            raise Failure(Kind.UPSTREAM_RESET, Whose.FRONT, "The client left before its request was complete.")


def _may_send_again(arrival: Arrival, request: Request, relay: Relay) -> bool:
    if relay.failure is None or relay.failure.whose is not Whose.UPSTREAM or not relay.untouched or arrival.gone:
        return False
    if relay.failure.kind is not Kind.UPSTREAM_RESET or (request.body is None and arrival.has_body):
        return False
    return request.method in IDEMPOTENT or b"idempotency-key" in request.fields
