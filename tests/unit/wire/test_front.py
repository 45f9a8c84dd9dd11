"""The front without a gateway behind it: clients that ask and do not read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from gateway.errors import Failure, Kind
from gateway.wire.arrival import Arrival
from gateway.wire.front import Front
from tests.harness.messages import request
from tests.harness.raw_client import RawClient, connected

BODY = bytes(256 * 1024)
GET = request("GET", "/v1/models")
UPGRADE = request("GET", "/v1/models", ("Connection", "Upgrade"), ("Upgrade", "websocket"))
"""Hands a connection over to aiohttp's own loop."""


@asynccontextmanager
async def listening(
    handle: Callable[[Arrival], Awaitable[None]], *, keepalive_s: float = 60.0, body_s: float = 60.0
) -> AsyncIterator[Front]:
    def complain(failure: Failure) -> tuple[int, tuple[tuple[bytes, bytes], ...], bytes]:
        raise AssertionError(failure)

    front = Front(
        handle,
        complain,
        max_body_bytes=1 << 20,
        max_header_bytes=8192,
        max_headers=64,
        body_s=body_s,
        keepalive_s=keepalive_s,
    )
    await front.listen("127.0.0.1", 0)
    yield front
    await front.stop(0.1)


class Answering:
    """Answers at once, much. ``most`` is the most that waited for a client when it was asked again."""

    def __init__(self) -> None:
        self.most = self.asked = 0
        self.arrival: Arrival

    async def __call__(self, arrival: Arrival) -> None:
        self.asked += 1
        self.arrival = arrival
        transport = arrival.connection.transport
        assert transport is not None
        self.most = max(self.most, transport.get_write_buffer_size())
        arrival.reply.whole(200, b"OK", ((b"content-length", b"%d" % len(BODY)),), BODY)


async def test_who_reads_nothing_is_not_answered_on_and_on() -> None:
    """However many requests lie there: an answer waits until the one before it is mostly read, in either loop."""
    for first in (GET, UPGRADE):
        answering = Answering()
        async with listening(answering) as front, connected(front.port, window=4096) as client:
            await client.send(first + GET * 63)
            bodies = [(await client.answer()).body.content for _ in range(64)]
        assert bodies == [BODY] * 64
        assert answering.asked == 64
        assert answering.most < 64 * 1024


async def test_who_never_reads_is_let_go() -> None:
    """After as long as an idle connection is kept."""
    answering = Answering()
    async with listening(answering, keepalive_s=0.2) as front, connected(front.port, window=4096) as client:
        await client.send(GET * 64)
        async with asyncio.timeout(10):
            while not answering.asked or answering.arrival.connection.transport is not None:
                await asyncio.sleep(0.01)
        assert answering.asked < 64


async def test_a_body_that_stalls_is_not_waited_for() -> None:
    """In either loop; a limit of nought is none."""
    kinds: list[Kind] = []

    async def reading(arrival: Arrival) -> None:
        try:
            await arrival.body()
        except Failure as failure:
            kinds.append(failure.kind)
        arrival.reply.whole(200, b"OK", ((b"content-length", b"0"),), b"")

    stalled = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234"
    for first in (GET, UPGRADE):
        async with listening(reading, body_s=0.2) as front, connected(front.port) as client:
            assert (await client.ask(first)).status == 200
            assert (await client.ask(stalled)).status == 200
            assert await client.incoming.rest() == b""
            assert not len(front.deadlines)
        async with listening(reading, body_s=0) as front, connected(front.port) as client:
            assert (await client.ask(first)).status == 200
            await client.send(stalled)
            await asyncio.sleep(0.4)
            await client.send(b"56789")
            assert (await client.answer()).status == 200
            assert (await client.ask(GET)).status == 200
    assert kinds == [Kind.BODY_TIMEOUT] * 2


@asynccontextmanager
async def closed_unread(body: bytes, keepalive_s: float) -> AsyncIterator[tuple[Front, RawClient]]:
    """A connection that was closed after an answer of which its client has read nothing."""
    answered = asyncio.Event()

    async def answering(arrival: Arrival) -> None:
        arrival.reply.close = True
        arrival.reply.whole(200, b"OK", ((b"content-length", b"%d" % len(body)),), body)
        answered.set()

    async with listening(answering, keepalive_s=keepalive_s) as front, connected(front.port, window=4096) as client:
        await client.send(GET)
        await answered.wait()
        yield front, client


def open_connections(front: Front) -> int:
    assert front._server is not None
    return len(front._server.connections)


async def test_a_closed_connection_does_not_wait_for_ever_to_be_read() -> None:
    """It is given up after as long as an idle one is kept, and the client sees that its answer is not whole."""
    body = bytes(32 << 20)  # more than the kernel takes
    async with closed_unread(body, keepalive_s=0.3) as (front, client):
        await asyncio.sleep(0.1)
        assert open_connections(front) == 1
        async with asyncio.timeout(5):
            while open_connections(front):
                await asyncio.sleep(0.02)
        assert not len(front.deadlines)
        assert not (await client.answer()).body.whole


async def test_a_closed_connection_waits_for_a_slow_reader() -> None:
    """As long as it reads on, however long that takes in all."""
    body = bytes(32 << 20)
    async with closed_unread(body, keepalive_s=1) as (front, client):
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            await client.incoming.fill()
            await asyncio.sleep(0.02)
        assert open_connections(front) == 1
        answer = await client.answer()
        assert (answer.body.whole, len(answer.body.content)) == (True, len(body))
        async with asyncio.timeout(5):
            while open_connections(front):
                await asyncio.sleep(0.02)
        assert not len(front.deadlines)


async def test_an_idle_connection_whose_answer_nobody_reads_is_given_up_as_well() -> None:
    """What is left of it is too little to hold anything up, but the connection cannot end before it is read."""

    async def answering(arrival: Arrival) -> None:
        transport = arrival.connection.transport
        assert transport is not None
        arrival.reply.start(200, b"OK", (), {}, extra=(), sized=False)
        while not transport.get_write_buffer_size():
            arrival.reply.body(bytes(16 * 1024))
        arrival.reply.end()
        assert not arrival.connection.writing_paused

    async with listening(answering, keepalive_s=0.3) as front, connected(front.port, window=4096) as client:
        await client.send(GET)
        async with asyncio.timeout(5):
            while open_connections(front):
                await asyncio.sleep(0.02)
