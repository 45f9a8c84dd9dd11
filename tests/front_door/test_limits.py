"""Limits of the front: how long a head and how large a body may be, and how clearly that is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.front_door.conftest import Serve
from tests.harness.messages import CutOff, request
from tests.harness.raw_client import Answer, ask, connected
from tests.harness.rows import PLAIN
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

MARK = "zqcanaryzq"
HUGE_HEADS = {
    "one huge field": request("POST", "/v1/chat/completions", ("X-Huge", MARK * 10_000)),
    "a huge name": request("POST", "/v1/chat/completions", (MARK * 10_000, "1")),
    "a huge target": request("GET", "/v1/models?" + MARK * 10_000),
    "a huge method": request(MARK.upper() * 10_000, "/v1/models"),
    "too many fields": request("GET", "/v1/models", *((f"X-{MARK}-{each}", "1") for each in range(5_000))),
}


def said(answer: Answer) -> str:
    """The message of an error, checked to be whole."""
    error = json.loads(answer.body.content)["error"]
    assert error["type"] == "invalid_request_error"
    assert MARK not in json.dumps(error)
    message: str = error["message"]
    return message


@pytest.mark.parametrize("sent", HUGE_HEADS.values(), ids=HUGE_HEADS)
async def test_a_huge_head_is_refused_without_an_echo(upstream: ScriptedUpstream, gateway: Any, sent: bytes) -> None:
    """431 or 400 in JSON; nothing of the input is repeated; nothing reaches the upstream."""
    async with connected(gateway.front_port) as client:
        client.writer.write(sent)
        answer = await client.answer()
    assert answer.status in (400, 431)
    assert said(answer)
    assert upstream.seen == []


async def test_a_long_but_lawful_head_goes_through(upstream: ScriptedUpstream, serve: Serve) -> None:
    """The limit is the config's: what is below it is nobody's business."""
    gateway = await serve(front={"max_header_kb": 64, "max_headers": 400})
    upstream.answer = [PLAIN]
    fields = [("X-Long", "v" * 60_000), *((f"X-{each}", "1") for each in range(300))]
    assert (await ask(gateway.front_port, request("GET", "/v1/models?" + "q" * 60_000, *fields))).status == 200


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/up/v1/files"], ids=["metered", "unmetered"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
async def test_a_body_over_the_limit_is_a_413(
    upstream: ScriptedUpstream, serve: Serve, target: str, chunked: bool
) -> None:
    """Refused at the declared length, or at the byte that is too many; the limit is named."""
    gateway = await serve(front={"max_body_mb": 1})
    upstream.answer = [PLAIN]
    piece = b"x" * 65536
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (40 * len(piece))
    async with connected(gateway.front_port) as client:
        client.writer.write(b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (target.encode(), framing))
        for _ in range(40):
            client.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        answer = await client.answer("POST")
        assert answer.status == 413
        assert "1 MB" in said(answer)
        with pytest.raises((CutOff, ConnectionError)):
            await client.ask(request("GET", "/v1/models"))
    assert not any(seen.body.whole for seen in upstream.seen)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
async def test_a_body_at_the_limit_goes_through(upstream: ScriptedUpstream, serve: Serve, chunked: bool) -> None:
    """One MiB to the byte."""
    gateway = await serve(front={"max_body_mb": 1})
    upstream.answer = [PLAIN]
    body = b"x" * (1 << 20)
    sent = request("PUT", "/v1/files/x", body=body)
    if chunked:
        sent = (
            b"PUT /v1/files/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n"
            + body
            + b"\r\n0\r\n\r\n"
        )
    assert (await ask(gateway.front_port, sent)).status == 200
    assert (await upstream.request()).body.content == body


async def test_a_huge_head_of_the_upstream_is_no_danger(upstream: ScriptedUpstream, gateway: Any) -> None:
    """It is passed on or refused as unreadable; either way the gateway serves on."""
    upstream.answer = [b"HTTP/1.1 200 OK\r\nX-Huge: " + b"v" * 500_000 + b"\r\nContent-Length: 2\r\n\r\nok"]
    assert (await ask(gateway.front_port, request("GET", "/v1/models"))).status in (200, 502)
    upstream.answer = [PLAIN]
    assert (await ask(gateway.front_port, request("GET", "/v1/models"))).status == 200
