"""Receivers that answer oddly: what was taken is taken once, and no answer costs memory, time or a secret."""

from __future__ import annotations

import asyncio
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.observe.exporter import Away, Refused
from gateway.observe.mlflow import Mlflow
from gateway.observe.otel_env import Receiver
from gateway.observe.transports import Post

MANY = 64 << 20
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that reads heads of requests, and answers as it is told. Gives its address and the heads."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await answer(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        server.close()


def saying(text: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return answer


async def send(url: str, timeout_s: float = 5, headers: tuple[tuple[str, str], ...] = ()) -> None:
    post = Post(Receiver(f"{url}/v1/traces", "http/protobuf", timeout_s, False, "", headers))
    try:
        await post.send(b"spans")
    finally:
        await post.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """A POST would become a GET that says 200 and takes nothing; and another host would get the keys in our headers."""
    async with answering(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as (elsewhere, got):
        moved = b"HTTP/1.1 %d Moved\r\nLocation: %b/x\r\nContent-Length: 0\r\n\r\n" % (status, elsewhere.encode())
        async with answering(saying(moved)) as (url, _):
            with pytest.raises(Refused, match=f"status {status}"):
                await send(url, headers=(("x-key", "canary"),))
            mlflow = Mlflow(url, "production", "", "canary")
            with pytest.raises(Refused, match=f"status {status}"):
                await mlflow.send(b"spans")
            await mlflow.close()
    assert got == []


@pytest.mark.parametrize("length", [b"Content-Length: 9\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n9\r\n{"])
async def test_what_was_taken_is_not_sent_again_because_the_rest_of_the_answer_is_lost(length: bytes) -> None:
    """The status says it; receivers would show the calls twice."""
    async with answering(saying(b"HTTP/1.1 200 OK\r\n" + length)) as (url, heads):
        await send(url)
    assert len(heads) == 1


async def test_an_answer_that_never_ends_is_not_waited_for() -> None:
    """The next spans wait behind it."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with answering(drip) as (url, _), asyncio.timeout(30):
        await send(url, timeout_s=60)


async def test_a_huge_answer_takes_no_memory() -> None:
    """Neither as it is nor unpacked."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(MANY >> 20)) + packer.flush()
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    long = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MANY

    async def flood(writer: asyncio.StreamWriter) -> None:
        writer.write(long)
        for _ in range(MANY >> 16):
            writer.write(bytes(1 << 16))
            await writer.drain()

    for answer in (saying(head % len(bomb) + bomb), flood):
        async with answering(answer) as (url, _):
            tracemalloc.start()
            try:
                await send(url)
                assert tracemalloc.get_traced_memory()[1] < 4 << 20
            finally:
                tracemalloc.stop()


@pytest.mark.parametrize("pause", ["²", "", "Wed, 21 Oct 2026 07:28:00 GMT", "-1"])
async def test_a_pause_that_is_no_number_is_none(pause: str) -> None:
    """And what asked for it is tried again all the same."""
    text = b"HTTP/1.1 503 No\r\nRetry-After: " + pause.encode() + b"\r\nContent-Length: 0\r\n\r\n"
    async with answering(saying(text)) as (url, _):
        with pytest.raises(Away) as caught:
            await send(url)
    assert caught.value.pause_s == 0


@pytest.mark.parametrize("text", [b"<html>", b'{"experiment":', b"[]", b"{}"])
async def test_an_experiment_that_is_told_in_nonsense_is_asked_for_again(text: bytes) -> None:
    """A server that starts, or a connection that broke: the spans that wait for it are not lost."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text)
    async with answering(saying(head + text)) as (url, _):
        mlflow = Mlflow(url, "production", "", "")
        with pytest.raises(Away):
            await mlflow.send(b"spans")
        await mlflow.close()
