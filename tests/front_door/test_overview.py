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
from tests.harness.messages import request
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


async def test_what_was_not_yet_added_up_is_added_up_when_somebody_asks(provider: Simulator, serve: Serve) -> None:
    """An answer is what was added up last and says when; asking begins the next, which has what came since."""
    gateway = await serve(provider.url)
    first = await overview(gateway)
    assert (first["totals"]["calls"], first["rows"], first["others"]) == (0, [], None)
    found = await traffic(gateway)
    later = await overview(gateway, "", len(found))
    assert later["as_of"] > first["as_of"]
    assert counted(later["totals"]) == total(found)


@pytest.mark.parametrize(
    "query",
    ["period=year", "by=nothing", "by=team,model", "limit=0", "limit=501", "limit=x", "limit=-1", "what=1", "by=team&by=team",
     f"search={'x' * 201}"],
)  # fmt: skip
async def test_what_cannot_be_asked_is_a_400_that_repeats_nothing(
    provider: Simulator, serve: Serve, query: str
) -> None:
    """Also of budgets and percentiles."""
    gateway = await serve(provider.url)
    for path in (
        "overview?",
        "budgets?sort=nothing&",
        "budgets?cursor=zq%25&",
        "latency?window=2m&",
        "latency?by=nothing&",
    ):
        answer = await ask(gateway.admin_port, request("GET", f"/api/v1/{path}{query}", host="localhost"))
        assert answer.status == 400, path
        assert set(json.loads(answer.body.content)["error"]) == {"message", "status"}
        assert b"zq" not in answer.body.content


async def test_now_and_percentiles_are_of_the_last_minutes(provider: Simulator, serve: Serve) -> None:
    """In-process figures: rates, shares, and percentiles as they were within 2.2 % of what the records say."""
    gateway = await serve(provider.url)
    found = await traffic(gateway)
    now = json.loads(await look(gateway, "/api/v1/now"))
    assert (now["in_flight"], now["queue_depth"], now["owed_settlements"], now["status"]) == (0, 0, 0, "ok")
    assert now["cost_per_minute_nanousd"] == sum(record["cost_nanousd"] for record in found)
    assert now["cost_per_minute_usd"] == format_usd(now["cost_per_minute_nanousd"])
    assert (now["errors_per_minute"], now["refused_per_minute"]) == (1, 0)
    assert now["unpriced_share"] == pytest.approx(1 / len(found), abs=1e-6)
    assert now["config_version"] == gateway.snapshot.version
    for by in ("model", "upstream", "call_type"):
        told = json.loads(await look(gateway, f"/api/v1/latency?window=1h&by={by}"))
        assert sum(row["calls"] for row in told["rows"]) == told["all"]["calls"] == len(found)
        slowest = max(record["latency_ms"] for record in found)
        assert told["all"]["latency_ms"]["p99"] == pytest.approx(max(1, slowest), rel=0.045)
        assert told["rows"] == sorted(told["rows"], key=lambda row: -row["calls"])


async def test_a_wildcard_shows_every_account_that_the_store_has(provider: Simulator, serve: Serve) -> None:
    """Also of callers that another process served; in pages, the most used first or by name, as they are searched for."""
    budgets = [
        {"scope": "team:*", "limit_usd": 1, "window": "day"}, {"scope": "team:Team-a", "limit_usd": 2, "window": "day"},
        {"scope": "user:*", "limit_usd": 3, "window": "month", "mode": "shadow"},
    ]  # fmt: skip
    gateway = await serve(provider.url, budgets=budgets)
    found = await traffic(gateway)
    gateway.snapshot.ledger._met.clear()  # as if this process had seen nobody
    told = json.loads(await look(gateway, "/api/v1/budgets"))
    rows = {row["scope"]: row for row in told["budgets"]}
    assert (set(rows), told["next"]) == ({"team:Team-a", "team:Team-b", "team:Team-c", "team:Team-d", "user:-"}, None)
    assert rows["team:Team-a"]["limit_usd"] == "2.00", "its own budget stands in the place of the wildcard"
    assert (rows["user:-"]["mode"], rows["team:Team-b"]["mode"]) == ("shadow", "hard")
    for team in "abcd":
        spent = sum(record["cost_nanousd"] for record in found if record["team"] == f"Team-{team}")
        row = rows[f"team:Team-{team}"]
        assert (row["spent_nanousd"], row["source"], row["version"]) == (spent, "config", None)
        assert row["used_ratio"] == pytest.approx(spent / row["limit_nanousd"], abs=1e-6)
    for query in ("sort=used", "sort=name", "search=EAM-", "search=user"):
        whole = json.loads(await look(gateway, f"/api/v1/budgets?{query}"))["budgets"]
        pages, cursor = [], ""
        while cursor is not None:
            page = json.loads(await look(gateway, f"/api/v1/budgets?limit=1&{query}&cursor={cursor}"))
            pages += page["budgets"]
            cursor = page["next"]
        assert [row["scope"] for row in pages] == [row["scope"] for row in whole], query
        assert len(whole) == {"search=EAM-": 4, "search=user": 1}.get(query, 5)


async def test_pages_hold_each_account_once_whatever_is_equal(provider: Simulator, serve: Serve) -> None:
    """Budgets of other limits and equal shares: every page goes on exactly where the one before ended."""
    budgets = [
        {"scope": "team:*", "limit_usd": 1, "window": "day"}, {"scope": "team:*", "limit_usd": 1, "window": "month"},
        {"scope": "team:*", "limit_usd": 3, "window": "week"}, {"scope": "model:*", "limit_usd": "0.7", "window": "day"},
    ]  # fmt: skip
    gateway = await serve(provider.url, budgets=budgets)
    await traffic(gateway, "aabbcd")
    for sort in ("used", "name"):
        whole = json.loads(await look(gateway, f"/api/v1/budgets?sort={sort}"))["budgets"]
        assert len(whole) == 3 * 4 + 2
        for limit in (1, 2, 5):
            pages: list[dict[str, Any]] = []
            cursor: str | None = ""
            while cursor is not None:
                page = json.loads(await look(gateway, f"/api/v1/budgets?limit={limit}&sort={sort}&cursor={cursor}"))
                pages += page["budgets"]
                cursor = page["next"]
            assert [(row["budget"], row["scope"]) for row in pages] == [(row["budget"], row["scope"]) for row in whole]
