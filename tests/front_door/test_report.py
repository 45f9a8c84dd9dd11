"""Reports of spend: the API and the command say what the records say, and need none of them."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import signal
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from click.testing import CliRunner, Result

from gateway import inspector
from gateway.cli import main
from gateway.simulator import Simulator
from gateway.store import SPEND_COUNTS
from gateway.store.rollups import spend_of
from pricing.money import format_usd
from tests.front_door.conftest import Serve
from tests.harness.books import CALLS, CHAT, HAIKU, MESSAGES, MINI, TOLD, look, post
from tests.harness.gateways import GatewayProcess, config_for, records
from tests.harness.messages import request
from tests.harness.raw_client import ask, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES = (
    "calls", "failed", "refused", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nanousd", "estimated", "unpriced",
)  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """The pretend provider."""
    async with Simulator() as simulator:
        yield simulator


async def run(folder: Path, command: str, *options: str) -> Result:
    """A command on the gateway's own config, in a thread: the gateway serves on."""
    arguments = [command, "--config", str(folder / "tollgate.yaml"), *options]
    return await asyncio.to_thread(CliRunner().invoke, main, arguments)


async def traffic(gateway: Any) -> list[dict[str, Any]]:
    """Calls of two teams and of nobody: good ones, a refused one, one that its client leaves. Their records."""
    calls = [("search", *CALLS[name]) for name in ("chat", "chat streamed with usage", "anthropic")]
    calls += [("=ads", CHAT, MINI | {"model": "gpt-4o"}, "words=5"), ("=ads", CHAT, MINI, "status=500")]
    calls += [("poor", CHAT, MINI, ""), ("", MESSAGES, HAIKU, "")]
    for team, target, body, wish in calls:
        await ask(gateway.front_port, post(target, body, wish, *([("X-Tollgate-Team", team)] if team else [])))
    async with connected(gateway.front_port) as client:
        await client.send(post(CHAT, MINI | TOLD, "words=50;pace=0.05", ("X-Tollgate-Team", "search")))
        await client.see(b"data: ")
    return await records(gateway.admin_url, len(calls) + 1)


def sums_of(found: list[dict[str, Any]], *by: str) -> dict[tuple[str, ...], tuple[int, ...]]:
    """The same, from records: by day and what they are to be told apart by."""
    sums: dict[tuple[str, ...], tuple[int, ...]] = defaultdict(lambda: (0,) * len(SPEND_COUNTS))
    for record in found:
        names = {**record, "model": record["model_served"] or record["model_requested"]}
        key = (record["started_at"][:10], *(names[name] for name in by))
        sums[key] = tuple(a + b for a, b in zip(sums[key], spend_of(record, by).counts, strict=True))
    return sums


def sums_in(document: dict[str, Any]) -> dict[tuple[str, ...], tuple[int, ...]]:
    """The rows of a report in the same form."""
    rows = document["rows"]
    assert all(row["cost_usd"] == format_usd(row["cost_nanousd"]) for row in rows)
    return {
        (row["period"], *(row[name] for name in document["by"])): tuple(row[name] for name in NAMES) for row in rows
    }


POOR = [{"scope": "team:poor", "limit_usd": "0.000000001", "window": "total"}]


async def test_api_and_command_say_what_the_records_say(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """Whoever asks, by whatever it is told apart; to the nano-dollar and the token."""
    gateway = await serve(provider.url, budgets=POOR)
    found = await traffic(gateway)
    for by in (("team",), ("team", "model"), ("provider", "user"), ()):
        expected = sums_of(found, *by)
        told = json.loads(await look(gateway, f"/api/v1/spend?by={','.join(by)}"))
        assert sums_in(told) == expected
        assert told["truncated"] is False
        total = tuple(sum(each) for each in zip(*expected.values(), strict=True))
        assert tuple(told["total"][name] for name in NAMES) == total
        printed = await run(tmp_path, "report", "--by", ",".join(by), "--format", "json")
        assert json.loads(printed.output) == told
        lines = list(
            csv.DictReader(io.StringIO((await run(tmp_path, "report", "--by", ",".join(by), "--format", "csv")).output))
        )
        assert [tuple(int(line[name]) for name in NAMES) for line in lines] == list(sums_in(told).values())
    assert sums_of(found)[(found[0]["started_at"][:10],)][:3] == (8, 2, 1)
    audit = await run(tmp_path, "audit")
    assert "The sums of spend are those of the records" in audit.output
    assert audit.exit_code == 0


async def test_a_report_needs_no_record(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """It reads the sums: with all records gone it is the same."""
    gateway = await serve(provider.url)
    await traffic(gateway)
    options = ("report", "--by", "team,model,agent")
    before, api = (await run(tmp_path, *options)).output, await look(gateway, "/api/v1/spend?by=user,model")
    assert "search" in before
    with contextlib.closing(sqlite3.connect(tmp_path / "books.db")) as connection, connection:
        connection.execute("DELETE FROM records")
        connection.execute("UPDATE accounts SET spent = 0")  # so that nothing but the sums differs
    assert (await run(tmp_path, *options)).output == before
    assert await look(gateway, "/api/v1/spend?by=user,model") == api
    audit = await run(tmp_path, "audit", "--json")
    assert audit.exit_code == 1
    assert {each["dims"]["team"] for each in json.loads(audit.stdout)["spend"]} == {"search", "=ads", "poor", ""}
    assert "beyond the records" in (await run(tmp_path, "audit")).output


async def test_a_table_for_people(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """Dollars exactly, shares of the whole, a dash for nobody, and no name steers the terminal or a spreadsheet."""
    gateway = await serve(provider.url)
    odd = {"model": "=cmd\x1b[2J\n" + "x" * 60}
    for team, body in (("search", MINI), ("", MINI), ("=SUM(A1)", MINI | odd)):
        await ask(gateway.front_port, post(CHAT, body, "words=9", *([("X-Tollgate-Team", team)] if team else [])))
    found = {record["team"]: record for record in await records(gateway.admin_url, 3)}
    result = await run(tmp_path, "report", "--by", "team,model")
    head, *lines, total = result.output.splitlines()
    assert head.split() == [
        "day",
        "team",
        "model",
        "calls",
        "failed",
        "refused",
        "input",
        "cached",
        "output",
        "cost",
        "$",
        "share",
    ]
    assert len(lines) == 3
    assert not any(letter in result.output for letter in "\x1b\r")
    for line in lines:
        team = line.split()[1]
        assert format_usd(found["" if team == "-" else team]["cost_nanousd"]) in line
    assert total.split()[:2] == ["all", "3"]
    assert total.endswith("100.0 %")
    table = (await run(tmp_path, "report", "--by", "team,model", "--format", "csv")).output
    rows = list(csv.DictReader(io.StringIO(table)))
    assert {row["team"] for row in rows} == {"search", "", "'=SUM(A1)"}
    assert all(not row[name].startswith(("=", "+", "-", "@")) for row in rows for name in ("team", "model"))


async def test_weeks_months_and_days_of_the_past(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """The last seven periods, or those between two days; sums outside are left out."""
    gateway = await serve(provider.url)
    await ask(gateway.front_port, post(*CALLS["chat"]))
    (record,) = await records(gateway.admin_url, 1)
    day = date.fromisoformat(record["started_at"][:10])
    with contextlib.closing(sqlite3.connect(tmp_path / "books.db")) as connection, connection:
        for age in (1, 6, 7, 40, 400):
            connection.execute(
                "INSERT INTO spend SELECT ?, dims, calls, failed, refused, input, cached_input, output, ?, 0, 0 FROM spend WHERE hour >= ?",
                (f"{day - timedelta(days=age)}" + ("T05" if age < 10 else ""), age, f"{day}T"),
            )

    async def costs(query: str) -> list[tuple[str, int]]:
        rows = json.loads(await look(gateway, f"/api/v1/spend?{query}"))["rows"]
        return [(row["period"], row["cost_nanousd"]) for row in rows]

    def ago(days: int) -> str:
        return (day - timedelta(days=days)).isoformat()

    assert await costs("") == [(ago(6), 6), (ago(1), 1), (ago(0), record["cost_nanousd"])]
    assert await costs(f"until={ago(0)}") == [(ago(7), 7), (ago(6), 6), (ago(1), 1)]
    assert await costs(f"since={ago(7)}&until={ago(1)}") == [(ago(7), 7), (ago(6), 6)]
    year, month = (day - timedelta(days=400)).isoformat()[:7].split("-")
    assert (await costs("period=month&since=" + ago(400)))[0] == (f"{year}-{month}", 400)
    weeks = await costs("period=week")
    assert sum(cost for _, cost in weeks) == record["cost_nanousd"] + 1 + 6 + 7 + 40
    iso = day.isocalendar()
    assert weeks[-1][0] == f"{iso.year}-W{iso.week:02d}"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("by=tag", "team, user, agent, model, provider"),
        ("by=team,team", "stands twice"),
        ("by=operation", "spend.by in the config"),
        ("by=team,", "team, user"),
        ("period=hour", "day, week, month"),
        ("since=yesterday", "since must be a day"),
        ("since=2026-02-30", "since must be a day"),
        ("until=20261121", "until must be a day"),
        ("until=0001-01-01", "until must be a day"),
        ("since=2026-11-21&until=2026-11-21", "begin after it ends"),
        ("since=1970-01-01&until=2026-11-21", "at most 3660 days"),
        ("from=2026-11-21", "there is no such parameter"),
        ("by=team&by=user", "by can be asked for once"),
    ],
)
async def test_what_cannot_be_asked_is_a_400(gateway: Any, query: str, said: str) -> None:
    """In words that help and repeat nothing."""
    answer = await ask(gateway.admin_port, request("GET", f"/api/v1/spend?{query}", host="localhost"))
    error = json.loads(answer.body.content)["error"]
    assert answer.status == 400
    assert said in error["message"]
    assert "yesterday" not in error["message"]


async def test_the_command_says_what_to_do(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """A dimension that is not declared, a store without calls, days without spend."""
    gateway = await serve(provider.url, spend={"by": ["user", "team"]})
    empty = await run(tmp_path, "report")
    assert (empty.exit_code, "tollgate demo" in empty.output) == (0, True)
    assert json.loads((await run(tmp_path, "report", "--format", "json")).output)["rows"] == []
    unknown = await run(tmp_path, "report", "--by", "team,model")
    assert unknown.exit_code == 2
    assert "told apart by user, team; spend.by" in unknown.output
    await ask(gateway.front_port, post(*CALLS["chat"]))
    (record,) = await records(gateway.admin_url, 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "books.db")) as connection:
        ((dims,),) = connection.execute("SELECT dims FROM spend").fetchall()
    assert dims == '{"user":"","team":""}'
    other = await run(tmp_path, "report", "--until", "2020-01-01")
    assert f"tollgate report --since {record['started_at'][:10]}" in other.output
    (tmp_path / "tollgate.yaml").write_text(yaml.safe_dump({"store": {"url": f"sqlite:///{tmp_path}/none.db"}}))
    assert "There is no such store" in (await run(tmp_path, "report")).output


async def test_corrections_and_what_was_not_declared(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """``tollgate correct`` adds the difference, no call and no token; a dimension of today is not known for yesterday."""
    row = {"id": "ours", "provider": "openai", "names": ["our-model"], "rates": {"input": "1", "output": "2"}}
    (tmp_path / "prices.json").write_text(json.dumps({"rows": []}))
    blocks: dict[str, Any] = {"pricing": {"overrides": str(tmp_path / "prices.json")}}
    gateway = await serve(provider.url, spend={"by": ["team"]}, **blocks)
    await ask(gateway.front_port, post(CHAT, MINI | {"model": "our-model"}, ""))
    (first,) = await records(gateway.admin_url, 1)
    (tmp_path / "prices.json").write_text(json.dumps({"rows": [row]}))
    config = yaml.safe_load((tmp_path / "tollgate.yaml").read_text()) | {"spend": {"by": ["team", "model"]}}
    (tmp_path / "tollgate.yaml").write_text(yaml.safe_dump(config))
    assert "1 corrections were booked" in (await run(tmp_path, "correct", "--write")).output
    found = await records(gateway.admin_url, 2)
    told = json.loads((await run(tmp_path, "report", "--by", "model", "--format", "json")).output)
    assert {row["model"]: row["calls"] for row in told["rows"]} == {None: 1, "our-model": 0}
    assert told["total"]["cost_nanousd"] == sum(each["cost_nanousd"] for each in found)
    assert told["total"]["input_tokens"] == first["usage"]["input"]
    assert "?" in (await run(tmp_path, "report", "--by", "model")).output
    assert (await run(tmp_path, "audit", "--json")).exit_code == 0


async def test_a_lost_call_is_in_the_report(provider: Simulator, tmp_path: Path) -> None:
    """kill -9: charged with its hold, counted as a failed call of its team."""
    budgets = [{"scope": "team:*", "limit_usd": 100, "window": "total"}]
    config = config_for(tmp_path, provider.url, budgets=budgets, store={"lease": "1s"})
    gateway = GatewayProcess(tmp_path, config)
    await gateway.start()
    async with connected(gateway.front_port) as client:
        await client.send(post(CHAT, MINI | TOLD, "words=50;pace=0.1", ("X-Tollgate-Team", "search")))
        await client.see(b"data: ")
        gateway.signal(signal.SIGKILL)
        await gateway.ended()
    after = GatewayProcess(tmp_path, config)
    await after.start()
    try:
        (record,) = await records(after.admin_url, 1)
        told = json.loads((await run(tmp_path, "report", "--format", "json")).output)
        audit = await run(tmp_path, "audit")
    finally:
        await after.kill()
    assert sums_in(told) == sums_of([record], "team")
    assert [(row["team"], row["calls"], row["failed"]) for row in told["rows"]] == [("search", 1, 1)]
    assert audit.exit_code == 0


async def test_how_sums_are_kept_is_what_the_config_says(provider: Simulator, tmp_path: Path) -> None:
    """A lost call too is counted by what is declared; hours become days and days go when it says."""
    budgets = [{"scope": "team:*", "limit_usd": 100, "window": "total"}]
    blocks = {
        "spend": {"by": ["team"]},
        "retention": {"spend_hours": "2d", "spend_days": "4d"},
        "store": {"lease": "1s"},
    }
    config = config_for(tmp_path, provider.url, budgets=budgets, **blocks)
    gateway = GatewayProcess(tmp_path, config)
    await gateway.start()
    async with connected(gateway.front_port) as client:
        await client.send(post(CHAT, MINI | TOLD, "words=50;pace=0.1", ("X-Tollgate-Team", "search")))
        await client.see(b"data: ")
        gateway.signal(signal.SIGKILL)
        await gateway.ended()
    today = datetime.now(UTC).date()
    with contextlib.closing(sqlite3.connect(tmp_path / "books.db")) as connection, connection:
        for age in (1, 3, 5):
            hour = f"{today - timedelta(days=age)}T05"
            connection.execute('INSERT INTO spend VALUES (?, \'{"team":"old"}\', 1, 0, 0, 1, 0, 1, 1, 0, 0)', (hour,))
    after = GatewayProcess(tmp_path, config)
    await after.start()
    try:
        await records(after.admin_url, 1)
        async with asyncio.timeout(15):
            while len(rows := _rows(tmp_path)) != 3:
                await asyncio.sleep(0.02)
    finally:
        await after.kill()
    assert [hour for hour, _ in rows][:2] == [f"{today - timedelta(days=3)}", f"{today - timedelta(days=1)}T05"]
    assert rows[2][1] == '{"team":"search"}'


def _rows(folder: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(folder / "books.db")) as connection:
        return connection.execute("SELECT hour, dims FROM spend ORDER BY hour").fetchall()


async def test_a_report_that_is_too_long_says_so(
    provider: Simulator, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API has a bound, the command has none."""
    assert inspector.MAX_SPEND_ROWS == 10_000
    monkeypatch.setattr(inspector, "MAX_SPEND_ROWS", 1)
    gateway = await serve(provider.url)
    for team in ("a", "b"):
        await ask(gateway.front_port, post(*CALLS["chat"], ("X-Tollgate-Team", team)))
    found = await records(gateway.admin_url, 2)
    told = json.loads(await look(gateway, "/api/v1/spend"))
    assert (len(told["rows"]), told["truncated"]) == (1, True)
    assert told["total"]["cost_nanousd"] == sum(each["cost_nanousd"] for each in found)
    whole = json.loads((await run(tmp_path, "report", "--format", "json")).output)
    assert (len(whole["rows"]), whole["truncated"]) == (2, False)
