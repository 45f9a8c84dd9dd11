"""Everything at once: the books agree with the provider's to the nano-dollar, whatever happens to clients and to the store."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio
import yaml
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.simulator import Simulator
from pricing.money import format_usd
from tests.front_door.conftest import Serve
from tests.harness.books import CALLS, bill, budgets_of, look, post
from tests.harness.gateways import write
from tests.harness.messages import CutOff
from tests.harness.raw_client import ask, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = {"scope": "global", "limit_usd": 1000, "window": "total"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """It keeps a ledger of what it delivered."""
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
def store(either_store: Any) -> tuple[dict[str, Any], Any]:
    """(block of the config, the server if there is one)."""
    block, server = either_store
    return block | ({"timeout": "300ms"} if server is not None else {}), server


async def one_call(gateway: Any, random: Random, number: int) -> None:
    """Some clients leave in the middle, or before the first byte."""
    target, body, wish = random.choice(list(CALLS.values()))
    request = post(target, body, f"{wish};pace=0.002" if wish else "", ("X-Tollgate-Team", f"t{number % 5}"))
    await asyncio.sleep(random.random() * 5.0)
    with contextlib.suppress(CutOff, OSError, asyncio.IncompleteReadError):
        if random.random() < 0.7:
            await ask(gateway.front_port, request)
            return
        async with connected(gateway.front_port) as client:
            await client.send(request)
            await asyncio.sleep(random.random() * 0.1)
            if random.random() < 0.5:
                client.reset()


async def agreed(gateway: Any, provider: Simulator, before: int) -> dict[str, Any]:
    """The budget, as soon as nothing is held, every call is in the books (refused ones cost nothing and may come last), and what is
    spent is what the provider would bill.
    """
    async with asyncio.timeout(40):
        while True:
            with contextlib.suppress(AssertionError):
                budget = (await budgets_of(gateway))["global"]
                booked = sum(row["calls"] for row in json.loads(await look(gateway, "/api/v1/spend?by=team"))["rows"])
                bills = [bill(billed) for billed in list(provider.ledger)[before:]]
                if booked == 1000 and not budget["held_nanousd"] and budget["spent_nanousd"] == sum(bills) > 0:
                    return budget
            await asyncio.sleep(0.1)


async def run(folder: Path, *arguments: str) -> Result:
    """A command on the gateway's own config, in a thread: the gateway serves on."""
    return await asyncio.to_thread(
        CliRunner().invoke, main, [arguments[0], "--config", str(folder / "tollgate.yaml"), *arguments[1:]]
    )


async def test_a_storm_leaves_exact_books(provider: Simulator, serve: Serve, store: Any, tmp_path: Path) -> None:
    """A thousand calls of every dialect; a third of the clients hang up; the limit is lowered and raised by reloads; the Redis
    is killed and comes back empty. Records, counters, sums, metrics and the provider's ledger are one figure.
    """
    block, server = store
    random, before = Random(11), len(provider.ledger)
    gateway = await serve(provider.url, store=block, budgets=[LIMIT], metering={"on_disconnect": "drain"})
    calls = [asyncio.create_task(one_call(gateway, random, number)) for number in range(1000)]
    await asyncio.sleep(0.5)
    config = json.loads(await look(gateway, "/api/v1/config"))["config"]
    assert config["budgets"][0]["limit_usd"] == "1000.00"
    await lower(gateway, tmp_path, "0.000001")
    if server is not None:
        server.kill()
        await asyncio.sleep(0.3)
        server.start()
    await asyncio.sleep(0.3)
    await lower(gateway, tmp_path, "1000")
    await asyncio.gather(*calls)
    budget = await agreed(gateway, provider, before)
    audited = await run(tmp_path, "audit", "--json")
    found = json.loads(audited.stdout)
    assert (audited.exit_code, found["different"], found["accounts"], found["spend"]) == (0, [], [], []), audited.output
    assert found["cost_nanousd"] == budget["spent_nanousd"]
    report = json.loads((await run(tmp_path, "report", "--format", "json", "--by", "team,model")).stdout)
    assert sum(row["cost_nanousd"] for row in report["rows"]) == budget["spent_nanousd"]
    spend = json.loads(await look(gateway, "/api/v1/spend?by=team"))
    assert sum(row["cost_nanousd"] for row in spend["rows"]) == budget["spent_nanousd"]
    newest = json.loads(await look(gateway, "/api/v1/calls?limit=500"))["calls"]
    assert len({call["call_id"] for call in newest}) == len(newest) == 500
    assert found["calls"] == sum(row["calls"] for row in report["rows"]) == 1000
    completed = json.loads(await look(gateway, "/api/v1/calls?limit=500&outcome=completed"))["calls"]
    one = next(call for call in completed if call["cost_nanousd"])
    explained = await run(tmp_path, "price", "--call", one["call_id"])
    assert (explained.exit_code, format_usd(one["cost_nanousd"]) in explained.stdout) == (0, True), explained.output
    corrected = await run(tmp_path, "correct", "--json")
    assert json.loads(corrected.stdout)["corrections"] == []


async def lower(gateway: Any, folder: Path, limit: str) -> None:
    """Another limit, taken over by the gateway that runs."""
    config = yaml.safe_load((folder / "tollgate.yaml").read_text())
    config["budgets"][0]["limit_usd"] = limit
    write(folder, config)
    gateway.reload()
    async with asyncio.timeout(10):
        while json.loads(await look(gateway, "/api/v1/config"))["config"]["budgets"][0]["limit_usd"].rstrip(
            "0."
        ) != limit.rstrip("0."):
            await asyncio.sleep(0.02)
