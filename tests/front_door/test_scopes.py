"""Budgets by model, tag, agent, request and call, alone and together, through the front door; and what apps wish themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.simulator import Simulator
from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, MINI, budgets_of, post, record_after
from tests.harness.gateways import records
from tests.harness.raw_client import Answer, ask

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEARER = MINI | {"model": "gpt-4o", "max_tokens": 20}
CHEAP = MINI | {"max_tokens": 20}
ALMOST_NOTHING = "0.00000001"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """The pretend provider."""
    async with Simulator() as simulator:
        yield simulator


async def call(gateway: Any, body: dict[str, Any] = CHEAP, **fields: str) -> Answer:
    headers = [
        (f"x-tollgate-{name}" if name != "correlation_id" else "x-correlation-id", value)
        for name, value in fields.items()
    ]
    return await ask(gateway.front_port, post(CHAT, body, "words=10", *headers))


def refused_by(answer: Answer) -> tuple[str, str]:
    error = json.loads(answer.body.content)["error"]
    return error["budget"], error["scope"]


async def test_a_model_can_be_limited_for_a_team(provider: Simulator, serve: Serve) -> None:
    """Other models of the team, and the model for other teams, go on."""
    scope = "team:search+model:gpt-4o"
    gateway = await serve(provider.url, budgets=[{"scope": scope, "limit_usd": ALMOST_NOTHING, "name": "dear"}])
    answer = await call(gateway, DEARER, team="search")
    assert (answer.status, refused_by(answer)) == (429, ("dear", "team:search+model:gpt-4o"))
    assert (await call(gateway, CHEAP, team="search")).status == 200
    assert (await call(gateway, DEARER, team="ads")).status == 200


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ("tag:project=apollo", {"tags": "project=apollo"}, {"tags": "project=gemini"}),
        ("agent:planner", {"agent": "planner"}, {"agent": "writer"}),
        ("upstream:openai+user:ann", {"user": "ann"}, {"user": "bob"}),
        ("provider:openai+tag:env=test", {"tags": "env=test,x=1"}, {}),
    ],
)
async def test_any_of_a_calls_facts_can_be_limited(
    provider: Simulator, serve: Serve, scope: str, inside: dict[str, str], outside: dict[str, str]
) -> None:
    """Only what it speaks of."""
    gateway = await serve(provider.url, budgets=[{"scope": scope, "limit_usd": ALMOST_NOTHING, "window": "total"}])
    assert (await call(gateway, **inside)).status == 429
    assert (await call(gateway, **outside)).status == 200


async def test_all_models_of_a_pattern_share_a_purse(provider: Simulator, serve: Serve) -> None:
    """What each costs is on the one account."""
    gateway = await serve(provider.url, budgets=[{"scope": "model:gpt-4o*", "limit_usd": 10}])
    found = [await record_after(gateway, await call(gateway, body)) for body in (CHEAP, DEARER, CHEAP)]
    spent = (await budgets_of(gateway))["model:gpt-4o*"]["spent_nanousd"]
    assert spent == sum(record["cost_nanousd"] for record in found) > 0
    assert all(any(account.startswith("model:gpt-4o*/day:") for account in record["accounts"]) for record in found)


async def test_a_request_of_many_calls_has_one_purse(provider: Simulator, serve: Serve) -> None:
    """An agent that runs in circles ends there; the next request begins anew."""
    gateway = await serve(provider.url, budgets=[{"scope": "request", "limit_usd": "0.0001", "name": "circles"}])
    found = [(await call(gateway, DEARER, correlation_id="r-1")) for _ in range(3)]
    assert [answer.status for answer in found][-1] == 429
    assert refused_by(found[-1]) == ("circles", "request:r-1")
    assert (await call(gateway, CHEAP, correlation_id="r-2")).status == 200


async def test_a_call_has_a_ceiling(provider: Simulator, serve: Serve) -> None:
    """Refused before it is sent, and nothing is held; the message says what it would need."""
    gateway = await serve(
        provider.url, budgets=[{"scope": "call", "limit_usd": "0.0001", "mode": "strict", "name": "ceiling"}]
    )
    before = len(provider.ledger)
    answer = await call(gateway, DEARER | {"max_tokens": 1000})
    assert (answer.status, refused_by(answer)) == (429, ("ceiling", "call"))
    error = json.loads(answer.body.content)["error"]
    assert error["needed_usd"] > 0.0001 == error["limit_usd"]
    assert len(provider.ledger) == before
    assert (await call(gateway)).status == 200


@pytest.mark.parametrize(("mode", "statuses"), [("hard", [200, 429]), ("soft", [200, 429]), ("shadow", [200, 200])])
async def test_modes(provider: Simulator, serve: Serve, mode: str, statuses: list[int]) -> None:
    """Soft lets the call that crosses the limit through, and none after it; shadow refuses nothing and counts all."""
    limit = "0.000015" if mode == "hard" else ALMOST_NOTHING
    gateway = await serve(
        provider.url, budgets=[{"scope": "team:a", "limit_usd": limit, "mode": mode, "window": "total"}]
    )
    found = []
    for _ in range(2):
        answer = await call(gateway, CHEAP | {"max_tokens": 10}, team="a")
        found.append(answer.status)
        await record_after(gateway, answer)
    assert found == statuses


@pytest.mark.parametrize(
    ("wish", "fields", "scope"),
    [
        (f"{ALMOST_NOTHING}/day", {"team": "a"}, "team:a"),
        (f"{ALMOST_NOTHING}/month", {"team": "a", "user": "ann"}, "user:ann"),
        (f"{ALMOST_NOTHING}/total/agent", {"team": "a", "agent": "x"}, "agent:x"),
        (f"100/day, {ALMOST_NOTHING}/call", {"team": "a"}, "call"),
    ],
)
async def test_an_app_can_tighten_its_own_limits(
    provider: Simulator, serve: Serve, wish: str, fields: dict[str, str], scope: str
) -> None:
    """With a header that the provider never sees; without it the call goes through."""
    gateway = await serve(provider.url, budgets=[{"scope": "team:a", "limit_usd": 10}])
    answer = await call(gateway, budget=wish, **fields)
    assert (answer.status, refused_by(answer)) == (429, ("x-tollgate-budget", scope))
    assert (await call(gateway, **fields)).status == 200


async def test_an_app_cannot_loosen_them(provider: Simulator, serve: Serve) -> None:
    """The config's limit stands."""
    gateway = await serve(provider.url, budgets=[{"scope": "team:a", "limit_usd": ALMOST_NOTHING, "name": "theirs"}])
    answer = await call(gateway, budget="1000/day", team="a")
    assert (answer.status, refused_by(answer)[0]) == (429, "theirs")


@pytest.mark.parametrize(
    "wish",
    ["5", "5/year", "x/day", "-1/day", "1/day/team/x", "1/day/model", "1e3/day", "/".join("1") + ",", "1/day," * 9],
)
async def test_a_wish_that_cannot_be_read_is_refused(provider: Simulator, serve: Serve, wish: str) -> None:
    """Ignoring it would spend what somebody wanted to save."""
    gateway = await serve(provider.url)
    answer = await call(gateway, budget=wish)
    assert answer.status == 400
    error = json.loads(answer.body.content)["error"]
    assert (error["code"], "x-tollgate-budget" in error["message"]) == ("malformed_header", True)


async def test_no_combination_is_ever_exceeded(provider: Simulator, serve: Serve) -> None:
    """Forty calls at once over three strict budgets: what was spent stays within each of them."""
    limit = 60_000
    scopes = ["team:a+model:gpt-4o-mini", "agent:*", "tag:project"]
    budgets = [
        {"scope": scope, "limit_usd": f"{limit / 1e9:.9f}", "mode": "strict", "window": "total"} for scope in scopes
    ]
    gateway = await serve(provider.url, budgets=budgets)
    fields = {"team": "a", "agent": "x", "tags": "project=p"}
    found = await asyncio.gather(*(call(gateway, CHEAP | {"max_tokens": 10}, **fields) for _ in range(40)))
    assert {answer.status for answer in found} == {200, 429}
    done = await records(gateway.admin_url, 40)
    spent = sum(record["cost_nanousd"] for record in done)
    balances = await budgets_of(gateway)
    assert {balances[scope]["spent_nanousd"] for scope in ("team:a+model:gpt-4o-mini", "agent:x", "tag:project=p")} == {
        spent
    }
    assert 0 < spent <= limit
    assert all(each["held_nanousd"] == 0 for each in balances.values())
