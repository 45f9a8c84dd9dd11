"""Everything that touches money and limits at once: budgets that are raised, lowered and reset, limits, a reload, a gateway that is
killed and comes back, a store that is emptied. In the end all who tell of money tell one figure, and no place is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from tests.harness.books import CHAT, look, post
from tests.harness.gateways import write
from tests.harness.messages import CutOff, response
from tests.harness.raw_client import ask, connected
from tests.harness.redis_servers import Server
from tests.harness.replicas import done, processes
from tests.harness.scripted import Script, ScriptedUpstream, Seen

pytestmark = pytest.mark.asyncio(loop_scope="module")

CENT = 10_000_000
MOST = 90
"""Cents: the highest that the strict budget ever is."""
PLACES = 5
CALL = {"model": "cent-a-call", "messages": [{"role": "user", "content": "hi"}]}
ROWS = {"rows": [{"id": "cent", "provider": "openai", "names": ["cent-a-call"], "rates": {"input": "0", "output": "0", "requests": "0.01"}}]}  # fmt: skip
BODY = json.dumps(
    {"model": "cent-a-call", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5}}
).encode()
BUDGETS = [
    {
        "name": "all",
        "scope": "global",
        "limit_usd": "0.40",
        "window": "total",
        "mode": "strict",
        "notify_at": [50, 100],
    },
    {"name": "each", "scope": "team:*", "limit_usd": "100", "window": "total"},
    {"name": "tried", "scope": "user:*", "limit_usd": "0.05", "window": "total", "mode": "shadow"},
]


@pytest.fixture
def store(either_store: Any) -> tuple[dict[str, Any], Any]:
    """(block of the config, the server if there is one)."""
    block, server = either_store
    return block | {"held_wait": 0, "lease": "2s"} | ({"timeout": "1s"} if server is not None else {}), server


def slowly(random: Random) -> Any:
    def answer(seen: Seen) -> Script:
        return [random.random() * 0.2, response(200, ("Content-Type", "application/json"), body=BODY)]

    return answer


async def one_call(gateways: list[Any], random: Random, number: int) -> int:
    """Some clients leave in the middle; who meets a gateway that is being killed has no status (0)."""
    text = post(CHAT, CALL, "", ("X-Tollgate-Team", f"t{number % 4}"), ("X-Tollgate-User", f"u{number % 3}"))
    await asyncio.sleep(random.random() * 6.0)
    gateway = gateways[number % len(gateways)]
    with contextlib.suppress(CutOff, OSError, asyncio.IncompleteReadError):
        if random.random() < 0.8:
            return (await ask(gateway.front_port, text)).status
        async with connected(gateway.front_port) as client:
            await client.send(text)
            await asyncio.sleep(random.random() * 0.2)
            client.reset()
    return 0


async def operate(gateways: list[Any], folder: Path, random: Random, server: Server | None) -> None:
    """What operators and machines do in the meantime."""
    for limit in ("0.30", "0.90", "0.60"):
        await asyncio.sleep(random.random())
        await done(random.choice(gateways), "PUT", "/api/v1/budgets/all", {"limit_usd": limit})
    await done(gateways[0], "POST", "/api/v1/budgets/all/reset", {})
    victim = gateways[-1]
    await victim.kill()
    await asyncio.sleep(random.random() * 0.3)
    await victim.start()
    for number, gateway in enumerate(gateways):
        path = folder / str(number)
        config = yaml.safe_load((path / "tollgate.yaml").read_text())
        config["limits"][0]["concurrent"] = PLACES
        write(path, config)
        gateway.signal(signal.SIGHUP)
    if server is not None:
        server.say("FLUSHALL")
    await asyncio.sleep(0.5 + random.random())
    async with asyncio.timeout(15):
        while b"\ntollgate_store_up 1" not in await look(gateways[0], "/metrics"):
            await asyncio.sleep(0.05)
    await done(gateways[0], "POST", "/api/v1/budgets/each/reset", {"scope": "team:t0"})
    await done(gateways[0], "POST", "/api/v1/budgets/all/reset", {})


async def standing(gateway: Any) -> dict[str, list[dict[str, Any]]]:
    """The rows of each budget."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in (await done(gateway, "GET", "/api/v1/budgets?limit=500"))["budgets"]:
        found.setdefault(row["budget"], []).append(row)
    return found


async def settled(gateway: Any) -> dict[str, list[dict[str, Any]]]:
    """As soon as nothing is held: lost calls are charged when the lease of their process is over."""
    async with asyncio.timeout(30):
        while True:
            rows = await standing(gateway)
            if not any(row["held_nanousd"] for each in rows.values() for row in each):
                return rows
            await asyncio.sleep(0.1)


async def agreed(gateway: Any, rows: dict[str, list[dict[str, Any]]]) -> None:
    """As soon as it has heard of the last reset; the order of a store's accounts may be some seconds behind."""
    wanted = {name: sorted(each, key=itemgetter("scope")) for name, each in rows.items()}
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(100):
        found = {name: sorted(each, key=itemgetter("scope")) for name, each in (await standing(gateway)).items()}
        if found == wanted:
            return
        await asyncio.sleep(0.05)
    assert found == wanted


async def command(folder: Path, *arguments: str) -> dict[str, Any]:
    config = ("--config", str(folder / "0" / "tollgate.yaml"))
    result = await asyncio.to_thread(CliRunner().invoke, main, [*arguments, *config])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


async def overview_of(gateway: Any, cost_nanousd: int) -> dict[str, Any]:
    """It tells what was added up last and begins the next adding up: it comes to the same figure when it is asked again."""
    async with asyncio.timeout(30):
        while True:
            overview: dict[str, Any] = await done(gateway, "GET", "/api/v1/overview?period=day&by=team")
            if overview["totals"]["cost_nanousd"] == cost_nanousd:
                return overview
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("seed", [1, 6])
async def test_one_figure_of_money_and_no_place_lost(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any, seed: int
) -> None:
    """Records, counters, sums, overview, report, budgets, metrics and audit agree; a strict budget was at no time exceeded."""
    block, server = store
    random = Random(seed)
    upstream.answer = slowly(random)
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump(ROWS))
    limit = {"scope": "global", "concurrent": 2 * PLACES, "requests_per_minute": 10**6, "tokens_per_minute": 10**9}
    blocks = {"store": block, "budgets": BUDGETS, "limits": [limit]}
    async with processes(
        tmp_path, upstream, 3, **blocks, pricing={"overrides": str(tmp_path / "prices.yaml")}
    ) as three:
        calls = [asyncio.create_task(one_call(three, random, number)) for number in range(900)]
        await operate(three, tmp_path, random, server)
        statuses = await asyncio.gather(*calls)
        assert statuses.count(200) > 10
        assert set(statuses) <= {0, 200, 429, 503}
        rows = await settled(three[0])
        (all_,) = rows["all"]
        cost = all_["spent_nanousd"] + all_["forgiven_nanousd"]
        assert cost > 0
        assert all_["spent_nanousd"] <= MOST * CENT
        for name in ("each", "tried"):
            assert sum(row["spent_nanousd"] + row["forgiven_nanousd"] for row in rows[name]) == cost
        for gateway in three:
            await agreed(gateway, rows)
            metrics = (await look(gateway, "/metrics")).decode().splitlines()
            spent = [line for line in metrics if line.startswith("llm_budget_spent_usd") and 'budget="all"' in line]
            assert [round(float(line.rpartition(" ")[2]) * 100) for line in spent] == [all_["spent_nanousd"] // CENT]
            overview = await overview_of(gateway, cost)
        audited = await command(tmp_path, "audit", "--json")
        assert (audited["different"], audited["accounts"], audited["spend"]) == ([], [], [])
        report = await command(tmp_path, "report", "--format", "json", "--by", "team")
        assert audited["cost_nanousd"] == report["total"]["cost_nanousd"] == cost
        assert audited["calls"] == report["total"]["calls"] == overview["totals"]["calls"]
        await places_are_free(three, upstream)


async def places_are_free(gateways: list[Any], upstream: ScriptedUpstream) -> None:
    """As many calls run as may, on all gateways together, and not one more."""
    await done(gateways[0], "PUT", "/api/v1/budgets/all", {"limit_usd": "1000"})
    upstream.seen.clear()
    upstream.answer = [asyncio.Event()]
    hanging: list[asyncio.Task[int]] = []
    async with asyncio.timeout(15):
        while len(upstream.seen) < PLACES:
            hanging = [each for each in hanging if not each.done()]
            missing = PLACES - len(hanging)
            hanging += [asyncio.create_task(_status(gateways[number % 3])) for number in range(missing)]
            await asyncio.sleep(0.2)
    refused = await ask(gateways[0].front_port, post(CHAT, CALL, ""))
    error = json.loads(refused.body.content)["error"]
    assert (refused.status, error["unit"], error["used"]) == (429, "concurrent", PLACES)
    for each in hanging:
        each.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def _status(gateway: Any) -> int:
    return (await ask(gateway.front_port, post(CHAT, CALL, ""))).status
