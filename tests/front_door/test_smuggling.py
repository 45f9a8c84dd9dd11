"""Requests that two servers could read differently (RFC 9112 11.2): refused, or passed on so that only one reading is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from tests.front_door.conftest import Serve
from tests.harness.messages import CutOff, chunked, request, response
from tests.harness.raw_client import Answer, RawClient, ask, connected
from tests.harness.rows import CHAT, PLAIN
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
HOST = b"Host: front.test\r\n"
MARK = b"zq-canary-zq"
"""Stands in refused input; no answer may repeat it."""
FAREWELL = request("GET", "/nowhere", ("Connection", "close"))
"""After a refusal that leaves its connection open this is the next request, a 404, and the last one."""

REFUSED: dict[str, bytes] = {
    "length and chunks": LINE + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": LINE + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": LINE + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "two equal lengths": LINE + HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": LINE + HOST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": LINE + HOST + b"Content-Length: +3\r\n\r\nabc",
    "a negative length": LINE + HOST + b"Content-Length: -3\r\n\r\nabc",
    "a hexadecimal length": LINE + HOST + b"Content-Length: 0x3\r\n\r\nabc",
    "an empty length": LINE + HOST + b"Content-Length: \r\n\r\nabc",
    "a length with a space": LINE + HOST + b"Content-Length: 1 1\r\n\r\nabc",
    "a length beyond counting": LINE + HOST + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
    "chunks not last": LINE + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "an unknown coding": LINE + HOST + b"Transfer-Encoding: " + MARK + b"\r\n\r\n0\r\n\r\n",
    "a coding below the chunks": LINE + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": LINE + HOST + b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
    "chunked twice": LINE + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding with a vertical tab": LINE + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "xchunked": LINE + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "space before colon": LINE + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "tab before colon": LINE + HOST + b"Content-Length\t: 3\r\n\r\nabc",
    "obsolete folding": LINE + HOST + b"X-A: 1\r\n " + MARK + b"\r\nContent-Length: 3\r\n\r\nabc",
    "folding of the first field": LINE + b" Host: front.test\r\n\r\n",
    "a bare line feed after the request line": b"GET /v1/models HTTP/1.1\nHost: a\r\n\r\n",
    "bare line feeds": b"GET /v1/models HTTP/1.1\nHost: a\n\n",
    "a bare line feed between fields": LINE + HOST + b"X-A: 1\nContent-Length: 3\r\n\r\nabc",
    "a bare carriage return": LINE + HOST + b"X-A: 1\rX-B: 2\r\n\r\n",
    "a NUL in a value": LINE + HOST + b"X-A: a\x00" + MARK + b"\r\n\r\n",
    "a NUL in a name": LINE + HOST + b"X\x00A: 1\r\n\r\n",
    "an empty name": LINE + HOST + b": 1\r\n\r\n",
    "no colon": LINE + HOST + MARK + b"\r\n\r\n",
    "a name with a bracket": LINE + HOST + b"X(A): 1\r\n\r\n",
    "a name that is no ASCII": LINE + HOST + b"X-\xe9: 1\r\n\r\n",
    "no host": LINE + b"X-A: 1\r\nContent-Length: 3\r\n\r\nabc",
    "two hosts": LINE + HOST + HOST + b"Content-Length: 3\r\n\r\nabc",
    "absolute form": b"GET http://" + MARK + b".test/v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
    "authority form": b"CONNECT " + MARK + b".test:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "asterisk form": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "no slash": b"GET v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space in the target": b"GET /v1/models x HTTP/1.1\r\nHost: a\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "a control character in the target": b"GET /v1/\x01models HTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET /v1/models\r\nHost: a\r\n\r\n",
    "an unknown version": b"GET /v1/models HTTP/3.7\r\nHost: a\r\n\r\n",
    "a version of letters": b"GET /v1/models HTTP/x.y\r\nHost: a\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
    "binary": bytes(range(256)),
    "a method of lower case": b"get /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method with a bracket": b"G<T /v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
}
BROKEN_BODIES: dict[str, bytes] = {
    "letters for a size": b"zz\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "0x before a size": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a size beyond counting": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than its size": b"2\r\nabc\r\n0\r\n\r\n",
    "a bare line feed after a size": b"3\nabc\r\n0\r\n\r\n",
    "a bare line feed after a chunk": b"3\r\nabc\n0\r\n\r\n",
    "an empty size": b"\r\nabc\r\n0\r\n\r\n",
}


async def answers_of(client: RawClient) -> list[Answer]:
    """All answers until the connection ends."""
    answers: list[Answer] = []
    with contextlib.suppress(CutOff):
        while True:
            answers.append(await client.answer())
    assert not client.incoming.buffer, "something that is no answer followed"
    return answers


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
async def test_an_ambiguous_head_is_refused(upstream: ScriptedUpstream, gateway: Any, sent: bytes) -> None:
    """A clear 4xx in JSON that repeats nothing of the input; the upstream sees nothing; the connection ends."""
    upstream.answer = [PLAIN]
    async with connected(gateway.front_port) as client:
        await client.send(sent + FAREWELL)
        answers = await answers_of(client)
    assert upstream.seen == []
    assert 1 <= len(answers) <= 2
    for answer in answers:
        assert 400 <= answer.status < 500
        assert json.loads(answer.body.content)["error"]["message"]
        assert MARK not in answer.head.raw + answer.body.content


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/up/v1/files"], ids=["metered", "unmetered"])
@pytest.mark.parametrize("body", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
async def test_a_broken_body_ends_its_connection(
    upstream: ScriptedUpstream, gateway: Any, body: bytes, target: str
) -> None:
    """Refused with 400 (or broken off), never taken for whole, and nothing of it becomes a second request."""
    upstream.answer = [PLAIN]
    smuggled = request("GET", "/v1/smuggled")
    async with connected(gateway.front_port) as client:
        await client.send(
            b"POST %b HTTP/1.1\r\n" % target.encode() + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body + smuggled
        )
        client.finish_sending()
        answers = await answers_of(client)
    assert all(seen.target != b"/v1/smuggled" for seen in upstream.seen)
    assert [answer.status for answer in answers] in ([400], [])
    assert all(not seen.body.whole for seen in upstream.seen)


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/up/v1/files"], ids=["metered", "unmetered"])
@pytest.mark.parametrize(
    "body",
    [*BROKEN_BODIES.values(), chunked(b"abc", trailers=b"Content-Length: 9\r\n")],
    ids=[*BROKEN_BODIES, "a length among the trailers"],
)
async def test_a_body_that_breaks_after_its_head_is_refused_at_once(
    upstream: ScriptedUpstream, gateway: Any, body: bytes, target: str
) -> None:
    """The call waits for the body already, and its client, which stays, for the answer."""
    upstream.read_body = False
    upstream.answer = [asyncio.Event()]
    async with connected(gateway.front_port) as client:
        head = (
            b"POST %b HTTP/1.1\r\n" % target.encode()
            + HOST
            + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await client.send(head)
        assert (await client.head()).status == 100
        await client.send(body + request("GET", "/v1/smuggled"))
        assert [answer.status for answer in await answers_of(client)] == [400]
    assert all(seen.target != b"/v1/smuggled" for seen in upstream.seen)


async def test_a_body_that_breaks_while_the_request_before_is_answered(
    upstream: ScriptedUpstream, gateway: Any
) -> None:
    """The first has its answer, the second its refusal, although nobody was reading when it broke."""
    go_on = asyncio.Event()
    upstream.answer = [go_on, PLAIN]
    async with connected(gateway.front_port) as client:
        await client.send(request("POST", "/v1/chat/completions", body=CHAT))
        await upstream.request()
        await client.send(LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.05)  # in one piece with its head it would be refused as such
        await client.send(b"zz\r\n")
        await asyncio.sleep(0.05)
        go_on.set()
        assert [answer.status for answer in await answers_of(client)] == [200, 400]
    assert len(upstream.seen) == 1


async def test_what_connection_names_stays_here(upstream: ScriptedUpstream, gateway: Any) -> None:
    """RFC 9110 7.6.1, both ways; ``Content-Length`` cannot be named away."""
    upstream.answer = [
        b"HTTP/1.1 200 OK\r\nConnection: x-hop, content-length\r\nX-Hop: 1\r\nX-Stays: 1\r\nContent-Length: 2\r\n\r\nok"
    ]
    sent = request(
        "POST", "/v1/files", ("Connection", "X-Secret, Content-Length, Host"), ("X-Secret", "1"), body=b"body"
    )
    answer = await ask(gateway.front_port, sent)
    seen = await upstream.request()
    assert seen.head.value(b"x-secret") is None
    assert seen.head.value(b"connection") is None
    assert seen.body.content == b"body"
    assert (answer.head.value(b"x-hop"), answer.head.value(b"x-stays"), answer.body.content) == (None, b"1", b"ok")


@pytest.mark.parametrize("protocol", ["h2c", "TLS/1.2", "foo"])
async def test_an_upgrade_that_is_not_relayed_is_an_ordinary_request(
    upstream: ScriptedUpstream, gateway: Any, protocol: str
) -> None:
    """The upstream never sees the wish, so that what follows cannot become a tunnel past the gateway."""
    upstream.answer = [PLAIN]
    fields = (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", protocol), ("HTTP2-Settings", "AAMAAABkAAQ"))
    answer = await ask(gateway.front_port, request("POST", "/v1/chat/completions", *fields, body=CHAT))
    seen = await upstream.request()
    assert answer.status == 200
    assert (seen.head.value(b"upgrade"), seen.head.value(b"http2-settings")) == (None, None)
    assert seen.body.content == CHAT


async def test_what_follows_an_upgrade_that_is_not_relayed_is_not_lost_in_silence(
    upstream: ScriptedUpstream, gateway: Any
) -> None:
    """The parser drops it; a client that is told that the connection ends asks again on another."""
    upstream.answer = [PLAIN]
    wish = request("GET", "/v1/models", ("Connection", "Upgrade"), ("Upgrade", "h2c"))
    async with connected(gateway.front_port) as client:
        await client.send(wish + request("GET", "/v1/models") * 3)
        answers = await answers_of(client)
    assert [(answer.status, answer.head.value(b"connection")) for answer in answers] == [(200, b"close")]


async def test_a_websocket_wish_that_is_declined_opens_no_tunnel(upstream: ScriptedUpstream, gateway: Any) -> None:
    """The upstream answers 200 instead of 101: what the client sends next is a request like any other."""
    upstream.answer = [response(200, body=b"no socket")]
    wish = request(
        "GET", "/v1/realtime", ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x")
    )
    async with connected(gateway.front_port) as client:
        assert (await client.ask(wish)).body.content == b"no socket"
        await client.send(FAREWELL)
        assert [answer.status for answer in await answers_of(client)] in ([404], [])
    assert len(upstream.seen) == 1


async def test_a_body_that_looks_like_a_request_stays_a_body(upstream: ScriptedUpstream, gateway: Any) -> None:
    """Also when the call was refused before its body was read."""
    upstream.answer = [PLAIN]
    inner = request("DELETE", "/v1/smuggled")
    for target in ("/v1/files", "/nowhere", "/v1/chat/completions"):
        async with connected(gateway.front_port) as client:
            await client.send(request("POST", target, ("Connection", "close"), body=inner))
            assert len(await answers_of(client)) == 1
    assert [seen.target for seen in upstream.seen] == [b"/v1/files", b"/v1/chat/completions"]


async def test_a_chunked_body_with_trailers_smuggles_no_fields(upstream: ScriptedUpstream, gateway: Any) -> None:
    """RFC 9110 6.5.1: trailers are not merged into the head."""
    upstream.answer = [PLAIN]
    sent = b"POST /v1/files HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    await ask(gateway.front_port, sent + chunked(b"abc", trailers=b"Authorization: Bearer x\r\n"))
    seen = await upstream.request()
    assert (seen.body.content, seen.head.value(b"authorization")) == (b"abc", None)


async def test_a_length_among_the_trailers_is_refused(upstream: ScriptedUpstream, gateway: Any) -> None:
    """RFC 9110 6.5.1 forbids framing fields there; what would follow could be read in two ways."""
    upstream.answer = [PLAIN]
    sent = b"POST /v1/files HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    answer = await ask(gateway.front_port, sent + chunked(b"abc", trailers=b"Content-Length: 9\r\n"))
    assert (answer.status, upstream.seen) == (400, [])


async def test_credentials_of_the_config_replace_all_others(upstream: ScriptedUpstream, serve: Serve) -> None:
    """A caller's own key, in whatever field, never travels beside the operator's."""
    gateway = await serve(up={"api_key": "sk-operator"})
    upstream.answer = [PLAIN]
    fields = (("authorization", "Bearer sk-caller"), ("X-Api-Key", "sk-caller"), ("api-key", "sk-caller"))
    await ask(gateway.front_port, request("POST", "/v1/chat/completions", *fields, body=CHAT))
    await ask(gateway.front_port, request("POST", "/anthropic/v1/messages", *fields, body=CHAT))
    openai, anthropic = upstream.seen
    assert openai.head.values(b"authorization") == [b"Bearer sk-operator"]
    assert anthropic.head.values(b"x-api-key") == [b"sk-operator"]
    assert all(b"sk-caller" not in seen.head.raw for seen in upstream.seen)
