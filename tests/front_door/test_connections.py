"""Connections: reuse on both sides, pipelining, HTTP/1.0, expectations, and kept connections that have gone stale."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.front_door.conftest import Serve
from tests.harness.messages import CutOff, chunked, request, response
from tests.harness.raw_client import ask, connected
from tests.harness.rows import CHAT, PLAIN
from tests.harness.scripted import End, ScriptedUpstream, Seen, Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

GET = request("GET", "/v1/models")
POST = request("POST", "/v1/chat/completions", body=CHAT)


async def test_both_sides_keep_their_connections(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Ten requests of one client need one connection to the upstream."""
    gateway = await serve()
    upstream.answer = [PLAIN]
    async with connected(gateway.front_port) as client:
        for number in range(10):
            answer = await client.ask(POST if number % 2 else GET)
            assert answer.body.content == b"answer"
    assert len({seen.connection for seen in upstream.seen}) == 1


async def test_pipelined_requests_are_answered_in_order(upstream: ScriptedUpstream, gateway: Any) -> None:
    """RFC 9112 9.3.2: three at once, three answers, each to its own question."""
    upstream.answer = lambda seen: [response(200, body=seen.target + b" " + seen.body.content)]
    batch = b"".join(request("POST", f"/up/{number}", body=b"%d" % number) for number in range(3))
    async with connected(gateway.front_port) as client:
        await client.send(batch)
        assert [(await client.answer("POST")).body.content for _ in range(3)] == [b"/0 0", b"/1 1", b"/2 2"]


@pytest.mark.parametrize("count", [31, 40, 100])
async def test_requests_behind_a_late_body_are_all_answered(
    upstream: ScriptedUpstream, gateway: Any, count: int
) -> None:
    """As many as the parser lets wait, and more: none is left in its hands."""
    upstream.answer = [PLAIN]
    sent = request("POST", "/up/late", ("Expect", "100-continue"), body=CHAT)
    async with connected(gateway.front_port) as client:
        await client.send(sent.removesuffix(CHAT))
        assert (await client.head()).status == 100
        await client.send(CHAT + request("GET", "/nowhere") * count)
        assert (await client.answer("POST")).status == 200
        assert [(await client.answer()).status for _ in range(count)] == [404] * count


async def test_a_body_of_very_many_chunks_does_not_hold_up_the_next(upstream: ScriptedUpstream, gateway: Any) -> None:
    """After 16384 chunks aiohttp pauses reading; the pause of a body that ends there stays in its parser, for the next one to meet."""
    upstream.answer = lambda seen: [response(200, body=b"%d" % len(seen.body.content))]
    many = b"POST /up/v1/files HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 16385
    after = request("POST", "/up/v1/files", body=b"x" * 100)
    async with connected(gateway.front_port) as client:
        for _ in range(2):
            await client.send(many + b"0\r\n\r\n" + after * 3)
            assert [(await client.answer("POST")).body.content for _ in range(4)] == [b"16385", b"100", b"100", b"100"]


async def test_a_client_may_ask_for_the_connection_to_close(upstream: ScriptedUpstream, gateway: Any) -> None:
    """``Connection: close`` is answered and obeyed; the upstream's connection is another matter."""
    upstream.answer = [PLAIN]
    async with connected(gateway.front_port) as client:
        answer = await client.ask(request("GET", "/v1/models", ("Connection", "close")))
        assert answer.head.value(b"connection") == b"close"
        assert await client.incoming.rest() == b""
    assert (await upstream.request()).head.value(b"connection") is None


@pytest.mark.parametrize(
    "length", [b"Content-Length: 4\r\n\r\nbody", b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"bo", b"dy")]
)
async def test_an_http_1_0_client_gets_no_chunks(upstream: ScriptedUpstream, gateway: Any, length: bytes) -> None:
    """It would take chunk sizes for content."""
    upstream.answer = [b"HTTP/1.1 200 OK\r\n" + length]
    async with connected(gateway.front_port) as client:
        await client.send(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = await client.answer()
        assert answer.head.value(b"transfer-encoding") is None
        assert answer.body.content == b"body"
        assert await client.incoming.rest() == b""


async def test_an_http_1_0_client_need_not_name_a_host(upstream: ScriptedUpstream, gateway: Any) -> None:
    """RFC 9112 3.2: the request for the upstream is of HTTP/1.1, and has to."""
    upstream.answer = [PLAIN]
    assert (await ask(gateway.front_port, b"GET /v1/models HTTP/1.0\r\n\r\n")).status == 200
    assert (await upstream.request()).head.values(b"host") == [b"127.0.0.1:%d" % upstream.port]


async def test_an_http_1_0_client_gets_no_interim_heads(upstream: ScriptedUpstream, gateway: Any) -> None:
    """RFC 9110 15.2: it does not know them."""
    upstream.answer = [b"HTTP/1.1 103 Early Hints\r\n\r\n" + PLAIN]
    answer = await ask(gateway.front_port, GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (answer.interim, answer.body.content) == ((), b"answer")


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/up/v1/files"], ids=["metered", "unmetered"])
async def test_an_expectation_is_answered_here(upstream: ScriptedUpstream, gateway: Any, target: str) -> None:
    """The client waits for 100 before it sends its body; the upstream is not asked to expect anything."""
    upstream.answer = [PLAIN]
    sent = request("POST", target, ("Expect", "100-continue"), body=CHAT)
    async with connected(gateway.front_port) as client:
        await client.send(sent.removesuffix(CHAT))
        assert (await client.head()).start == b"HTTP/1.1 100 Continue"
        await client.send(CHAT)
        answer = await client.answer("POST")
        assert (answer.status, answer.interim) == (200, ())
    seen = await upstream.request()
    assert (seen.body.content, seen.head.value(b"expect")) == (CHAT, None)


async def test_a_body_that_will_be_refused_is_not_asked_for(upstream: ScriptedUpstream, serve: Serve) -> None:
    """413 instead of 100: that is what the expectation is for."""
    gateway = await serve(front={"max_body_mb": 1})
    async with connected(gateway.front_port) as client:
        await client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n"
        )
        answer = await client.answer("POST")
        assert (answer.status, answer.interim) == (413, ())


@pytest.mark.parametrize("sent", [GET, POST], ids=["GET", "POST"])
async def test_a_connection_that_the_upstream_closed_is_not_used(
    upstream: ScriptedUpstream, serve: Serve, sent: bytes
) -> None:
    """Closed while it was idle: the next request goes to a fresh one, once, whatever its method."""
    gateway = await serve()
    upstream.answer = [PLAIN, End.CLOSE]
    for number in range(3):
        assert (await ask(gateway.front_port, sent)).status == 200
        await upstream.wires[(await upstream.request(number)).connection].writer.wait_closed()
    assert [seen.connection - upstream.seen[0].connection for seen in upstream.seen] == [0, 1, 2]


def drop_when_reused(how: End) -> Any:
    """Answers the first request of a connection, and drops the connection when it sees a second one."""
    first: set[int] = set()

    def answer(seen: Seen) -> Any:
        if seen.connection in first:
            return [how]
        first.add(seen.connection)
        return [PLAIN]

    return answer


@pytest.mark.parametrize("how", [End.CLOSE, End.RESET])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
async def test_an_idempotent_request_on_a_stale_connection_is_sent_again(
    upstream: ScriptedUpstream, serve: Serve, how: End, method: str
) -> None:
    """The race that no look at the socket can win: the upstream closes while the request is on its way. Once, on a fresh one."""
    gateway = await serve()
    upstream.answer = drop_when_reused(how)
    sent = request(method, "/v1/models")
    assert (await ask(gateway.front_port, GET)).status == 200
    async with connected(gateway.front_port) as client:
        await client.send(sent)
        assert (await client.head()).status == 200
    assert len(upstream.seen) == 3
    assert len({seen.connection for seen in upstream.seen}) == 2


async def test_a_post_that_was_written_is_not_sent_again(upstream: ScriptedUpstream, serve: Serve) -> None:
    """The provider may have begun to work, and to bill: the client decides (502, x-should-retry: true)."""
    gateway = await serve()
    upstream.answer = drop_when_reused(End.CLOSE)
    assert (await ask(gateway.front_port, POST)).status == 200
    answer = await ask(gateway.front_port, POST)
    assert (answer.status, answer.head.value(b"x-should-retry")) == (502, b"true")
    assert len(upstream.seen) == 2


async def test_a_post_with_an_idempotency_key_is_sent_again(upstream: ScriptedUpstream, serve: Serve) -> None:
    """The client said that twice is as good as once."""
    gateway = await serve()
    upstream.answer = drop_when_reused(End.CLOSE)
    sent = request("POST", "/v1/chat/completions", ("Idempotency-Key", "k"), body=CHAT)
    assert [(await ask(gateway.front_port, sent)).status for _ in range(2)] == [200, 200]
    assert [seen.body.content for seen in upstream.seen] == [CHAT] * 3


async def test_a_fresh_connection_that_fails_is_not_tried_again(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Not even for GET: that would double the load on an upstream in trouble."""
    gateway = await serve()
    upstream.answer = [End.CLOSE]
    assert (await ask(gateway.front_port, GET)).status == 502
    assert len(upstream.seen) == 1


async def test_bytes_after_an_answer_poison_only_their_connection(upstream: ScriptedUpstream, serve: Serve) -> None:
    """A second answer that nobody asked for is never given to the next client (response splitting)."""
    gateway = await serve()
    upstream.answer = lambda seen: [PLAIN + (response(200, body=b"poison") if len(upstream.seen) == 1 else b"")]
    assert (await ask(gateway.front_port, GET)).body.content == b"answer"
    for _ in range(3):
        assert (await ask(gateway.front_port, GET)).body.content == b"answer"


async def test_bytes_late_after_an_answer_poison_only_their_connection(
    upstream: ScriptedUpstream, serve: Serve
) -> None:
    """The same, when they come while the connection is idle."""
    gateway = await serve()
    late = asyncio.Event()

    async def poison(wire: Wire, seen: Seen) -> None:
        await late.wait()
        await wire.send(response(200, body=b"poison"))
        await seen.gone.wait()

    upstream.answer = [PLAIN, poison]
    assert (await ask(gateway.front_port, GET)).body.content == b"answer"
    late.set()
    await asyncio.wait_for((await upstream.request()).gone.wait(), 10)
    upstream.answer = [PLAIN]
    assert (await ask(gateway.front_port, GET)).body.content == b"answer"


@pytest.mark.parametrize("status", [204, 304])
async def test_a_connection_that_owes_an_end_of_chunks_is_not_kept(
    upstream: ScriptedUpstream, serve: Serve, status: int
) -> None:
    """Neither has a body, but some send the last chunk all the same, and the next call would take it for its answer."""
    gateway = await serve()
    upstream.answer = [b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % status]
    for _ in range(2):
        answer = await ask(gateway.front_port, GET)
        assert (answer.status, answer.body.content) == (status, b"")
        assert answer.head.values(b"transfer-encoding") == ([] if status == 204 else [b"chunked"])
    assert len({seen.connection for seen in upstream.seen}) == 2


async def test_a_front_connection_serves_on_after_a_clean_error(upstream: ScriptedUpstream, gateway: Any) -> None:
    """502 and 404 are answers like any other."""
    async with connected(gateway.front_port) as client:
        upstream.answer = [End.CLOSE]
        assert (await client.ask(POST)).status == 502
        assert (await client.ask(request("GET", "/nowhere"))).status == 404
        upstream.answer = [PLAIN]
        assert (await client.ask(POST)).status == 200


async def test_the_front_closes_after_a_broken_answer(upstream: ScriptedUpstream, gateway: Any) -> None:
    """What followed would be read as the rest of the body."""
    upstream.answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", End.CLOSE]
    async with connected(gateway.front_port) as client:
        await client.send(GET + GET)
        answer = await client.answer()
        assert (answer.body.whole, answer.body.content) == (False, b"abc")
        with pytest.raises(CutOff):
            await client.answer()
