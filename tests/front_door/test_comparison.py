"""The comparison itself: each thing that a proxy can get wrong is seen, and what it may change is not complained of."""

from __future__ import annotations

import gzip

import pytest

from tests.harness.differential import changes
from tests.harness.messages import chunked, request, response
from tests.harness.scripted import ScriptedUpstream
from tests.harness.sinful import Sin, proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUEST = request(
    "POST", "/v1/a%2Fb//..?q=&q", ("X-Case", "1"), ("x-case", "2"), ("X-Tollgate-Team", "a"), body=b'{"b": 1, "a": 2}'
)
ANSWER = response(
    201,
    ("Content-Encoding", "gzip"),
    ("Set-Cookie", "a=1"),
    ("Set-Cookie", "b=2"),
    ("X-Odd-CASE", "1"),
    reason="Made, as asked",
    body=gzip.compress(b"x" * 100, mtime=0),
)
CHUNKED = response(200, ("Transfer-Encoding", "chunked"), body=None) + chunked(b"ab", b"cd", trailers=b"X-Sum: 4\r\n")

REQUEST_SINS: dict[str, tuple[Sin, str]] = {
    "target decoded": (lambda raw: raw.replace(b"%2F", b"/"), "target"),
    "target normalised": (lambda raw: raw.replace(b"//..", b""), "target"),
    "empty query value dropped": (lambda raw: raw.replace(b"q=&q", b"q="), "target"),
    "method changed": (lambda raw: raw.replace(b"POST", b"PUT", 1), "method"),
    "field lower-cased": (lambda raw: raw.replace(b"X-Case", b"x-case"), "request field"),
    "duplicate dropped": (lambda raw: raw.replace(b"x-case: 2\r\n", b""), "request field"),
    "order changed": (
        lambda raw: raw.replace(b"X-Case: 1\r\nx-case: 2", b"x-case: 2\r\nX-Case: 1"),
        "request field order",
    ),
    "field added": (lambda raw: raw.replace(b"Via:", b"Accept: */*\r\nVia:"), "request field added"),
    "our field leaked": (lambda raw: raw.replace(b"Via:", b"X-Tollgate-Team: a\r\nVia:"), "request field added"),
    "Via forgotten": (lambda raw: raw.replace(b"Via: 1.1 sinful\r\n", b""), "Via"),
    "Host passed on": (lambda raw: raw.replace(b"Host: 127.0.0.1", b"Host: front.test"), "request field"),
    "body re-serialised": (lambda raw: raw.replace(b'{"b": 1, "a": 2}', b'{"a": 2, "b": 1}'), "request body"),
}
ANSWER_SINS: dict[str, tuple[Sin, str]] = {
    "status changed": (lambda raw: raw.replace(b"201", b"200", 1), "status"),
    "reason rewritten": (lambda raw: raw.replace(b"Made, as asked", b"Created"), "reason"),
    "field lower-cased": (lambda raw: raw.replace(b"X-Odd-CASE", b"x-odd-case"), "response field"),
    "duplicate merged": (
        lambda raw: raw.replace(b"a=1\r\nSet-Cookie: b=2", b"a=1, b=2"),
        "response field",
    ),
    "field doubled": (lambda raw: raw.replace(b"X-Odd-CASE: 1", b"X-Odd-CASE: 1\r\nX-Odd-CASE: 1"), "duplicates"),
    "field added": (lambda raw: raw.replace(b"X-Odd", b"Server: x\r\nX-Odd"), "response field added"),
    "encoding dropped": (lambda raw: raw.replace(b"Content-Encoding: gzip\r\n", b""), "response field lost"),
    "body cut": (lambda raw: raw[:-3], "whole"),
    "body altered": (lambda raw: raw[:-3] + b"abc", "response body"),
}
CHUNKED_SINS: dict[str, tuple[Sin, str]] = {
    "trailers dropped": (lambda raw: raw.replace(b"X-Sum: 4\r\n", b""), "trailers"),
    "end made up": (lambda raw: raw.replace(b"2\r\ncd\r\n", b""), "response body"),
    "last chunk missing": (lambda raw: raw.partition(b"0\r\n")[0], "whole"),
    "interim made up": (lambda raw: b"HTTP/1.1 103 Early Hints\r\n\r\n" + raw, "interim"),
}


async def found(upstream: ScriptedUpstream, answer: bytes, **sins: Sin) -> list[str]:
    upstream.answer = [answer]
    async with proxy(upstream.port, prefix=b"/up", **sins) as port:
        return await changes(upstream, port, REQUEST)


@pytest.mark.parametrize("answer", [ANSWER, CHUNKED], ids=["sized", "chunked"])
async def test_a_transparent_proxy_has_no_difference(upstream: ScriptedUpstream, answer: bytes) -> None:
    """What the law allows (Host, Via, hop-by-hop, our own request fields) is no difference."""
    assert await found(upstream, answer) == []


@pytest.mark.parametrize(("sin", "named"), REQUEST_SINS.values(), ids=REQUEST_SINS)
async def test_a_changed_request_is_seen(upstream: ScriptedUpstream, sin: Sin, named: str) -> None:
    """Every way to alter a request is named."""
    differences = await found(upstream, ANSWER, on_request=sin)
    assert any(named in each for each in differences), differences


@pytest.mark.parametrize(("sin", "named"), ANSWER_SINS.values(), ids=ANSWER_SINS)
async def test_a_changed_answer_is_seen(upstream: ScriptedUpstream, sin: Sin, named: str) -> None:
    """Every way to alter an answer is named."""
    differences = await found(upstream, ANSWER, on_answer=sin)
    assert any(named in each for each in differences), differences


@pytest.mark.parametrize(("sin", "named"), CHUNKED_SINS.values(), ids=CHUNKED_SINS)
async def test_a_changed_stream_is_seen(upstream: ScriptedUpstream, sin: Sin, named: str) -> None:
    """Trailers, ends and interim heads count as much as bytes."""
    differences = await found(upstream, CHUNKED, on_answer=sin)
    assert any(named in each for each in differences), differences
