"""Endings: who left, what the other side then sees, what the record says, and that the gateway lives on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.front_door.conftest import Serve
from tests.harness.gateways import free_port, record_of, records
from tests.harness.messages import CutOff, request, response
from tests.harness.raw_client import Answer, ask, connected
from tests.harness.rows import CHAT, PLAIN
from tests.harness.scripted import End, Script, ScriptedUpstream, Seen, Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"model":"gpt-4o-mini","choices":[{"delta":{"content":"word "}}]}\n\n'
USAGE = b'data: {"model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}}\n\n'
DONE = b"data: [DONE]\n\n"
ROUTES = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "unmetered": "/up/v1/anything"}


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def error_of(answer: Answer, route: str) -> dict[str, Any]:
    """The error object, checked to be in the dialect of the route."""
    body = json.loads(answer.body.content)
    error: dict[str, Any] = body["error"]
    assert answer.head.value(b"content-type") == b"application/json"
    assert answer.head.value(b"x-tollgate-call-id")
    assert answer.head.value(b"x-should-retry") in (b"true", b"false")
    assert error["message"]
    if route == "anthropic":
        assert body["type"] == "error"
        assert error["type"] == "api_error"
    else:
        assert error["type"] == "upstream_error"
    return error


async def still_serves(upstream: ScriptedUpstream, gateway: Any) -> None:
    upstream.answer, upstream.greeting = [PLAIN], ()
    assert (await ask(gateway.front_port, request("GET", "/v1/models"))).body.content == b"answer"


# -- the client leaves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_midway_takes_the_upstream_with_it(
    upstream: ScriptedUpstream, gateway: Any, route: str, how: str
) -> None:
    """Under ``cancel`` the provider stops generating at once; what was delivered is charged."""
    upstream.answer = [CHUNKED, chunk(EVENT), asyncio.Event()]
    async with connected(gateway.front_port) as client:
        await client.send(request("POST", route, body=CHAT))
        head = await client.head()
        await client.see(EVENT)
        if how == "reset":
            client.reset()
    seen = await upstream.request()
    await asyncio.wait_for(seen.gone.wait(), 10)
    record = await record_of(gateway.admin_url, head.value(b"x-tollgate-call-id"))
    assert record["outcome"] == "client_disconnected"
    if route == ROUTES["openai"]:
        assert record["usage_source"] in ("counted", "estimated")
        assert record["cost_nanousd"] > 0
    await still_serves(upstream, gateway)


@pytest.mark.parametrize("when", ["before the head", "while a body is sent"])
async def test_a_client_that_leaves_early_takes_the_upstream_with_it(
    upstream: ScriptedUpstream, serve: Serve, when: str
) -> None:
    """Nothing was answered yet: the upstream is told all the same, and there is a record."""
    gateway = await serve()
    upstream.answer = [asyncio.Event()]
    upstream.read_body = when == "before the head"
    async with connected(gateway.front_port) as client:
        if upstream.read_body:
            await client.send(request("POST", "/v1/chat/completions", body=CHAT))
        else:
            await client.send(b"PUT /up/v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this")
        seen = await upstream.request()
    if upstream.read_body:
        await asyncio.wait_for(seen.gone.wait(), 10)
    else:
        assert await asyncio.wait_for(upstream.wires[seen.connection].incoming.rest(), 10) == b"only this"
    assert (await records(gateway.admin_url))[0]["outcome"] == "client_disconnected"
    upstream.read_body = True
    await still_serves(upstream, gateway)


async def test_drain_reads_on_to_the_usage(upstream: ScriptedUpstream, serve: Serve) -> None:
    """``on_disconnect: drain``: the provider's own count is what is charged."""
    gateway = await serve(metering={"on_disconnect": "drain"})
    gate = asyncio.Event()
    upstream.answer = [CHUNKED, chunk(EVENT), gate, chunk(EVENT), chunk(USAGE), chunk(DONE), b"0\r\n\r\n"]
    async with connected(gateway.front_port) as client:
        await client.send(request("POST", ROUTES["openai"], body=CHAT))
        head = await client.head()
        await client.see(EVENT)
    gate.set()
    record = await record_of(gateway.admin_url, head.value(b"x-tollgate-call-id"))
    assert record["outcome"] == "client_disconnected"
    assert record["usage_source"] == "provider"
    assert (record["usage"]["input"], record["usage"]["output"]) == (9, 7)


@pytest.mark.parametrize("cap", ["time", "bytes"])
async def test_drain_has_caps(upstream: ScriptedUpstream, serve: Serve, cap: str) -> None:
    """A provider that never ends does not hold the gateway: time and bytes are bounded, and the call is charged."""
    caps = {"drain_timeout": "1s"} if cap == "time" else {"drain_max_mb": 1}

    async def flood(wire: Wire, seen: Seen) -> None:
        while cap == "bytes":
            await wire.send(chunk(EVENT * 100))
        await asyncio.Event().wait()

    gateway = await serve(metering={"on_disconnect": "drain"} | caps)
    upstream.answer = [CHUNKED, chunk(EVENT), flood]
    async with connected(gateway.front_port) as client:
        await client.send(request("POST", ROUTES["openai"], body=CHAT))
        head = await client.head()
        await client.see(EVENT)
    seen = await upstream.request()
    await asyncio.wait_for(seen.gone.wait(), 10)
    record = await record_of(gateway.admin_url, head.value(b"x-tollgate-call-id"))
    assert record["outcome"] == "client_disconnected"
    assert record["cost_nanousd"] > 0


# -- the upstream fails before anything was sent --------------------------------------------------------------------------

GARBAGE: dict[str, Script] = {
    "closed at once": [End.CLOSE],
    "reset at once": [End.RESET],
    "closed within the head": [b"HTTP/1.1 200 OK\r\nContent-", End.CLOSE],
    "reset within the head": [b"HTTP/1.1 200 OK\r\nContent-", End.RESET],
    "not HTTP": [b"SSH-2.0-OpenSSH_9.2\r\n", End.CLOSE],
    "binary": [bytes(range(256)), End.CLOSE],
    "HTTP/2 preface": [b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", End.CLOSE],
    "no version": [b"200 OK\r\n\r\n", End.CLOSE],
    "a status of two digits": [b"HTTP/1.1 20 OK\r\n\r\n", End.CLOSE],
    "a status of letters": [b"HTTP/1.1 abc OK\r\n\r\n", End.CLOSE],
    "space before colon": [b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", End.CLOSE],
    "two lengths": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", End.CLOSE],
    "length and chunks": [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        End.CLOSE,
    ],
    "a length of letters": [b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", End.CLOSE],
    "a negative length": [b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", End.CLOSE],
    "an unknown coding": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", End.CLOSE],
    "a coding beside the chunks": [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        asyncio.Event(),
    ],
    "a NUL in a field": [b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n", End.CLOSE],
    "a bad first chunk": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", End.CLOSE],
    "only an interim head": [b"HTTP/1.1 103 Early Hints\r\n\r\n", End.CLOSE],
    "a protocol that nobody asked for": [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nxxx", End.CLOSE],
}


@pytest.mark.parametrize("route", ["openai", "anthropic"])
@pytest.mark.parametrize("script", GARBAGE.values(), ids=GARBAGE)
async def test_an_upstream_that_makes_no_sense_is_a_clean_502(
    upstream: ScriptedUpstream, gateway: Any, script: Script, route: str
) -> None:
    """One JSON error in the dialect of the route, nothing of the garbage in it, and the next call is served."""
    upstream.answer = script
    async with connected(gateway.front_port) as client:
        await client.send(request("POST", ROUTES[route], body=CHAT))
        answer = await client.answer("POST")
        assert answer.status == 502
        error = error_of(answer, route)
        assert error["code"] in ("upstream_reset", "upstream_unreadable")
        assert "SSH" not in error["message"]
    record = await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert (record["outcome"], record["status"], record["cost_nanousd"]) == ("upstream_error", 502, 0)
    await still_serves(upstream, gateway)


@pytest.mark.parametrize("route", ["openai", "anthropic"])
@pytest.mark.parametrize("place", ["refused", "no such name"])
async def test_an_upstream_that_is_not_there_is_a_clean_502(serve: Serve, route: str, place: str) -> None:
    """Refused or not to be found; the address stays the operator's secret."""
    port = free_port()
    gateway = await serve(f"http://127.0.0.1:{port}" if place == "refused" else "http://name.invalid")
    answer = await ask(gateway.front_port, request("POST", ROUTES[route], body=CHAT))
    assert answer.status == 502
    error = error_of(answer, route)
    assert error["code"] == "upstream_unreachable"
    assert str(port) not in error["message"]
    assert "name.invalid" not in error["message"]
    record = await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert record["cost_nanousd"] == 0


@pytest.mark.parametrize("route", ["openai", "anthropic"])
async def test_an_upstream_that_never_answers_is_a_504(upstream: ScriptedUpstream, serve: Serve, route: str) -> None:
    """``first_byte_timeout`` ends the wait, and the upstream is told."""
    gateway = await serve(up={"first_byte_timeout": "50ms"})
    upstream.answer = [asyncio.Event()]
    answer = await ask(gateway.front_port, request("POST", ROUTES[route], body=CHAT))
    assert answer.status == 504
    assert error_of(answer, route)["code"] == "upstream_timeout"
    await asyncio.wait_for((await upstream.request()).gone.wait(), 10)


async def test_an_upload_that_takes_its_time_is_no_late_answer(upstream: ScriptedUpstream, serve: Serve) -> None:
    """``first_byte_timeout`` begins anew with each piece of a body that is passed on as it comes."""
    gateway = await serve(up={"first_byte_timeout": "400ms"})
    upstream.answer = [PLAIN]
    async with connected(gateway.front_port) as client:
        await client.send(b"PUT /up/v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")
        for _ in range(12):
            await client.send(b"x")
            await asyncio.sleep(0.05)
        assert (await client.answer("PUT")).status == 200
        upstream.answer = [asyncio.Event()]
        await client.send(b"PUT /up/v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")
        await client.send(b"x" * 12)
        assert (await client.answer("PUT")).status == 504


async def test_interim_heads_do_not_count_as_an_answer(upstream: ScriptedUpstream, serve: Serve) -> None:
    """An upstream that sends 103 and then falls silent runs into ``first_byte_timeout`` as well."""
    gateway = await serve(up={"first_byte_timeout": "50ms"})
    upstream.answer = [b"HTTP/1.1 103 Early Hints\r\n\r\n", asyncio.Event()]
    answer = await ask(gateway.front_port, request("POST", ROUTES["openai"], body=CHAT))
    assert ([head.status for head in answer.interim], answer.status) == ([103], 504)


# -- the upstream fails after something was sent --------------------------------------------------------------------------

BROKEN: dict[str, Script] = {
    "length, closed": [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome", End.CLOSE],
    "length, reset": [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome", 0.05, End.RESET],
    "chunks, closed": [CHUNKED, chunk(b"some"), End.CLOSE],
    "chunks, reset": [CHUNKED, chunk(b"some"), 0.05, End.RESET],
    "within a chunk": [CHUNKED, chunk(b"so") + b"a\r\nme", End.CLOSE],
    "a bad chunk size": [CHUNKED, chunk(b"some"), 0.05, b"zz\r\nmore\r\n", asyncio.Event()],
    "a chunk without an end": [CHUNKED, chunk(b"some"), 0.05, b"2\r\nabXX", asyncio.Event()],
    "before the trailers end": [CHUNKED, chunk(b"some"), b"0\r\nX-T: 1\r\n", End.CLOSE],
    "half closed": [CHUNKED, chunk(b"some"), End.HALF_CLOSE, asyncio.Event()],
}


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
async def test_an_answer_that_breaks_off_is_seen_to_break_off(
    upstream: ScriptedUpstream, gateway: Any, script: Script, route: str
) -> None:
    """The bytes that came are passed on; the end that did not come is not made up."""
    upstream.answer = script
    answer = await ask(gateway.front_port, request("POST", route, body=CHAT))
    assert answer.status == 200
    assert answer.body.content[:4] == b"some"
    assert not answer.body.whole
    record = await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert record["outcome"] == "upstream_error"
    await still_serves(upstream, gateway)


async def test_a_stream_that_falls_silent_is_broken_off(upstream: ScriptedUpstream, serve: Serve) -> None:
    """``idle_timeout``: too late for a 504, so the client sees a break; the upstream is told."""
    gateway = await serve(up={"idle_timeout": "80ms"})
    upstream.answer = [CHUNKED, chunk(EVENT), asyncio.Event()]
    answer = await ask(gateway.front_port, request("POST", ROUTES["openai"], body=CHAT))
    assert not answer.body.whole
    assert EVENT in answer.body.content or answer.body.chunks == [EVENT]
    record = await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert record["error_type"] == "upstream_timeout"
    await asyncio.wait_for((await upstream.request()).gone.wait(), 10)


async def test_a_slow_stream_is_not_silent(upstream: ScriptedUpstream, serve: Serve) -> None:
    """``idle_timeout`` counts from the last byte, not from the first; there is no limit on the whole."""
    gateway = await serve(up={"idle_timeout": "300ms", "first_byte_timeout": "300ms"})
    upstream.answer = [CHUNKED, *[step for _ in range(8) for step in (chunk(b": alive\n\n"), 0.06)], b"0\r\n\r\n"]
    answer = await ask(gateway.front_port, request("POST", ROUTES["openai"], body=CHAT))
    assert answer.body.whole
    assert len(b"".join(answer.body.chunks)) == 8 * len(b": alive\n\n")


async def test_a_break_reaches_an_old_client_as_a_reset(upstream: ScriptedUpstream, gateway: Any) -> None:
    """To HTTP/1.0 a body ends with its connection; only a reset tells a cut one from a whole one."""
    upstream.answer = [CHUNKED, chunk(b"some"), 0.05, End.RESET]
    async with connected(gateway.front_port) as client:
        await client.send(request("GET", "/v1/files/x").replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = await client.answer()
        assert answer.body.ended == "reset"


async def test_an_early_answer_ends_an_upload(upstream: ScriptedUpstream, gateway: Any) -> None:
    """An upstream may refuse a body before it has it all (413, 401); the client learns of it and nothing hangs."""
    upstream.read_body = False
    upstream.answer = [response(401, reason="Unauthorized", body=b"no"), End.CLOSE]
    async with connected(gateway.front_port) as client:
        await client.send(b"PUT /up/v1/files HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        answer = await client.answer("PUT")
        assert (answer.status, answer.body.content) == (401, b"no")
        with pytest.raises((CutOff, ConnectionError)):
            await client.ask(request("GET", "/v1/models"))
