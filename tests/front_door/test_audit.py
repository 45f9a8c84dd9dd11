"""``tollgate audit``: real calls of every dialect come out the same, and whatever is changed afterwards is found."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.simulator import Simulator
from pricing.money import format_usd
from tests.front_door.conftest import Serve
from tests.harness.books import CALLS, CHAT, HAIKU, MESSAGES, MINI, TOLD, post
from tests.harness.gateways import GatewayProcess, config_for, records
from tests.harness.messages import CutOff
from tests.harness.raw_client import ask, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

ODD = [
    (CHAT, MINI | {"stream": True}, "words=20"),  # counted
    (CHAT, MINI | {"model": "never-heard-of"}, "words=20"),  # unpriced
    (CHAT, MINI, "status=500"),
    (MESSAGES, HAIKU | {"stream": True}, "cut=4"),
    ("/v1/moderations", {"input": "x"}, ""),
    (CHAT, MINI | {"service_tier": "flex"}, ""),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """The pretend provider."""
    async with Simulator() as simulator:
        yield simulator


async def audit(folder: Path, *options: str) -> Result:
    """The command, on the gateway's own config, in a thread: the gateway serves on."""
    arguments = ["audit", "--config", str(folder / "tollgate.yaml"), *options]
    return await asyncio.to_thread(CliRunner().invoke, main, arguments)


async def found(folder: Path) -> dict[str, Any]:
    result = await audit(folder, "--json")
    document: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (1 if document["different"] or document["accounts"] or document["spend"] else 0)
    return document


async def traffic(gateway: Any) -> int:
    """Calls of every dialect, good and bad ones, one of which its client leaves; returns how many."""
    calls = [*CALLS.values(), *ODD]
    for target, body, wish in calls:
        with contextlib.suppress(CutOff):
            await ask(gateway.front_port, post(target, body, wish))
    async with connected(gateway.front_port) as client:
        await client.send(post(CHAT, MINI | TOLD, "words=50;pace=0.05"))
        await client.see(b"data: ")
    await records(gateway.admin_url, len(calls) + 1)
    return len(calls) + 1


def change(folder: Path, statement: str, *values: Any) -> None:
    """Write in the books behind the gateway's back."""
    with contextlib.closing(sqlite3.connect(folder / "books.db")) as connection, connection:
        assert connection.execute(statement, values).rowcount >= 1


async def test_books_of_real_calls_are_right_while_the_gateway_serves(
    provider: Simulator, serve: Serve, tmp_path: Path
) -> None:
    """Whatever dialect, whoever counted, however it ended."""
    gateway = await serve(provider.url, budgets=[{"scope": "global", "limit_usd": 100, "window": "total"}])
    count = await traffic(gateway)
    report = await found(tmp_path)
    assert report["different"] == report["accounts"] == []
    assert (report["calls"], report["same"], report["held"], report["unknown"]) == (count, count, 0, 0)
    assert report["cost_nanousd"] > 0
    result = await audit(tmp_path)
    assert result.exit_code == 0
    assert "the same to the nano-dollar" in result.stdout
    assert "Every account is the sum of its records" in result.stdout
    assert (await audit(tmp_path, "--since", "2099-01-01")).stdout.startswith("0 calls, $0.00")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("$.cost_nanousd", 1, "cost: recorded $0.000000001, worked out again"),
        ("$.usage.output", 999, "usage: recorded"),
        ("$.usage.bananas", 1, "usage: has units that are not known"),
        ("$.price_rows[0]", "openai/gpt-5", "rows: recorded"),
        ("$.unpriced", True, "unpriced: recorded"),
        ("$.usage_source", "", "for a call that nobody metered"),
        ("$.usage_raw", None, "what the provider said of it cannot be read"),
        ("$.usage_method", "hold", "but its hold was"),
    ],
)
async def test_a_record_that_was_changed_is_found(
    provider: Simulator, serve: Serve, tmp_path: Path, path: str, value: Any, said: str
) -> None:
    """Named by its call, with what is recorded and what comes out."""
    gateway = await serve(provider.url)
    answer = await ask(gateway.front_port, post(*CALLS["chat"]))
    call_id = (answer.head.value(b"x-tollgate-call-id") or b"").decode()
    await records(gateway.admin_url, 1)
    assert (await found(tmp_path))["different"] == []
    change(tmp_path, "UPDATE records SET text = json_set(text, ?, json(?))", path, json.dumps(value))
    (different,) = (await found(tmp_path))["different"]
    assert different["call_id"] == call_id
    assert any(said in each for each in different["differences"]), different
    text = (await audit(tmp_path)).stdout
    assert call_id in text
    assert "DIFFERENT" in text


async def test_an_account_that_was_changed_is_found(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """By exactly as much."""
    gateway = await serve(provider.url)
    await ask(gateway.front_port, post(*CALLS["chat"]))
    await records(gateway.admin_url, 1)
    change(tmp_path, "UPDATE accounts SET spent = spent - 5, held = held + 7")
    (account,) = (await found(tmp_path))["accounts"]
    assert account["account"].startswith("team:-/day:")
    assert (account["spent_beyond_records_nanousd"], account["held_beyond_holds_nanousd"]) == (-5, 7)
    assert "DIFFERENT  team:-/day:" in (await audit(tmp_path)).stdout


async def test_calls_are_worked_out_with_the_prices_of_their_day(
    provider: Simulator, serve: Serve, tmp_path: Path
) -> None:
    """New prices are taken over while it runs: both books are kept, and old calls keep their price."""
    prices = tmp_path / "prices.json"
    row = {"id": "ours", "provider": "openai", "names": ["gpt-4o-mini"], "rates": {"input": "1", "output": "2"}}
    prices.write_text(json.dumps({"rows": [row]}))
    gateway = await serve(provider.url, pricing={"overrides": str(prices)})
    await ask(gateway.front_port, post(*CALLS["chat"]))
    prices.write_text(json.dumps({"rows": [row | {"rates": {"input": "3", "output": "4"}}]}))
    first = gateway.snapshot.book.version
    gateway.reload()
    async with asyncio.timeout(15):
        while gateway.snapshot.book.version == first:
            await asyncio.sleep(0.02)
    await ask(gateway.front_port, post(*CALLS["chat"]))
    new, old = await records(gateway.admin_url, 2)
    assert new["cost_nanousd"] != old["cost_nanousd"]
    assert (await found(tmp_path))["same"] == 2
    change(tmp_path, "DELETE FROM books WHERE version = ?", first)
    report = await found(tmp_path)
    assert (report["same"], report["unknown"], report["different"]) == (1, 1, [])
    assert "cannot be worked out: their price book was not kept" in (await audit(tmp_path)).stdout


async def test_a_lost_call_stands_with_its_hold(provider: Simulator, tmp_path: Path) -> None:
    """kill -9, and a gateway after it that charges what was held."""
    blocks = {"budgets": [{"scope": "global", "limit_usd": 100, "window": "total"}], "store": {"lease": "1s"}}
    config = config_for(tmp_path, provider.url, **blocks)
    gateway = GatewayProcess(tmp_path, config)
    await gateway.start()
    async with connected(gateway.front_port) as client:
        await client.send(post(CHAT, MINI | TOLD, "words=50;pace=0.1"))
        await client.see(b"data: ")
        gateway.signal(signal.SIGKILL)
        await gateway.ended()
    after = GatewayProcess(tmp_path, config)
    await after.start()
    try:
        await records(after.admin_url, 1)
        report = await found(tmp_path)
    finally:
        await after.kill()
    assert (report["held"], report["different"], report["accounts"]) == (1, [], [])


async def test_what_is_no_store_is_said_in_a_sentence(tmp_path: Path) -> None:
    """Nothing is created by looking."""
    (tmp_path / "tollgate.yaml").write_text(yaml.safe_dump({"store": {"url": f"sqlite:///{tmp_path}/none.db"}}))
    result = await audit(tmp_path)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"tollgate: error: sqlite:///{tmp_path}/none.db: There is no such store.\n")
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "none.db").write_bytes(b"not a database, but long enough to have a header of one hundred bytes " * 3)
    assert "not a database" in (await audit(tmp_path)).stderr


async def test_the_providers_own_figures_are_held_against_ours(
    provider: Simulator, serve: Serve, tmp_path: Path
) -> None:
    """``tollgate reconcile`` on an export that says what the provider's ledger says, and on one that says more."""
    gateway = await serve(provider.url)
    before = len(provider.ledger)
    for name in ("chat", "chat streamed with usage", "responses"):
        await ask(gateway.front_port, post(*CALLS[name]))
    (day,) = {record["started_at"][:10] for record in await records(gateway.admin_url, 3)}
    billed = list(provider.ledger)[before:]
    start = int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())

    async def reconcile(more: int, *options: str) -> Result:
        counts = {"input_tokens": sum(each.input for each in billed), "num_model_requests": 3, "model": "gpt-4o-mini"}
        result = counts | {"output_tokens": sum(each.output for each in billed) + more}
        export = tmp_path / "usage.json"
        export.write_text(json.dumps({"data": [{"start_time": start, "results": [result]}]}))
        arguments = ["reconcile", str(export), "--config", str(tmp_path / "tollgate.yaml"), *options]
        return await asyncio.to_thread(CliRunner().invoke, main, arguments)

    agreed = await reconcile(0, "--tolerance", "0")
    assert (agreed.exit_code, agreed.stdout.splitlines()[-1]) == (0, "Both sides agree.")
    differs = await reconcile(1, "--tolerance", "0")
    assert (differs.exit_code, differs.stdout.splitlines()[-1]) == (1, "1 of 1 rows differ by more than 0 %.")
    assert "* output" in differs.stdout
    assert (await reconcile(1, "--tolerance", "5%")).exit_code == 0
    (row,) = json.loads((await reconcile(1, "--tolerance", "0", "--json")).stdout)
    assert (row["day"], row["model"], row["differs"]) == (day, "gpt-4o-mini", ["output_tokens"])
    assert "a percentage from 0 to 100" in (await reconcile(0, "--tolerance", "many")).stderr


async def test_the_price_of_a_call_is_explained(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """Line by line, with the book of its day; what is no metered call says so."""
    gateway = await serve(provider.url)
    answer = await ask(gateway.front_port, post(*CALLS["chat"]))
    call_id = (answer.head.value(b"x-tollgate-call-id") or b"").decode()
    moderated = await ask(gateway.front_port, post("/v1/moderations", {"input": "x"}, ""))
    (_, record) = await records(gateway.admin_url, 2)

    async def explain(*options: str) -> Result:
        arguments = ["price", "--config", str(tmp_path / "tollgate.yaml"), *options]
        return await asyncio.to_thread(CliRunner().invoke, main, arguments)

    text = (await explain("--call", call_id)).output
    assert text.startswith(f"{call_id}: ${format_usd(record['cost_nanousd'])} for gpt-4o-mini")
    assert "usage   provider (usage)" in text
    document = json.loads((await explain("--call", call_id, "--json")).output)
    assert (document["cost_nanousd"], document["call"]["call_id"]) == (record["cost_nanousd"], call_id)
    free = (moderated.head.value(b"x-tollgate-call-id") or b"").decode()
    assert "nobody metered it: $0.00" in (await explain("--call", free)).stderr
    assert "the store has no call nobody." in (await explain("--call", "nobody")).stderr
    assert "a MODEL is needed" in (await explain()).stderr
