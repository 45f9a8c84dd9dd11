"""Upstreams behind TLS: the same transparency, and a clean error when there is no trust."""

from __future__ import annotations

import json
import ssl

import pytest

from tests.front_door.conftest import Serve
from tests.harness.differential import changes
from tests.harness.messages import request
from tests.harness.raw_client import ask
from tests.harness.rows import CHAT, HEADS_AND_BODIES, PLAIN
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("name", ["201", "gzip", "br", "zstd", "trailers", "mixed chunks", "a megabyte with a length"])
async def test_nothing_changes_behind_tls(
    tls_upstream: ScriptedUpstream, trusting: ssl.SSLContext, ca_file: str, serve: Serve, name: str
) -> None:
    """The same law through TLS, for a request and for its answer."""
    gateway = await serve(tls_upstream, up={"ca_file": ca_file})
    tls_upstream.answer = HEADS_AND_BODIES[name]
    sent = request("POST", "/v1/chat/completions?a=%2F", ("X-Dup", "1"), ("x-dup", "2"), body=CHAT)
    assert await changes(tls_upstream, gateway.front_port, sent, tls=trusting) == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_upstream: ScriptedUpstream, serve: Serve) -> None:
    """502 that says why, and not one byte of the request left the house."""
    gateway = await serve(tls_upstream)
    answer = await ask(gateway.front_port, request("POST", "/v1/chat/completions", body=CHAT))
    assert answer.status == 502
    error = json.loads(answer.body.content)["error"]
    assert error["code"] == "upstream_unreachable"
    assert "certificate" in error["message"]
    assert tls_upstream.seen == []


async def test_a_certificate_may_go_unverified_where_the_config_says_so(
    tls_upstream: ScriptedUpstream, serve: Serve
) -> None:
    """``verify_tls: false`` is a choice of the operator's."""
    gateway = await serve(tls_upstream, up={"verify_tls": False})
    tls_upstream.answer = [PLAIN]
    assert (await ask(gateway.front_port, request("GET", "/v1/models"))).status == 200


async def test_an_upstream_that_speaks_no_tls_is_a_clean_error(upstream: ScriptedUpstream, serve: Serve) -> None:
    """A plain server behind an https:// address: 502, no trace of the handshake in it."""
    gateway = await serve(f"https://127.0.0.1:{upstream.port}")
    upstream.greeting = [b"220 mail ready\r\n"]
    answer = await ask(gateway.front_port, request("GET", "/v1/models"))
    assert answer.status == 502
    assert json.loads(answer.body.content)["error"]["code"] == "upstream_unreachable"
