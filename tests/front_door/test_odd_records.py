"""What callers and providers may say that looks like the gateway's own words, or cannot be written down: it is booked all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, MINI, correlated, post, record_after
from tests.harness.messages import request, response
from tests.harness.raw_client import Answer, ask
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAID = {"prompt_tokens": 1000, "completion_tokens": 200}
COST = 1000 * 150 + 200 * 600
"""Nano-dollars, at gpt-4o-mini's prices."""
DEEP = b'"deep":' + b"[" * 300 + b"]" * 300
LATER_THAN_ALL_HOURS = "ffffffff-ffff-7fff-8fff-ffffffffffff"


@pytest.fixture
def store(either_store: Any) -> dict[str, Any]:
    """Each test here once with each kind of store."""
    block, _ = either_store
    return block


def paid(usage: bytes = b"") -> list[bytes]:
    """An answer that was paid for; ``usage`` is more of what it says of that."""
    told = json.dumps(PAID).encode()[:-1] + (b"," + usage if usage else b"") + b"}"
    body = b'{"model":"gpt-4o-mini","choices":[],"usage":' + told + b"}"
    return [response(200, ("Content-Type", "application/json"), body=body)]


async def say(gateway: Any, *fields: tuple[str, str]) -> Answer:
    answer = await ask(gateway.front_port, post(CHAT, MINI, "", ("X-Tollgate-Team", "a"), *fields))
    assert answer.status == 200
    return answer


async def spent(gateway: Any) -> int:
    answer = await ask(gateway.admin_port, request("GET", "/api/v1/budgets", host="localhost"))
    (budget,) = json.loads(answer.body.content)["budgets"]
    assert budget["held_nanousd"] == 0
    return int(budget["spent_nanousd"])


@pytest.mark.parametrize("name", ["awaits", "correlation_id", "call_id", "cost_nanousd"])
async def test_tags_may_be_called_what_fields_of_records_are(
    upstream: ScriptedUpstream, serve: Serve, store: dict[str, Any], name: str
) -> None:
    """They are the caller's to name, and stand within the record."""
    gateway = await serve(store=store, budgets=[{"scope": "team:a", "limit_usd": 1, "window": "month"}])
    upstream.answer = paid()
    record = await record_after(gateway, await say(gateway, ("X-Tollgate-Tags", f"{name}=x")))
    assert (record["tags"], record["cost_nanousd"]) == ({name: "x"}, COST)
    await record_after(gateway, await say(gateway))
    assert await spent(gateway) == 2 * COST


@pytest.mark.parametrize("usage", [b'"awaits":"x"', b'"correlation_id":"x"', DEEP, b'"huge":18446744073709551615'])
async def test_a_provider_may_say_what_it_likes_of_its_usage(
    upstream: ScriptedUpstream, serve: Serve, store: dict[str, Any], usage: bytes
) -> None:
    """The counts that can be read are billed, this call's and those of the calls beside it."""
    gateway = await serve(store=store, budgets=[{"scope": "team:a", "limit_usd": 1, "window": "month"}])
    upstream.answer = paid(usage)
    record = await record_after(gateway, await say(gateway))
    assert (record["cost_nanousd"], record["usage_source"]) == (COST, "provider")
    assert record["usage_raw"].items() >= PAID.items()
    assert await spent(gateway) == COST


async def test_a_correlation_id_with_quotes_is_nobody_elses(
    upstream: ScriptedUpstream, serve: Serve, store: dict[str, Any]
) -> None:
    """Whatever else in the record looks like one."""
    gateway = await serve(store=store)
    upstream.answer = paid()
    fields = ("X-Correlation-Id", 'a"b'), ("X-Tollgate-Tags", "correlation_id=mine")
    record = await record_after(gateway, await say(gateway, *fields))
    assert record["correlation_id"] == 'a"b'
    (found,) = await correlated(gateway, "a%22b", 1)
    assert found["call_id"] == record["call_id"]
    assert await correlated(gateway, "mine", 0) == []


@pytest.mark.parametrize("path", ["calls/{}", "calls?cursor={}", "requests/{}"])
async def test_a_call_id_of_no_hour_that_there_is_names_no_call(serve: Serve, store: dict[str, Any], path: str) -> None:
    """A UUID of version 7 reaches to the year 10889."""
    gateway = await serve(store=store)
    target = f"/api/v1/{path.format(LATER_THAN_ALL_HOURS)}"
    answer = await ask(gateway.admin_port, request("GET", target, host="localhost"))
    assert answer.status == (200 if "?" in path else 404)
