"""``metering.stream_usage: ask``, end to end: the provider is asked, the bill is its own, the client sees nothing of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.simulator import Simulator
from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, MINI, TOLD, bill, post, record_after
from tests.harness.messages import request, response
from tests.harness.raw_client import ask
from tests.harness.scripted import End, ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASK = {"metering": {"stream_usage": "ask"}}
STREAM = MINI | {"stream": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """The pretend provider."""
    async with Simulator() as simulator:
        yield simulator


async def test_the_provider_bills_and_the_client_sees_the_stream_it_asked_for(
    provider: Simulator, serve: Serve
) -> None:
    """Bytes and chunks as without the gateway; the books have the provider's own count, and say what was touched."""
    gateway = await serve(provider.url, **ASK)
    direct = await ask(provider.port, post(CHAT, STREAM, "words=30"))
    through = await ask(gateway.front_port, post(CHAT, STREAM, "words=30"))
    assert through.body.content == direct.body.content
    assert through.body.whole
    assert b'"usage"' not in through.body.content
    record = await record_after(gateway, through)
    billed = provider.ledger[-1]
    assert (record["usage_source"], record["cost_nanousd"]) == ("provider", bill(billed))
    assert (record["usage"]["output"], record["touched"]) == (30, ["stream_usage"])


async def test_who_asks_gets_what_was_asked_for(provider: Simulator, serve: Serve) -> None:
    """A caller's own wish goes through as it is, and so does its answer."""
    gateway = await serve(provider.url, **ASK)
    for body in (MINI | TOLD, MINI, STREAM | {"stream_options": {"include_usage": False}}):
        direct = await ask(provider.port, post(CHAT, body))
        through = await ask(gateway.front_port, post(CHAT, body))
        assert through.body.content == direct.body.content
        assert (await record_after(gateway, through))["touched"] == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_the_body_is_the_callers_but_for_the_wish(
    upstream: ScriptedUpstream, serve: Serve, chunked: bool
) -> None:
    """And its length is right, however it was told."""
    gateway = await serve(**ASK)
    upstream.answer = [response(200, body=b"{}")]
    body = b'{ "model": "gpt-4o-mini", "stream": true, "messages": [] }'
    sent = request("POST", CHAT, body=body)
    if chunked:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        sent = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    await ask(gateway.front_port, sent)
    seen = await upstream.request()
    assert seen.body.content == body.replace(b"{", b'{"stream_options":{"include_usage":true},', 1)
    assert seen.head.values(b"content-length") == [b"%d" % len(seen.body.content)]
    assert seen.head.values(b"transfer-encoding") == []


async def test_a_stream_that_breaks_off_shows_all_that_came(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Half an event included: the client sees the same truncation."""
    gateway = await serve(**ASK)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\ndata: {"choi'
    upstream.answer = [head, b"%x\r\n%b\r\n" % (len(piece), piece), End.CLOSE]
    answer = await ask(gateway.front_port, post(CHAT, STREAM))
    assert answer.body.content == b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"choi'
    assert not answer.body.whole
    assert (await record_after(gateway, answer))["usage_source"] == "counted"


async def test_an_error_and_a_compressed_stream_are_not_touched(upstream: ScriptedUpstream, serve: Serve) -> None:
    """What we cannot read we do not change."""
    gateway = await serve(**ASK)
    error: dict[str, Any] = {"error": {"message": "no such stream_options"}, "usage": None}
    upstream.answer = [response(400, ("Content-Type", "application/json"), body=json.dumps(error).encode())]
    assert json.loads((await ask(gateway.front_port, post(CHAT, STREAM))).body.content) == error
    fields = (("Content-Type", "text/event-stream"), ("Content-Encoding", "br"), ("Transfer-Encoding", "chunked"))
    upstream.answer = [response(200, *fields, body=None), b'16\r\nodd "usage":null\n\nbyte\r\n0\r\n\r\n']
    assert (await ask(gateway.front_port, post(CHAT, STREAM))).body.content == b'odd "usage":null\n\nbyte'


@pytest.mark.parametrize(
    ("team", "model", "asked"),
    [
        ("a", "gpt-4o-mini", False),
        ("quiet", "gpt-4o-mini", True),
        ("a", "gpt-5-mini", True),
        ("b", "gpt-4o-mini", False),
    ],
)
async def test_some_calls_do_the_other(provider: Simulator, serve: Serve, team: str, model: str, asked: bool) -> None:
    """By team and by model pattern; an upstream likewise."""
    others = ["team:quiet", "model:gpt-5*"]
    gateway = await serve(provider.url, metering={"stream_usage_except": others})
    answer = await ask(gateway.front_port, post(CHAT, STREAM | {"model": model}, "", ("x-tollgate-team", team)))
    record = await record_after(gateway, answer)
    assert (record["touched"] == ["stream_usage"], record["usage_source"] == "provider") == (asked, asked)


async def test_an_upstream_may_do_the_other(provider: Simulator, serve: Serve) -> None:
    """One that does not know ``stream_options`` is left alone."""
    gateway = await serve(provider.url, metering={"stream_usage": "ask", "stream_usage_except": ["upstream:openai"]})
    for path, touched in ((CHAT, []), ("/up" + CHAT, ["stream_usage"])):
        answer = await ask(gateway.front_port, post(path, STREAM))
        assert (await record_after(gateway, answer))["touched"] == touched
