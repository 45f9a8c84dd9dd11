"""``tollgate correct``: a price that was wrong or missing is made good by records of its own; history stays as it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.simulator import Simulator
from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, MINI, budgets_of, post
from tests.harness.gateways import records
from tests.harness.raw_client import ask

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROW = {"id": "ours", "provider": "openai", "names": ["our-model"], "rates": {"input": "1", "output": "2"}}
BUDGET = {"scope": "team:*", "limit_usd": 100, "window": "total"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """The pretend provider."""
    async with Simulator() as simulator:
        yield simulator


async def run(folder: Path, command: str, *options: str) -> Result:
    arguments = [command, "--config", str(folder / "tollgate.yaml"), *options]
    return await asyncio.to_thread(CliRunner().invoke, main, arguments)


def prices(folder: Path, *rows: dict[str, Any]) -> str:
    (folder / "prices.json").write_text(json.dumps({"rows": list(rows)}))
    return str(folder / "prices.json")


async def test_a_missing_price_is_made_good(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """Shown first, booked when asked, once; the budget and the audit agree, and the first record is untouched."""
    gateway = await serve(provider.url, pricing={"overrides": prices(tmp_path)}, budgets=[BUDGET])
    for model, team in (("our-model", "a"), ("our-model", "b"), ("gpt-4o-mini", "a")):
        await ask(gateway.front_port, post(CHAT, MINI | {"model": model}, "", ("x-tollgate-team", team)))
    before = await records(gateway.admin_url, 3)
    prices(tmp_path, ROW)
    shown = await run(tmp_path, "correct")
    assert shown.exit_code == 0, shown.output
    assert "Nothing was booked" in shown.output
    assert await records(gateway.admin_url, 3) == before
    document = json.loads((await run(tmp_path, "correct", "--write", "--json")).output)
    assert document["booked"] == 2
    after = await records(gateway.admin_url, 5)
    assert [each for each in after if not each["corrects"]] == before
    for fix in (each for each in after if each["corrects"]):
        (first,) = [each for each in before if each["call_id"] == fix["corrects"]]
        right = fix["usage"]["input"] * 1000 + fix["usage"]["output"] * 2000
        assert (fix["outcome"], fix["price_rows"], fix["team"]) == ("corrected", ["ours"], first["team"])
        assert first["cost_nanousd"] + fix["cost_nanousd"] == right
        assert fix["corrected_nanousd"] == first["cost_nanousd"]
    of_b = sum(each["cost_nanousd"] for each in after if each["team"] == "b")
    assert (await budgets_of(gateway))["team:b"]["spent_nanousd"] == of_b
    audited = json.loads((await run(tmp_path, "audit", "--json")).output)
    assert (audited["different"], audited["accounts"], audited["same"]) == ([], [], 5)
    again = await run(tmp_path, "correct", "--write")
    assert "Every call was charged what it costs" in again.output
    assert len(await records(gateway.admin_url, 0)) == 5


async def test_a_correction_can_be_corrected(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """There and back: what remains is what it costs, and the chain tells how it came to that."""
    gateway = await serve(provider.url, pricing={"overrides": prices(tmp_path, ROW)})
    await ask(gateway.front_port, post(CHAT, MINI | {"model": "our-model"}))
    (first,) = await records(gateway.admin_url, 1)
    for rate in ("3", "1"):
        prices(tmp_path, ROW | {"rates": {"input": rate, "output": "2"}})
        await run(tmp_path, "correct", "--write")
    found = await records(gateway.admin_url, 3)
    assert {each["call_id"] for each in found} == {first["call_id"], f"{first['call_id']}+1", f"{first['call_id']}+2"}
    assert sum(each["cost_nanousd"] for each in found) == first["cost_nanousd"]
    assert min(each["cost_nanousd"] for each in found) < 0


async def test_only_what_is_meant_is_corrected(provider: Simulator, serve: Serve, tmp_path: Path) -> None:
    """By model and by day."""
    gateway = await serve(provider.url, pricing={"overrides": prices(tmp_path)})
    await ask(gateway.front_port, post(CHAT, MINI | {"model": "our-model"}))
    await records(gateway.admin_url, 1)
    prices(tmp_path, ROW)
    for options in (("--model", "other*"), ("--since", "2099-01-01"), ("--until", "2020-01-01")):
        assert "Every call was charged" in (await run(tmp_path, "correct", *options)).output
    assert "our-model" in (await run(tmp_path, "correct", "--model", "our-*")).output
