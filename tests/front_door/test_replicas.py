"""Several gateways on one set of books: together they spend what a budget has and not a nano-dollar more."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from tests.harness.books import CHAT, budgets_of, post
from tests.harness.gateways import GatewayProcess, config_for, in_process
from tests.harness.messages import response
from tests.harness.raw_client import Answer, ask
from tests.harness.scripted import Script, ScriptedUpstream, Seen

pytestmark = pytest.mark.asyncio(loop_scope="module")

CENT, DOLLAR = 10_000_000, 1_000_000_000
CALL = {"model": "cent-a-call", "messages": [{"role": "user", "content": "hi"}]}
BUDGETS = [{"scope": "global", "limit_usd": 1, "window": "month", "mode": "strict"}]
ROWS = {"rows": [{"id": "cent", "provider": "openai", "names": ["cent-a-call"], "rates": {"input": "0", "output": "0", "requests": "0.01"}}]}  # fmt: skip


@pytest.fixture
def store(either_store: Any) -> dict[str, Any]:
    """The block of the config."""
    block, _ = either_store
    return block | {"held_wait": 0, "lease": "2s"}


@asynccontextmanager
async def replicas(
    folder: Path, upstream: ScriptedUpstream, store: dict[str, Any], count: int
) -> AsyncIterator[list[Any]]:
    """So many gateways, alike but for their folder."""
    (folder / "prices.yaml").write_text(yaml.safe_dump(ROWS))
    blocks = {"budgets": BUDGETS, "store": store, "pricing": {"overrides": str(folder / "prices.yaml")}}
    async with AsyncExitStack() as stack:
        found = []
        for number in range(count):
            own = folder / str(number)
            own.mkdir()
            found.append(await stack.enter_async_context(in_process(own, config_for(own, upstream, **blocks))))
        yield found


def slowly(random: Random) -> Any:
    """Answers after a while of each one's own: equal times would make any gateway look exact."""
    body = json.dumps(
        {"model": "cent-a-call", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5}}
    ).encode()

    def answer(seen: Seen) -> Script:
        return [random.random() * 0.2, response(200, ("Content-Type", "application/json"), body=body)]

    return answer


async def burst(gateways: list[Any], calls: int) -> list[Answer]:
    """All at once, on connections of their own."""
    request = post(CHAT, CALL)
    return await asyncio.gather(*(ask(gateways[number % len(gateways)].front_port, request) for number in range(calls)))


async def settled(gateway: Any, spent: int) -> dict[str, Any]:
    """The budget, as soon as nothing is held and so much is spent."""
    async with asyncio.timeout(20):
        while True:
            budget = (await budgets_of(gateway))["global"]
            if (budget["spent_nanousd"], budget["held_nanousd"]) == (spent, 0):
                return budget
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
async def test_a_dollar_is_a_hundred_cents(
    upstream: ScriptedUpstream, tmp_path: Path, store: Any, count: int, seed: int
) -> None:
    """Five hundred calls of exactly a cent at once against a strict dollar: a hundred pass, however many gateways there are."""
    upstream.answer = slowly(Random(seed))
    async with replicas(tmp_path, upstream, store, count) as gateways:
        answers = await burst(gateways, 500)
        statuses = [answer.status for answer in answers]
        assert (statuses.count(200), statuses.count(429)) == (100, 400)
        assert len(upstream.seen) == 100
        for gateway in gateways:
            await settled(gateway, DOLLAR)
        late = await burst(gateways, 4)
        assert {json.loads(answer.body.content)["error"]["code"] for answer in late} == {"budget_exceeded"}


async def test_a_killed_replica_leaves_exact_books(upstream: ScriptedUpstream, tmp_path: Path, store: Any) -> None:
    """kill -9 of one of two with calls on their way: its holds are charged and marked lost, the other goes on, the limit holds."""
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump(ROWS))
    blocks: dict[str, Any] = {
        "budgets": BUDGETS,
        "store": store,
        "pricing": {"overrides": str(tmp_path / "prices.yaml")},
    }
    doomed_folder, other_folder = tmp_path / "doomed", tmp_path / "other"
    for folder in (doomed_folder, other_folder):
        folder.mkdir()
    doomed = GatewayProcess(doomed_folder, config_for(doomed_folder, upstream, **blocks))
    upstream.answer = lambda seen: [asyncio.Event()]
    await doomed.start()
    try:
        hanging = [asyncio.create_task(ask(doomed.front_port, post(CHAT, CALL))) for _ in range(30)]
        async with in_process(other_folder, config_for(other_folder, upstream, **blocks)) as other:
            async with asyncio.timeout(15):
                while (await budgets_of(other))["global"]["held_nanousd"] < 30 * CENT:
                    await asyncio.sleep(0.02)
            doomed.signal(signal.SIGKILL)
            await asyncio.gather(*hanging, return_exceptions=True)
            upstream.answer = slowly(Random(3))
            answers = await burst([other], 200)
            assert sum(answer.status == 200 for answer in answers) == 70
            await settled(other, DOLLAR)
            found = await ask(other.admin_port, b"GET /api/v1/calls?limit=500 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            calls = json.loads(found.body.content)["calls"]
            assert sum(call["cost_nanousd"] for call in calls) == DOLLAR
            assert sum(call["outcome"] == "lost" for call in calls) == 30
    finally:
        await doomed.kill()
