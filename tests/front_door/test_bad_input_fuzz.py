"""Chance at the door: sound requests and answers with bytes changed, cut out, doubled and put in. Whatever comes, the gateway
has no bug to log, changes no byte that it passes on, and serves the next call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.harness.gateways import config_for, in_process, record_of
from tests.harness.messages import CutOff, chunked, request, response
from tests.harness.raw_client import ask, connected
from tests.harness.rows import CHAT, FORM, PLAIN
from tests.harness.scripted import End, ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages")
LIMITED = ("x-tollgate-team", "limited")
GOOD = request("GET", "/v1/models")
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16, "prompt_tokens_details": {"cached_tokens": 3}}
MESSAGE_USAGE = {"input_tokens": 9, "output_tokens": 7, "cache_creation": {"ephemeral_5m_input_tokens": 1}}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "h\u00e9 \U0001f600"}, "finish_reason": "stop"}
BODIES = [
    CHAT,
    json.dumps({"model": "gpt-4o-mini", "input": ["a", "b"], "max_output_tokens": 9, "stream": True}).encode(),
    json.dumps({"model": "claude-haiku-4-5", "max_tokens": 5, "system": "s", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}).encode(),
    json.dumps({"model": "gpt-4o", "n": 3, "tools": [{"type": "function"}], "stream_options": {"include_usage": True}, "service_tier": "flex"}).encode(),
]  # fmt: skip
REQUESTS = [
    request("POST", "/v1/chat/completions?a=%2F", LIMITED, ("Content-Type", "application/json"), body=CHAT),
    request("PUT", "/up/v1/files", FORM, body=b"--b\r\n\r\nx\r\n--b--\r\n"),
    b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nx-api-key: k\r\n\r\n"
    + chunked(CHAT, b"x"),
    request("GET", "/v1/realtime", ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x")),
    request("HEAD", "/v1/models", ("Connection", "close"), ("Expect", "100-continue"), ("TE", "trailers")),
]
JSON_ANSWERS = [
    json.dumps({"model": "gpt-4o-mini", "choices": [CHOICE], "usage": USAGE}).encode(),
    json.dumps(
        {"model": "claude-haiku-4-5", "content": [{"type": "text", "text": "x"}], "usage": MESSAGE_USAGE}
    ).encode(),
    json.dumps({"status": "completed", "output": [{"content": [{"text": "x"}]}], "usage": MESSAGE_USAGE}).encode(),
]
EVENT_STREAMS = [
    b'data: {"model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"a \xe2\x82\xac"}}]}\n\n: ping\n\n'
    b'data: {"choices":[],"usage":' + json.dumps(USAGE).encode() + b"}\n\ndata: [DONE]\n\n",
    (
        b'event: message_start\r\ndata: {"type":"message_start","message":{"usage":{"input_tokens":5}}}\r\n\r\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":4}}\n\n'
    ),
    b'event: response.completed\ndata: {"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":2}}}\n\n',
]
ANSWERS = [
    response(200, ("Content-Type", "application/json"), ("X-A", "1"), body=JSON_ANSWERS[0]),
    STREAM + chunked(EVENT_STREAMS[0][:50], EVENT_STREAMS[0][50:], trailers=b"X-T: 1\r\n"),
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close, X-B\r\nX-B: 1\r\n\r\nto the end",
    response(429, ("Retry-After", "1"), reason="Too Many Requests", body=b"{}"),
]
WORDS = [
    b"\r\n", b"\n", b"\r\n\r\n", b"\x00", b"\xff", b"\xc2\x85", b'"', b"\\", b"\\ud800", b"{", b"[" * 50, b"}", b"null", b"-1", b"NaN",
    b"1e400", b"9" * 40, b"true", b"data:", b"data: [DONE]\n\n", b"event: x\n", b": ", b"usage", b'"usage":{', b"content-length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"GET / HTTP/1.1\r\n", b" ", b"\t", b"%", b"//", b"..", b"a" * 300,
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One of the seeds, changed in up to five places; now and then nothing but noise."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200))
    piece = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(piece)))
        until = min(len(piece), at + draw(st.integers(0, 30)))
        what = draw(st.sampled_from(["put", "cut", "double", "change", "end"]))
        if what == "put":
            piece[at:at] = draw(st.sampled_from(WORDS))
        elif what == "cut":
            del piece[at:until]
        elif what == "double":
            piece[at:at] = piece[at:until]
        elif what == "change" and at < len(piece):
            piece[at] = draw(st.integers(0, 255))
        elif what == "end":
            del piece[at:]
    return bytes(piece)


def some(count: int) -> settings:
    """So many examples, against one gateway."""
    return settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


class _Complaints(logging.Handler):
    """What the gateway, its server or the event loop call an error; the upstream of the tests may lose its patience, and fail."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        late = record.exc_info and record.exc_info[0] is TimeoutError and "client_connected_cb" in record.getMessage()
        fails = record.name == "gateway.telemetry" and " fails: " in record.getMessage()
        if not (late or fails):
            self.found.append(logging.Formatter().format(record))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def limiting(
    standing_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Any, list[str]]]:
    """A gateway with a budget for one team, and the list of what it complains of."""
    folder = tmp_path_factory.mktemp("fuzz")
    budgets = [{"scope": "team:limited", "limit_usd": "1000000", "window": "total", "mode": "strict"}]
    config = config_for(folder, standing_upstream, budgets=budgets, front={"shutdown_grace": "100ms"})
    complaints = _Complaints()
    names = ("gateway", "aiohttp", "asyncio")
    async with in_process(folder, config) as serving:
        for name in names:
            logging.getLogger(name).addHandler(complaints)
        yield serving, complaints.found
    for name in names:
        logging.getLogger(name).removeHandler(complaints)
    assert complaints.found == []


async def assert_well(limiting: tuple[Any, list[str]], upstream: ScriptedUpstream) -> None:
    """It has nothing to complain of and answers a sound request."""
    gateway, complaints = limiting
    upstream.answer = [PLAIN]
    assert (await ask(gateway.front_port, GOOD)).body.content == b"answer"
    assert complaints == []


@some(200)
@example(sent=b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n")
@example(sent=b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n")
@given(sent=mutated(REQUESTS))
async def test_no_request_is_a_bug(limiting: Any, upstream: ScriptedUpstream, sent: bytes) -> None:
    """Answered or dropped, with any status but 500; what reaches the upstream is sound enough to be read."""
    upstream.forget()
    upstream.answer = [PLAIN]
    async with connected(limiting[0].front_port) as client:
        await client.send(sent)
        with contextlib.suppress(TimeoutError):  # it waits for the rest of a request that will not come
            while await client.incoming.fill(patience_s=0.02):
                pass
        got = bytes(client.incoming.buffer)
    assert not got or got.startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 500" not in got
    await assert_well(limiting, upstream)


@some(200)
@given(body=mutated(BODIES), route=st.sampled_from(ROUTES), limited=st.booleans())
async def test_no_body_is_a_bug(
    limiting: Any, upstream: ScriptedUpstream, body: bytes, route: str, limited: bool
) -> None:
    """Forwarded byte for byte; only where a budget applies may it be refused, and then in clear words."""
    upstream.forget()
    upstream.answer = [PLAIN]
    sent = request("POST", route, *([LIMITED] if limited else []), body=body)
    answer = await ask(limiting[0].front_port, sent)
    if answer.status == 200:
        assert upstream.seen[0].body.content == body
    else:
        assert limited
        assert (answer.status, upstream.seen) == (400, [])
        assert "budget" in json.loads(answer.body.content)["error"]["message"]
    record = await record_of(limiting[0].admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert record["outcome"] == ("completed" if answer.status == 200 else "refused")
    await assert_well(limiting, upstream)


@some(250)
@given(
    body=st.one_of(mutated(JSON_ANSWERS), mutated(EVENT_STREAMS)),
    kind=st.sampled_from(["application/json", "text/event-stream", "text/event-stream; charset=utf-8"]),
    coding=st.sampled_from(["", "gzip", "br", "zstd"]),
    sizes=st.lists(st.integers(1, 60), max_size=20),
    route=st.sampled_from(ROUTES),
)
async def test_no_answer_is_changed(
    limiting: Any, upstream: ScriptedUpstream, body: bytes, kind: str, coding: str, sizes: list[int], route: str
) -> None:
    """The client gets precisely these bytes, however they are cut into chunks and reads, and whatever they claim to be;
    and the call is in the books.
    """
    upstream.forget()
    cuts = [0, *(sum(sizes[: each + 1]) for each in range(len(sizes)))]
    pieces = [body[start:end] for start, end in zip(cuts, [*cuts[1:], len(body)], strict=True)]
    fields = f"Content-Type: {kind}\r\n" + (f"Content-Encoding: {coding}\r\n" if coding else "")
    head = f"HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n".encode()
    framed = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece]
    upstream.answer = [step for piece in (head, *framed, b"0\r\n\r\n") for step in (piece, 0.0, 0.0)]
    answer = await ask(limiting[0].front_port, request("POST", route, body=CHAT))
    assert (answer.status, answer.body.whole, answer.body.content) == (200, True, body)
    record = await record_of(limiting[0].admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert (record["outcome"], record["response_bytes"]) == ("completed", len(body))
    await assert_well(limiting, upstream)


@some(200)
@given(sent=mutated(ANSWERS), route=st.sampled_from((*ROUTES, "/up/v1/anything")))
async def test_no_answer_is_a_bug(limiting: Any, upstream: ScriptedUpstream, sent: bytes, route: str) -> None:
    """Heads and framing too: passed on as far as they make sense, or a clean 502; never silence."""
    upstream.forget()
    upstream.answer = [sent, End.CLOSE]
    try:
        async with asyncio.timeout(10):
            answer = await ask(limiting[0].front_port, request("POST", route, body=CHAT))
    except CutOff as cut:
        assert cut.left.startswith(b"HTTP/1.1 1"), "nothing but an interim head came"  # noqa: PT017 - the rest is below
    else:
        assert answer.status == 502 or 200 <= answer.status < 1000
        assert answer.head.value(b"x-tollgate-call-id")
    await assert_well(limiting, upstream)
