"""The transparency law, row by row: each request is sent directly and through the gateway, and nothing may differ."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.differential import changes
from tests.harness.messages import chunked, request
from tests.harness.raw_client import ask
from tests.harness.rows import BODIES, CHAT, FIELDS, HEADS_AND_BODIES, METHODS, PLAIN, TARGETS
from tests.harness.scripted import Script, ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("method", METHODS)
async def test_a_method_goes_through_as_it_is(upstream: ScriptedUpstream, gateway: Any, method: str) -> None:
    """Every method that HTTP parsers know, HEAD without a body included."""
    upstream.answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + (b"" if method == "HEAD" else b"answer")]
    assert await changes(upstream, gateway.front_port, request(method, "/v1/models", ("X-A", "1"))) == []


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
async def test_a_target_goes_through_byte_for_byte(upstream: ScriptedUpstream, gateway: Any, target: str) -> None:
    """Nothing is decoded, merged, sorted or normalised, whether an upstream is named or a route found."""
    upstream.answer = [PLAIN]
    sent = request("GET", target)
    assert await changes(upstream, gateway.front_port, sent) == []
    if target.startswith("/v1/"):
        assert await changes(upstream, gateway.front_port, sent, prefix=b"") == []


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
async def test_request_fields_keep_order_case_duplicates_and_bytes(
    upstream: ScriptedUpstream, gateway: Any, fields: tuple[tuple[str | bytes, str | bytes], ...]
) -> None:
    """What is on no list of the transparency law is not touched."""
    upstream.answer = [PLAIN]
    sent = request("POST", "/v1/chat/completions", *fields, body=CHAT)
    assert await changes(upstream, gateway.front_port, sent) == []


@pytest.mark.parametrize("sent", BODIES.values(), ids=BODIES)
async def test_a_request_body_goes_through_byte_for_byte(upstream: ScriptedUpstream, gateway: Any, sent: bytes) -> None:
    """Read for its meaning or not, it is never written anew."""
    upstream.answer = [PLAIN]
    assert await changes(upstream, gateway.front_port, sent) == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files/x"], ids=["metered", "unmetered"])
@pytest.mark.parametrize("script", HEADS_AND_BODIES.values(), ids=HEADS_AND_BODIES)
async def test_an_answer_goes_through_byte_for_byte(
    upstream: ScriptedUpstream, gateway: Any, script: Script, path: str
) -> None:
    """Status, reason, fields, body, trailers and the way it ended, whether the gateway reads it or not."""
    upstream.answer = script
    assert await changes(upstream, gateway.front_port, request("POST", path, body=CHAT)) == []


async def test_an_answer_to_head_keeps_the_fields_of_its_body(upstream: ScriptedUpstream, gateway: Any) -> None:
    """RFC 9110 9.3.2: the length stands there, the body does not follow."""
    upstream.answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nETag: x\r\n\r\n"]
    assert await changes(upstream, gateway.front_port, request("HEAD", "/v1/files/x")) == []


async def test_trailers_travel_without_those_of_one_hop(upstream: ScriptedUpstream, gateway: Any) -> None:
    """RFC 9110 6.5.1: framing is no trailer, and a client may refuse an answer with it."""
    trailers = b"X-Sum: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    upstream.answer = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"x", trailers=trailers)]
    answer = await ask(gateway.front_port, request("GET", "/v1/files/x"))
    assert (answer.body.chunks, answer.body.trailers) == ([b"x"], ((b"X-Sum", b"1"),))
