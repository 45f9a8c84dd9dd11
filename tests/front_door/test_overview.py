"""What the live page shows: sums are those of the report and the records, whatever is asked; figures, percentiles, budgets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.simulator import Simulator
from gateway.store import SPEND_COUNTS
from gateway.store.rollups import spend_of
from pricing.money import format_usd
from tests.front_door.conftest import Serve
from tests.harness.books import CALLS, CHAT, MINI, look, post
from tests.harness.gateways import records
from tests.harness.raw_client import ask

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """The pretend provider."""
    async with Simulator() as simulator:
        yield simulator


async def traffic(gateway: Any, teams: str = "aaabbc") -> list[dict[str, Any]]:
    """A call of each of these teams, one that fails and one whose model has no price; the records of all."""
    for team in teams:
        await ask(gateway.front_port, post(*CALLS["chat"], ("X-Tollgate-Team", f"Team-{team}")))
    await ask(gateway.front_port, post(CHAT, MINI, "status=500", ("X-Tollgate-Team", "Team-c")))
    await ask(gateway.front_port, post(CHAT, MINI | {"model": "nobody-knows-me"}, "", ("X-Tollgate-Team", "Team-d")))
    return await records(gateway.admin_url, len(teams) + 2)


async def overview(gateway: Any, query: str = "", calls: int = 0) -> dict[str, Any]:
    """As soon as it has counted so many calls."""
    async with asyncio.timeout(15):
        while True:
            found: dict[str, Any] = json.loads(await look(gateway, f"/api/v1/overview?{query}"))
            if found["totals"]["calls"] >= calls:
                return found
            await asyncio.sleep(0.05)


def counted(row: dict[str, Any]) -> tuple[int, ...]:
    """The counts of a row, whose money agrees with itself."""
    assert row["cost_usd"] == format_usd(row["cost_nanousd"])
    return tuple(row[name] for name in SPEND_COUNTS)


def total(found: list[dict[str, Any]]) -> tuple[int, ...]:
    """Of these records."""
    return tuple(sum(column) for column in zip(*(spend_of(record, ()).counts for record in found), strict=True))


@pytest.mark.parametrize("period", ["hour", "day", "week", "month"])
async def test_an_overview_is_the_sum_of_its_records(provider: Simulator, serve: Serve, period: str) -> None:
    """By any dimension; rows, others and series each come to the totals. Nothing was spent before."""
    gateway = await serve(provider.url)
    found = await traffic(gateway)
    for by in ("team", "model", "provider"):
        told = await overview(gateway, f"period={period}&by={by}", len(found))
        assert counted(told["totals"]) == total(found)
        assert sum(each["cost_nanousd"] for each in told["series"]) == told["totals"]["cost_nanousd"]
        assert not any(counted(told["previous"]))
        assert (told["by"], told["period"], told["others"]) == (by, period, None)
        named = [record | {"model": record["model_served"] or record["model_requested"]} for record in found]
        assert {row["value"]: counted(row) for row in told["rows"]} == {
            value: total([record for record in named if record[by] == value]) for value in {each[by] for each in named}
        }
    assert told["dimensions"] == ["team", "user", "agent", "model", "provider"]


async def test_the_dearest_come_first_and_the_rest_is_said(provider: Simulator, serve: Serve) -> None:
    """``others`` is what is beyond the limit; a search finds whatever the case, and its others are those that it found."""
    gateway = await serve(provider.url)
    found = await traffic(gateway)
    told = await overview(gateway, "limit=2", len(found))
    costs = [row["cost_nanousd"] for row in told["rows"]]
    assert len(costs) == 2
    assert costs == sorted(costs, reverse=True)
    assert told["others"]["values"] == 2
    everything = [counted(row) for row in (*told["rows"], told["others"])]
    assert tuple(sum(column) for column in zip(*everything, strict=True)) == total(found)
    told = await overview(gateway, "limit=1&search=tEAM-", len(found))
    assert (len(told["rows"]), told["others"]["values"]) == (1, 3)
    told = await overview(gateway, "search=m-C", len(found))
    assert ([row["value"] for row in told["rows"]], told["others"]) == (["Team-c"], None)
    assert counted(told["totals"]) == total(found), "what is searched for changes no total"
