"""Upgraded connections byte by byte: refusals, bytes around the handshake, last words, and what waits in between."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from tests.front_door.conftest import Serve
from tests.harness.gateways import GatewayProcess, records
from tests.harness.messages import request, response
from tests.harness.raw_client import RawClient, connected
from tests.harness.scripted import End, ScriptedUpstream, Seen, Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

REALTIME = "/v1/realtime?model=gpt-4o-realtime-preview"
UPGRADE = request(
    "GET",
    REALTIME,
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def test_a_refusal_passes_as_it_is(upstream: ScriptedUpstream, gateway: Any) -> None:
    """401 instead of 101: an answer like any other, and the connection serves on."""
    refusal = response(401, ("WWW-Authenticate", "Bearer"), reason="Unauthorized", body=b'{"error":"no"}')
    upstream.answer = lambda seen: [refusal if len(upstream.seen) == 1 else response(200, body=b"next")]
    async with connected(gateway.front_port) as client:
        answer = await client.ask(UPGRADE)
        assert (answer.status, answer.head.reason, answer.body.content) == (401, b"Unauthorized", b'{"error":"no"}')
        assert answer.head.value(b"www-authenticate") == b"Bearer"
        assert (await client.ask(request("GET", "/v1/models"))).body.content == b"next"
    async with aiohttp.ClientSession() as session:
        upstream.forget()
        upstream.answer = [refusal]
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(gateway.front_url + REALTIME)
        assert caught.value.status == 401


async def test_a_client_that_leaves_as_the_upstream_agrees_takes_it_with_it(
    upstream: ScriptedUpstream, spawn: Callable[..., Awaitable[GatewayProcess]]
) -> None:
    """Both in one turn of the loop, which is made to look away meanwhile: uvloop raises on a write to a connection that is gone."""
    gateway = await spawn()
    go_on, agreed = asyncio.Event(), asyncio.Semaphore(0)

    async def stay(wire: Wire, seen: Seen) -> None:
        agreed.release()
        await seen.gone.wait()

    upstream.answer = [go_on, AGREED, stay]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(gateway.front_port)) for _ in range(5)]
        for number, client in enumerate(clients):
            await client.send(UPGRADE)
            await upstream.request(number)
        gateway.signal(signal.SIGSTOP)
        for client in clients:
            client.reset()
        go_on.set()
        for _ in clients:
            await agreed.acquire()
        gateway.signal(signal.SIGCONT)
        async with asyncio.timeout(10):
            for seen in upstream.seen:
                await seen.gone.wait()
    found = await records(gateway.admin_url, len(clients))
    assert {record["outcome"] for record in found} == {"client_disconnected"}
    assert "a bug" not in gateway.log


async def test_bytes_around_the_handshake_are_not_lost(upstream: ScriptedUpstream, gateway: Any) -> None:
    """Frames that follow the request at once, frames in one segment with the 101, and any bytes whatever after it."""
    noise = random.Random(2).randbytes(100_000)

    async def mirror(wire: Wire, seen: Seen) -> None:
        while True:
            await wire.send(await wire.incoming.at_most(1 << 16))

    upstream.read_body = False
    upstream.answer = [AGREED + b"early", mirror]
    async with connected(gateway.front_port) as client:
        await client.send(UPGRADE + b"hasty")
        head = await client.head()
        assert (head.status, head.value(b"upgrade")) == (101, b"websocket")
        assert await client.incoming.exactly(10) == b"earlyhasty"
        await client.send(noise)
        assert await client.incoming.exactly(len(noise)) == noise


async def test_last_words_reach_the_upstream(upstream: ScriptedUpstream, gateway: Any) -> None:
    """A client may send and leave at once: what it sent arrives, however slowly it is read."""
    words = random.Random(3).randbytes(8 << 20)
    begin = asyncio.Event()
    got = bytearray()
    ended = asyncio.Event()

    async def listen(wire: Wire, seen: Seen) -> None:
        await begin.wait()
        while await wire.incoming.fill():
            await asyncio.sleep(0)
        got.extend(wire.incoming.buffer)
        ended.set()

    upstream.read_body = False
    upstream.answer = [AGREED, listen]
    async with connected(gateway.front_port) as client:
        await client.send(UPGRADE)
        await client.head()
        client.writer.write(words)
        begin.set()
        client.writer.close()
        await asyncio.wait_for(ended.wait(), 15)
    assert len(got) == len(words)
    assert got == words


@pytest.mark.parametrize("together", [True, False], ids=["with the 101", "after it"])
async def test_a_client_that_does_not_read_stops_the_upstream(
    upstream: ScriptedUpstream, gateway: Any, together: bool
) -> None:
    """What waits in between is bounded: sockets' buffers and little more."""
    sent = 0

    async def flood(wire: Wire, seen: Seen) -> None:
        nonlocal sent
        while True:
            await wire.send(bytes(1 << 16))
            sent = wire.sent_bytes

    upstream.read_body = False
    upstream.answer = [AGREED + bytes(200_000) if together else AGREED, flood]
    async with connected(gateway.front_port, window=4096) as client:
        await client.send(UPGRADE)
        await upstream.request()
        before = -1
        while before != sent or not sent:
            before = sent
            await asyncio.sleep(0.2)
            assert sent < 32 << 20


async def test_an_upstream_that_does_not_read_stops_the_client(upstream: ScriptedUpstream, gateway: Any) -> None:
    """The same the other way round."""
    sent, enough = 0, asyncio.Event()

    async def flood(client: RawClient) -> None:
        nonlocal sent
        while True:
            await client.send(bytes(1 << 16))
            sent += 1 << 16

    upstream.read_body = False
    upstream.answer = [AGREED, enough, End.CLOSE]
    async with connected(gateway.front_port) as client:
        await client.send(UPGRADE)
        await client.head()
        flooding = asyncio.create_task(flood(client))
        before = -1
        while before != sent or not sent:
            before = sent
            await asyncio.sleep(0.2)
            assert sent < 32 << 20
        flooding.cancel()
        enough.set()
        assert await client.incoming.rest() == b""


async def test_a_conversation_is_recorded_when_it_is_over(upstream: ScriptedUpstream, serve: Serve) -> None:
    """One call, its status 101, its bytes both ways; nobody can price it, so that it costs nothing."""
    gateway = await serve()
    upstream.read_body = False
    upstream.answer = [AGREED + b"12345", lambda wire, seen: wire.incoming.exactly(3), End.CLOSE]
    async with connected(gateway.front_port) as client:
        await client.send(UPGRADE)
        await client.see(b"12345")
        await client.send(b"678")
        await client.incoming.rest()
    (record,) = await records(gateway.admin_url)
    assert (record["status"], record["outcome"], record["cost_nanousd"]) == (101, "completed", 0)
    assert (record["request_bytes"], record["response_bytes"]) == (3, 5)


async def test_an_upstream_that_breaks_the_handshake_off_is_a_clean_502(
    upstream: ScriptedUpstream, gateway: Any
) -> None:
    """As for any other request."""
    upstream.answer = [End.CLOSE]
    async with connected(gateway.front_port) as client:
        assert (await client.ask(UPGRADE)).status == 502
