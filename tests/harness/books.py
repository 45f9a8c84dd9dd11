"""The other set of books: what calls to the simulated provider cost by the price lists, and what a gateway says that they did.

Owns the prices that tests of money compare with. Must not know how the gateway prices: the figures here are written a second
time, from the providers' own pages.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway.simulator import Billed
from tests.harness.gateways import record_of
from tests.harness.messages import request
from tests.harness.raw_client import Answer, ask

RATES = {
    "gpt-4o": (2500, 1250, 10_000),
    "gpt-4o-mini": (150, 75, 600),
    "gpt-3.5-turbo-instruct": (1500, 1500, 2000),
    "text-embedding-3-small": (20, 20, 0),
    "claude-haiku-4-5": (1000, 100, 5000),
}
"""Nano-dollars for a token of fresh input, cached input and output."""
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/anthropic/v1/messages"
SAY: list[dict[str, str]] = [{"role": "user", "content": "Say what a call costs, please."}]
MINI: dict[str, Any] = {"model": "gpt-4o-mini", "messages": SAY}
HAIKU: dict[str, Any] = {"model": "claude-haiku-4-5", "messages": SAY, "max_tokens": 90}
TOLD = {"stream": True, "stream_options": {"include_usage": True}}
CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "chat": (CHAT, MINI, "words=30;cached=4;reasoning=7"),
    "chat streamed with usage": (CHAT, MINI | TOLD, "words=31;cached=4;reasoning=7"),
    "chat of a dearer model": (CHAT, MINI | {"model": "gpt-4o"}, "words=3"),
    "responses": (RESPONSES, {"model": "gpt-4o-mini", "input": "one two three"}, "words=32;cached=2"),
    "responses streamed": (RESPONSES, {"model": "gpt-4o-mini", "input": "one two", "stream": True}, "reasoning=3"),
    "completions": ("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "once upon a time"}, "words=9"),
    "embeddings": ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["a b c", "d e"]}, ""),
    "anthropic": (MESSAGES, HAIKU, "words=33;cached=5"),
    "anthropic streamed": (MESSAGES, HAIKU | {"stream": True}, "words=34;cached=5"),
}
"""Calls after which the simulated provider says what they used: target, body, wish."""


def post(target: str, body: dict[str, Any], wish: str = "", *fields: tuple[str, str]) -> bytes:
    """A call as bytes; ``wish`` is for the simulator."""
    return request("POST", target, ("X-Simulate", wish), *fields, body=json.dumps(body).encode())


def price(model: str, fresh: int, cached: int, written: int) -> int:
    """Nano-dollars."""
    return sum(rate * count for rate, count in zip(RATES[model], (fresh, cached, written), strict=True))


def bill(billed: Billed) -> int:
    """What the provider would ask for: cached tokens are part of its input, reasoning part of its output."""
    return price(billed.model, billed.input - billed.cached, billed.cached, billed.output)


async def look(gateway: Any, path: str) -> bytes:
    """What the admin listener answers."""
    answer = await ask(gateway.admin_port, request("GET", path, host="localhost"))
    assert answer.status == 200, answer.body.content
    return answer.body.content


async def budgets_of(gateway: Any) -> dict[str, dict[str, Any]]:
    """The budgets by scope (of tests that have one a scope)."""
    found = json.loads(await look(gateway, "/api/v1/budgets?limit=500"))["budgets"]
    return {each["scope"]: each for each in found}


async def until_held(gateway: Any, scope: str = "global") -> dict[str, Any]:
    """The budget of a scope, as soon as a running call holds some of it."""
    async with asyncio.timeout(15):
        while not (budget := (await budgets_of(gateway)).get(scope, {})).get("held_nanousd"):
            await asyncio.sleep(0.01)
    return budget


async def record_after(gateway: Any, answer: Answer) -> dict[str, Any]:
    """The record of the call that was answered so."""
    return await record_of(gateway.admin_url, answer.head.value(b"x-tollgate-call-id"))


async def correlated(gateway: Any, correlation_id: str, count: int) -> list[dict[str, Any]]:
    """All records of one correlation id, as soon as there are so many."""
    async with asyncio.timeout(30):
        while True:
            found: list[dict[str, Any]] = json.loads(
                await look(gateway, f"/api/v1/calls?limit=500&correlation_id={correlation_id}")
            )["calls"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.01)
