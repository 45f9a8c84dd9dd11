"""Streams: each event leaves when it came. The script releases the next one only after the client has the last one."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import pytest

from tests.harness.messages import chunked, request
from tests.harness.raw_client import RawClient, connected
from tests.harness.rows import CHAT
from tests.harness.scripted import End, Script, ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
DELTA = b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n'
EVENTS = {
    "usual": [*(DELTA % each for each in range(5)), b"data: [DONE]\n\n"],
    "comments and keep-alives": [
        b": hello\n\n",
        b":\n\n",
        DELTA % 1,
        b": OPENROUTER PROCESSING\n\n",
        b"\n",
        b"data: [DONE]\n\n",
    ],
    "no last line end": [DELTA % 1, b'data: {"choices":[]}'],
    "no DONE": [DELTA % 1, DELTA % 2],
    "carriage returns": [b"data: 1\r\n\r\n", b"data: 2\r\r", b"id: 3\rdata: 3\n\n"],
    "characters split": [
        b'data: {"choices":[{"delta":{"content":"\xe2',
        b"\x82",
        b"\xac \xf0\x9f",
        b'\x98\x80"}}]}\n\n',
    ],
    "events split": [b"da", b"ta:", b" {", b'"choices":[]', b"}\n", b"\n", b"data: [DO", b"NE]", b"\n\n"],
    "no events at all": [b"not", b" an", b"\x00event\xff"],
    "byte by byte": [b"%c" % each for each in b'data: {"a":1}\n\ndata: [DONE]\n\n'],
    "an error midway": [DELTA % 1, b'data: {"error":{"message":"overloaded","code":529}}\n\n'],
}


def gated(pieces: list[bytes], gates: list[asyncio.Event], *, sized: bool = False) -> Script:
    """The pieces as chunks (or plain), each but the first behind its gate."""
    script: list[bytes | asyncio.Event] = []
    for piece, gate in zip(pieces, gates, strict=True):
        script += [piece if sized else b"%x\r\n%b\r\n" % (len(piece), piece), gate]
    return script


async def follow(client: RawClient, pieces: list[bytes], gates: list[asyncio.Event]) -> None:
    """See every piece before the next one is released."""
    seen, released = b"", 0
    for piece, gate in zip(pieces, gates, strict=True):
        released += len(piece)
        while len(seen) < released:
            size = int((await client.incoming.through(b"\r\n"))[:-2], 16)
            seen += await client.incoming.exactly(size)
            assert await client.incoming.exactly(2) == b"\r\n"
        gate.set()
    assert seen == b"".join(pieces)


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/up/v1/new/endpoint", "/anthropic/v1/messages"])
@pytest.mark.parametrize("pieces", EVENTS.values(), ids=EVENTS)
async def test_each_piece_arrives_before_the_next_is_sent(
    upstream: ScriptedUpstream, gateway: Any, pieces: list[bytes], target: str
) -> None:
    """No buffering, no waiting for a line, an event or a character to be whole."""
    gates = [asyncio.Event() for _ in pieces]
    upstream.answer = [CHUNKED, *gated(pieces, gates), b"0\r\n\r\n"]
    async with connected(gateway.front_port) as client:
        await client.send(request("POST", target, body=CHAT))
        assert (await client.head()).status == 200
        await follow(client, pieces, gates)
        assert await client.incoming.exactly(5) == b"0\r\n\r\n"


async def test_a_head_arrives_before_its_first_event(upstream: ScriptedUpstream, gateway: Any) -> None:
    """A model may think for minutes after 200."""
    gate = asyncio.Event()
    upstream.answer = [CHUNKED, gate, chunked(DELTA % 1)]
    async with connected(gateway.front_port) as client:
        await client.send(request("POST", "/v1/chat/completions", body=CHAT))
        assert (await client.head()).status == 200
        gate.set()
        await client.see(DELTA % 1)


@pytest.mark.parametrize("ending", ["length", "eof"])
async def test_a_stream_needs_no_chunks(upstream: ScriptedUpstream, gateway: Any, ending: str) -> None:
    """One with a length, or one that ends with its connection, is passed on piece by piece all the same."""
    pieces = [DELTA % each for each in range(4)]
    gates = [asyncio.Event() for _ in pieces]
    length = b"Content-Length: %d\r\n\r\n" % sum(map(len, pieces)) if ending == "length" else b"\r\n"
    upstream.answer = [HEAD + length, *gated(pieces, gates, sized=True), End.CLOSE]
    async with connected(gateway.front_port) as client:
        await client.send(request("POST", "/v1/chat/completions", body=CHAT))
        await client.head()
        for piece, gate in zip(pieces, gates, strict=True):
            await client.see(piece)
            gate.set()


async def test_a_compressed_stream_is_not_held_back(upstream: ScriptedUpstream, gateway: Any) -> None:
    """The gateway reads a copy; the client gets each flushed block at once."""
    press = zlib.compressobj(wbits=31)
    pieces = [press.compress(DELTA % each) + press.flush(zlib.Z_SYNC_FLUSH) for each in range(5)]
    gates = [asyncio.Event() for _ in pieces]
    upstream.answer = [
        HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
        *gated(pieces, gates),
        b"0\r\n\r\n",
    ]
    async with connected(gateway.front_port) as client:
        await client.send(request("POST", "/v1/chat/completions", body=CHAT))
        await client.head()
        await follow(client, pieces, gates)


async def test_json_that_dribbles_is_let_go(upstream: ScriptedUpstream, gateway: Any) -> None:
    """An answer may be kept back for its cost header, but not for ever: some providers send white space to stay alive."""
    gate = asyncio.Event()
    upstream.answer = [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n",
        gate,
        chunked(b'{"choices":[]}'),
    ]
    async with connected(gateway.front_port) as client:
        await client.send(request("POST", "/v1/chat/completions", body=CHAT))
        head = await client.head()
        await client.see(b"1\r\n \r\n")
        gate.set()
        await client.see(b"0\r\n\r\n")
        assert head.value(b"x-tollgate-call-id")


async def test_many_streams_run_side_by_side(upstream: ScriptedUpstream, gateway: Any) -> None:
    """Fifty streams, released event by event in turn: none waits for another."""
    rounds = [asyncio.Event() for _ in range(4)]
    pieces = [DELTA % each for each in range(4)]
    upstream.answer = [CHUNKED, *gated(pieces, rounds), b"0\r\n\r\n"]

    async def one(arrived: list[asyncio.Semaphore]) -> None:
        async with connected(gateway.front_port) as client:
            await client.send(request("POST", "/v1/chat/completions", body=CHAT))
            for piece, semaphore in zip(pieces, arrived, strict=True):
                await client.see(piece)
                semaphore.release()
            await client.see(b"0\r\n\r\n")

    counts = [asyncio.Semaphore(0) for _ in rounds]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(one(counts))
        for count, gate in zip(counts, rounds, strict=True):
            for _ in range(50):
                await count.acquire()
            gate.set()
