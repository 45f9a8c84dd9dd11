"""Large bodies: a hundred megabytes either way, unchanged, through a process that does not grow by them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.harness.gateways import GatewayProcess, record_of, records
from tests.harness.messages import Body, framing_of, pieces_of, request, response
from tests.harness.raw_client import RawClient, ask, connected
from tests.harness.rows import CHAT
from tests.harness.scripted import End, ScriptedUpstream, Seen, Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

Spawn = Callable[..., Awaitable[GatewayProcess]]

BLOCK = 1_000_000
BLOCKS = 100
MOST_GROWTH_KB = 30_000
NOISE = random.Random(0).randbytes(BLOCK)
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def blocks(count: int = BLOCKS) -> Iterator[bytes]:
    """The body: blocks of noise, no two alike, so that one lost, doubled or out of its place would show."""
    for number in range(count):
        yield b"%016d" % number + NOISE[16:]


def digest_of(count: int = BLOCKS) -> str:
    """What its hash must be."""
    digest = hashlib.sha256()
    for block in blocks(count):
        digest.update(block)
    return digest.hexdigest()


async def hash_upload(wire: Wire, seen: Seen) -> None:
    """A step of a script: read the request's body without keeping it, and answer with its hash and size."""
    digest, size = hashlib.sha256(), 0
    async for piece in pieces_of(wire.incoming, seen.head, Body(framing_of(seen.head, request=True))):
        digest.update(piece)
        size += len(piece)
    await wire.send(response(200, body=f"{digest.hexdigest()} {size}".encode()))


def pour(count: int, *, chunked: bool) -> Callable[[Wire, Seen], Awaitable[None]]:
    """A step of a script: an answer of so many blocks."""

    async def step(wire: Wire, seen: Seen) -> None:
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (count * BLOCK)
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n" + framing + b"\r\n\r\n")
        for block in blocks(count):
            await wire.send(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        if chunked:
            await wire.send(b"0\r\n\r\n")

    return step


async def hash_download(client: RawClient) -> tuple[str, int]:
    """Hash and size of the next answer's body, which is not kept."""
    digest, size = hashlib.sha256(), 0
    head = await client.head()
    assert head.status == 200
    body = Body("chunked" if head.is_chunked else "length")
    async for piece in pieces_of(client.incoming, head, body):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


async def upload(client: RawClient, count: int, *, chunked: bool) -> tuple[str, int]:
    """Send the body to /v1/files; what the upstream says that it got."""
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (count * BLOCK)
    await client.send(b"POST /v1/files HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
    for block in blocks(count):
        await client.send(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
    if chunked:
        await client.send(b"0\r\n\r\n")
    digest, _, size = (await client.answer("POST")).body.content.partition(b" ")
    return digest.decode(), int(size)


@pytest.mark.parametrize("chunked", [False, True], ids=["of known length", "chunked"])
async def test_a_large_upload_passes_and_leaves_no_trace(
    upstream: ScriptedUpstream, spawn: Spawn, chunked: bool
) -> None:
    """Not gathered, not copied aside: the process stays as small as it was."""
    gateway = await spawn()
    upstream.read_body = False
    upstream.answer = [hash_upload]
    async with connected(gateway.front_port) as client:
        await upload(client, 4, chunked=chunked)
        before = gateway.peak_kb
        assert await upload(client, BLOCKS, chunked=chunked) == (digest_of(), BLOCKS * BLOCK)
    assert gateway.peak_kb - before < MOST_GROWTH_KB


@pytest.mark.parametrize("chunked", [False, True], ids=["of known length", "chunked"])
async def test_a_large_download_passes_and_leaves_no_trace(
    upstream: ScriptedUpstream, spawn: Spawn, chunked: bool
) -> None:
    """The same the other way; the record knows its size."""
    gateway = await spawn()
    async with connected(gateway.front_port) as client:
        for count in (4, BLOCKS):
            upstream.answer = [pour(count, chunked=chunked)]
            before = gateway.peak_kb
            await client.send(request("GET", "/v1/files/x/content"))
            assert await hash_download(client) == (digest_of(count), count * BLOCK)
    assert gateway.peak_kb - before < MOST_GROWTH_KB


async def test_a_reader_that_is_slow_holds_its_upstream_back(upstream: ScriptedUpstream, spawn: Spawn) -> None:
    """While nobody reads nothing is gathered; whoever goes on reading gets it all."""
    gateway = await spawn()
    upstream.answer = [pour(BLOCKS, chunked=False)]
    async with connected(gateway.front_port, window=1 << 16) as client:
        before = gateway.peak_kb
        await client.send(request("GET", "/v1/files/x/content"))
        wire = upstream.wires[(await upstream.request()).connection]
        sent = -1
        while sent != wire.sent_bytes or not sent:
            sent = wire.sent_bytes
            await asyncio.sleep(0.2)
        assert sent < BLOCKS * BLOCK // 2
        assert await hash_download(client) == (digest_of(), BLOCKS * BLOCK)
    assert gateway.peak_kb - before < MOST_GROWTH_KB


@pytest.mark.parametrize("chunked", [False, True], ids=["of known length", "chunked"])
async def test_an_upstream_that_is_slow_holds_its_client_back(
    upstream: ScriptedUpstream, spawn: Spawn, chunked: bool
) -> None:
    """While the upstream does not read the upload waits at the client; in the end it is all there."""
    gateway = await spawn()
    begin = asyncio.Event()
    upstream.read_body = False
    upstream.answer = [begin, hash_upload]
    async with connected(gateway.front_port) as client:
        before = gateway.peak_kb
        uploading = asyncio.create_task(upload(client, BLOCKS, chunked=chunked))
        await upstream.request()
        done, _ = await asyncio.wait([uploading], timeout=0.5)
        assert not done
        assert gateway.peak_kb - before < MOST_GROWTH_KB
        begin.set()
        assert await uploading == (digest_of(), BLOCKS * BLOCK)
    assert gateway.peak_kb - before < MOST_GROWTH_KB


async def test_a_long_metered_stream_is_read_without_being_kept(upstream: ScriptedUpstream, spawn: Spawn) -> None:
    """Twenty megabytes of events with usage at their end: booked to the token, and forgotten on the way."""
    gateway = await spawn()
    event = b'data: {"model":"gpt-4o-mini","choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"word " * 200)
    last = {"model": "gpt-4o-mini", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4_000_000}}
    batch = b"%x\r\n%b\r\n" % (len(event) * 100, event * 100)
    final = f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n".encode()
    upstream.answer = [CHUNKED, *[batch] * 200, b"%x\r\n%b\r\n0\r\n\r\n" % (len(final), final)]
    async with connected(gateway.front_port) as client:
        before = gateway.peak_kb
        await client.send(request("POST", "/v1/chat/completions", body=CHAT))
        head = await client.head()
        size = 0
        async for piece in pieces_of(client.incoming, head, Body("chunked")):
            size += len(piece)
    assert size == len(event) * 100 * 200 + len(final)
    record = await record_of(gateway.admin_url, head.value(b"x-tollgate-call-id"))
    assert (record["usage_source"], record["usage"]["output"]) == ("provider", 4_000_000)
    assert gateway.peak_kb - before < MOST_GROWTH_KB


@pytest.mark.parametrize("target", ["/v1/files", "/v1/chat/completions"], ids=["unmetered", "metered"])
async def test_clients_that_send_slowly_keep_nobody_waiting(
    upstream: ScriptedUpstream, spawn: Spawn, target: str
) -> None:
    """Fifty uploads that have stopped midway; others are served, and in the end the fifty are as well."""
    gateway = await spawn()
    upstream.read_body = False
    upstream.answer = [hash_upload]
    sent = request("POST", target, body=CHAT)
    said = f"{hashlib.sha256(CHAT).hexdigest()} {len(CHAT)}".encode()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(gateway.front_port)) for _ in range(50)]
        for client in clients:
            await client.send(sent[:-20])
        for _ in range(20):
            assert (await ask(gateway.front_port, sent)).body.content == said
        for client in clients:
            await client.send(sent[-20:])
            assert (await client.answer("POST")).body.content == said


@pytest.mark.parametrize("how", [End.CLOSE, End.RESET])
async def test_an_upload_that_has_stalled_hears_of_its_upstream_s_end(
    upstream: ScriptedUpstream, gateway: Any, how: End
) -> None:
    """502 at once, not with the next piece that the client may or may not send; what came of the body is counted."""
    upstream.read_body = False
    upstream.answer = [lambda wire, seen: wire.incoming.exactly(1000), how]
    async with connected(gateway.front_port) as client:
        await client.send(b"PUT /v1/files/x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + bytes(1000))
        answer = await client.answer("PUT")
        assert (answer.status, answer.head.value(b"connection")) == (502, b"close")
        assert json.loads(answer.body.content)["error"]["code"] == "upstream_reset"
    record = await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert (record["outcome"], record["request_bytes"]) == ("upstream_error", 1000)


async def test_a_client_that_is_gone_while_its_upload_is_held_back_is_noticed(
    upstream: ScriptedUpstream, gateway: Any
) -> None:
    """The upstream does not read, so nothing is read of the client, and no event tells of its end."""
    upstream.read_body = False
    never = asyncio.Event()
    upstream.answer = [never]
    before = len(await records(gateway.admin_url))
    async with connected(gateway.front_port) as client:
        await client.send(b"PUT /v1/files/x HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
        seen = await upstream.request()
        flood = asyncio.create_task(client.send(bytes(40_000_000)))
        await asyncio.sleep(0.5)
        assert not flood.done()
        client.reset()
        await asyncio.gather(flood, return_exceptions=True)
        async with asyncio.timeout(10):
            while gateway.handle.active:
                await asyncio.sleep(0.02)
    assert seen.head.value(b"content-length") == b"50000000"
    (record, *_) = await records(gateway.admin_url, before + 1)
    assert record["outcome"] == "client_disconnected"
