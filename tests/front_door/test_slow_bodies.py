"""Clients that stop in the middle of a request's body: how long that is borne with, and whose fault it is not."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.front_door.conftest import Serve
from tests.harness.gateways import record_of
from tests.harness.messages import Body, framing_of, pieces_of, request, response
from tests.harness.raw_client import RawClient, connected
from tests.harness.rows import CHAT, PLAIN
from tests.harness.scripted import ScriptedUpstream, Seen, Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_S = 0.4
LIMIT = {"body_timeout": f"{LIMIT_S}s"}
PATHS = {"read whole": "/v1/chat/completions", "streamed on": "/v1/files", "of Anthropic": "/v1/messages"}
each_path = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
each_framing = pytest.mark.parametrize("chunked", [False, True], ids=["of known length", "chunked"])


def begun(path: str, *, chunked: bool, size: int = 10_000) -> bytes:
    """A request up to some bytes of its body."""
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
    piece = b"64\r\n%b\r\n" % bytes(100) if chunked else bytes(100)
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (path.encode(), framing) + piece


@each_framing
@each_path
async def test_a_body_that_stalls_is_a_408(upstream: ScriptedUpstream, serve: Serve, path: str, chunked: bool) -> None:
    """In the dialect of the route, for no SDK to repeat; connection and upstream are let go, and the books know."""
    gateway = await serve(front=LIMIT)
    upstream.read_body = False
    upstream.answer = [asyncio.Event()]
    async with connected(gateway.front_port) as client:
        began = time.monotonic()
        await client.send(begun(path, chunked=chunked))
        answer = await client.answer("POST")
        assert LIMIT_S * 0.9 < time.monotonic() - began < 10 * LIMIT_S
        assert (answer.status, answer.head.reason) == (408, b"Request Timeout")
        assert answer.head.value(b"x-should-retry") == b"false"
        assert answer.head.value(b"connection") == b"close"
        error = json.loads(answer.body.content)["error"]
        assert error["type"] == "invalid_request_error"
        assert "0.4 s" in error["message"]
        assert "messages" in path or error["code"] == "body_timeout"
    record = await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert (record["status"], record["error_type"], record["cost_usd"]) == (408, "body_timeout", "0.00")
    assert not gateway.handle.active
    assert all(pool.busy == 0 for pool in gateway.snapshot.pools.values())


async def test_the_frame_of_a_chunk_is_no_piece_of_a_body(serve: Serve) -> None:
    """With its digits alone a connection is not kept; and who still sends when it is told so can read that."""
    gateway = await serve(front=LIMIT)
    async with connected(gateway.front_port) as client:
        await client.send(begun("/v1/chat/completions", chunked=True))
        for _ in range(8):
            await asyncio.sleep(LIMIT_S / 4)
            client.writer.write(b"0")
        assert (await client.answer("POST")).status == 408
        async with asyncio.timeout(5):
            assert await client.incoming.rest() == b""
        assert not gateway.handle.active


@each_framing
@each_path
async def test_a_body_that_keeps_coming_is_waited_for(
    upstream: ScriptedUpstream, serve: Serve, path: str, chunked: bool
) -> None:
    """However long it takes in all."""
    gateway = await serve(front=LIMIT)
    upstream.answer = [PLAIN]
    pieces = [CHAT[at : at + 12] for at in range(0, len(CHAT), 12)]
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(CHAT)
    began = time.monotonic()
    async with connected(gateway.front_port) as client:
        await client.send(b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (path.encode(), framing))
        for piece in pieces:
            await asyncio.sleep(LIMIT_S / 4)
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            await client.send(b"0\r\n\r\n")
        assert (await client.answer("POST")).status == 200
        assert time.monotonic() - began > 1.5 * LIMIT_S
        assert (await client.ask(request("GET", "/v1/models"))).status == 200
    assert upstream.seen[0].body.content == CHAT


@each_framing
async def test_an_upstream_that_holds_an_upload_up_is_not_the_client_s_fault(
    upstream: ScriptedUpstream, serve: Serve, chunked: bool
) -> None:
    """While it does not read, the client could not send if it would."""
    gateway = await serve(front=LIMIT)
    begin = asyncio.Event()
    upstream.read_body = False
    size, block = 32, bytes(1_000_000)

    async def count(wire: Wire, seen: Seen) -> None:
        body = Body(framing_of(seen.head, request=True))
        read = [len(piece) async for piece in pieces_of(wire.incoming, seen.head, body)]
        await wire.send(response(200, body=b"%d" % sum(read)))

    async def send(client: RawClient) -> bytes:
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (size * len(block))
        await client.send(b"POST /v1/files HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        for _ in range(size):
            await client.send(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        if chunked:
            await client.send(b"0\r\n\r\n")
        return (await client.answer("POST")).body.content

    upstream.answer = [begin, count]
    async with connected(gateway.front_port) as client:
        sending = asyncio.create_task(send(client))
        await upstream.request()
        done, _ = await asyncio.wait([sending], timeout=4 * LIMIT_S)
        assert not done
        begin.set()
        assert await sending == b"%d" % (size * len(block))


async def test_a_body_that_stalls_after_the_answer_began_ends_both(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Nothing can be said any more: the answer is seen to break off, and the upstream is let go."""
    gateway = await serve(front=LIMIT)
    upstream.read_body = False
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun"
    upstream.answer = [head, asyncio.Event()]
    async with connected(gateway.front_port) as client:
        await client.send(begun("/v1/files", chunked=False))
        answer = await client.answer("POST")
        assert (answer.status, answer.body.content, answer.body.whole) == (200, b"begun", False)
    record = await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert record["outcome"] == "client_disconnected"


async def test_an_open_websocket_has_no_body_to_be_late_with(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Silence on it is nobody's fault."""
    gateway = await serve(front=LIMIT)
    upstream.answer = [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        lambda wire, seen: wire.incoming.exactly(6),
        b"\x81\x02ok",
    ]
    fields = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))
    async with connected(gateway.front_port) as client:
        await client.send(request("GET", "/v1/realtime?model=gpt-realtime", *fields, ("Sec-WebSocket-Version", "13")))
        assert (await client.answer()).status == 101
        await asyncio.sleep(3 * LIMIT_S)
        await client.send(b"\x81\x80abcd")
        await client.see(b"\x81\x02ok")
