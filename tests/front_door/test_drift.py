"""Drift: of some calls that their provider metered the gateway counts the tokens too, and shows how far it is off."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, post, record_after
from tests.harness.messages import response
from tests.harness.raw_client import ask
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello, how are you?"}]}
"""6 tokens of text in o200k_base, 4 around the message, 3 before the answer."""


def answer(usage: dict[str, Any]) -> list[bytes]:
    body = {
        "object": "chat.completion",
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Fine, thanks!"}, "finish_reason": "stop"}
        ],
        "usage": usage,
    }
    return [response(200, ("Content-Type", "application/json"), body=json.dumps(body).encode())]


async def count_something(upstream: ScriptedUpstream, gateway: Any) -> None:
    """A stream whose provider tells nothing."""
    body = b'data: {"model":"gpt-4o-mini","choices":[{"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n'
    upstream.answer = [response(200, ("Content-Type", "text/event-stream"), body=body)]
    record = await record_after(gateway, await ask(gateway.front_port, post(CHAT, ASKED | {"stream": True})))
    assert record["usage_source"] == "counted"


async def ratios(gateway: Any) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.admin_url}/metrics") as found:
        lines = [line for line in (await found.text()).splitlines() if line.startswith("tollgate_own_count_ratio_sum")]
    return {line.partition('type="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


async def test_one_call_in_so_many_is_counted_as_well(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Its record has both figures, the metric their ratio; the bill stays the provider's."""
    gateway = await serve(metering={"compare_every": 2})
    await count_something(upstream, gateway)
    upstream.answer = answer({"prompt_tokens": 26, "completion_tokens": 4, "total_tokens": 30})
    found = [await record_after(gateway, await ask(gateway.front_port, post(CHAT, ASKED))) for _ in range(4)]
    assert [record["own_count"] for record in found] == [{}, {"input": 13, "output": 4}, {}, {"input": 13, "output": 4}]
    assert {record["usage"]["input"] for record in found} == {26}
    assert await ratios(gateway) == {"input": 1.0, "output": 2.0}


async def test_what_nobody_can_count_is_not_compared(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Hidden reasoning is no text that we see."""
    gateway = await serve(metering={"compare_every": 1})
    await count_something(upstream, gateway)
    details = {"completion_tokens_details": {"reasoning_tokens": 3}}
    upstream.answer = answer({"prompt_tokens": 13, "completion_tokens": 7, "total_tokens": 20, **details})
    record = await record_after(gateway, await ask(gateway.front_port, post(CHAT, ASKED)))
    assert record["own_count"] == {"input": 13}


async def test_nothing_is_counted_where_nobody_wants_it(upstream: ScriptedUpstream, serve: Serve) -> None:
    """``compare_every: 0``."""
    gateway = await serve(metering={"compare_every": 0})
    upstream.answer = answer({"prompt_tokens": 26, "completion_tokens": 4, "total_tokens": 30})
    for _ in range(3):
        record = await record_after(gateway, await ask(gateway.front_port, post(CHAT, ASKED)))
        assert record["own_count"] == {}
    assert await ratios(gateway) == {}


async def test_who_never_counts_is_not_compared(upstream: ScriptedUpstream, serve: Serve) -> None:
    """The vocabulary takes memory that nobody asked for."""
    gateway = await serve(metering={"compare_every": 1})
    upstream.answer = answer({"prompt_tokens": 26, "completion_tokens": 4, "total_tokens": 30})
    record = await record_after(gateway, await ask(gateway.front_port, post(CHAT, ASKED)))
    assert record["own_count"] == {}
    assert not gateway.snapshot.counter.is_ready("o200k_base")
