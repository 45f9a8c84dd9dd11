"""What the gateway adds to answers, and that it can be told not to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.front_door.conftest import Serve
from tests.harness.messages import request, response
from tests.harness.raw_client import ask
from tests.harness.rows import CHAT
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

USAGE = (
    b'{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500,"prompt_tokens_details":{"cached_tokens":200}}'
)
ANSWER = b'{"id":"x","object":"chat.completion","model":"gpt-4o-mini","choices":[],"usage":' + USAGE + b"}"
JSON = response(200, ("X-A", "1"), ("Content-Type", "application/json"), body=ANSWER)


async def test_added_response_fields_can_be_turned_off(upstream: ScriptedUpstream, serve: Serve) -> None:
    """``front.response_headers: false`` leaves an answer without a trace of the gateway."""
    gateway = await serve(front={"response_headers": False})
    upstream.answer = [JSON]
    answer = await ask(gateway.front_port, request("POST", "/up/v1/chat/completions", body=CHAT))
    assert [name for name, _ in answer.head.fields] == [b"X-A", b"Content-Type", b"Content-Length"]


async def test_a_metered_answer_says_what_it_cost(upstream: ScriptedUpstream, gateway: Any) -> None:
    """Cost, tokens and their source stand behind the provider's own fields."""
    upstream.answer = [JSON]
    answer = await ask(gateway.front_port, request("POST", "/v1/chat/completions", body=CHAT))
    assert answer.head.value(b"x-tollgate-tokens") == b"in=1000;out=500;cached=200"
    assert answer.head.value(b"x-tollgate-usage") == b"provider"
    # gpt-4o-mini: 0.15 in, 0.075 cached, 0.60 out, dollars for a million tokens
    assert answer.head.value(b"x-tollgate-cost-usd") == b"0.000435"


async def test_every_answer_says_which_call_it_is(upstream: ScriptedUpstream, gateway: Any) -> None:
    """An answer of the provider, one of the gateway's own, and one to what never became a call but has a head."""
    upstream.answer = [response(404, body=b"no")]
    for target in ("/v1/models", "/nowhere/x"):
        answer = await ask(gateway.front_port, request("GET", target, ("X-Correlation-Id", "c-1")))
        assert answer.status == 404
        assert answer.head.value(b"x-tollgate-call-id")
    assert len(upstream.seen) == 1


async def test_a_correlation_id_is_given_back(upstream: ScriptedUpstream, gateway: Any) -> None:
    """The caller's own, or one that is made for it."""
    upstream.answer = [response(200, body=b"x")]
    mine = await ask(gateway.front_port, request("GET", "/v1/models", ("X-Correlation-Id", "c-1")))
    made = await ask(gateway.front_port, request("GET", "/v1/models"))
    assert mine.head.value(b"x-correlation-id") == b"c-1"
    assert made.head.value(b"x-correlation-id") not in (None, b"c-1")
