"""Sums of money: whatever many calls do at once, all books agree at the end and no limit was passed on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.simulator import Simulator
from tests.front_door.conftest import Serve
from tests.harness.books import (
    CALLS,
    CHAT,
    HAIKU,
    MESSAGES,
    MINI,
    RESPONSES,
    TOLD,
    bill,
    budgets_of,
    correlated,
    look,
    post,
)
from tests.harness.gateways import config_for, in_process, records
from tests.harness.messages import CutOff
from tests.harness.raw_client import ask, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

GLOBAL = {"scope": "global", "limit_usd": 1000, "window": "total"}
NUMBERS = count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """It keeps a ledger of what it delivered."""
    async with Simulator() as simulator:
        yield simulator


async def test_records_budgets_metrics_and_the_provider_come_to_one_sum(provider: Simulator, serve: Serve) -> None:
    """Every dialect, all at once, for three teams and with errors in between: no nano-dollar differs."""
    gateway = await serve(provider.url, budgets=[GLOBAL, {"scope": "team:*", "limit_usd": 1, "window": "day"}])
    before = len(provider.ledger)
    sent = [
        post(target, body, wish, ("X-Tollgate-Team", f"t{number}"))
        for number in range(3)
        for target, body, wish in [*CALLS.values(), (CHAT, MINI, "status=500"), (MESSAGES, HAIKU, "status=529")]
    ]
    await asyncio.gather(*(ask(gateway.front_port, each) for each in sent))
    found = await records(gateway.admin_url, len(sent))
    spent = {scope: each["spent_nanousd"] for scope, each in (await budgets_of(gateway)).items()}
    counted = re.findall(rb"^llm_cost_usd_total{.*} (\S+)$", await look(gateway, "/metrics"), re.MULTILINE)
    total = sum(record["cost_nanousd"] for record in found)
    assert total == spent["global"] == sum(bill(billed) for billed in list(provider.ledger)[before:]) > 0
    assert round(sum(float(each) for each in counted) * 10**9) == total
    for team in ("t0", "t1", "t2"):
        assert spent[f"team:{team}"] == sum(each["cost_nanousd"] for each in found if each["team"] == team) > 0


async def test_a_crowd_never_passes_a_strict_limit(provider: Simulator, serve: Serve) -> None:
    """200 calls at once where there is room for some: at no moment is more spent and held than the limit, what was let
    through is what the provider saw, and the rest was told why.
    """
    # of at most 3000 tokens: a call can cost $0.003 by the model's dearest tier, costs $0.0018, and would be guessed at $0.0006
    limit_nanousd, body = 20 * 3_050_000, MINI | {"max_tokens": 3000}
    budget = GLOBAL | {"limit_usd": f"0.{limit_nanousd:09d}", "mode": "strict"}
    gateway = await serve(provider.url, budgets=[budget])
    before, seen = len(provider.ledger), []

    async def watch() -> None:
        while True:
            seen.append((await budgets_of(gateway))["global"])
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    wishes = [f"words=3000;delay={number % 7 / 50}" for number in range(200)]
    answers = await asyncio.gather(*(ask(gateway.front_port, post(CHAT, body, wish)) for wish in wishes))
    found = await records(gateway.admin_url, 200)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    seen.append(last := (await budgets_of(gateway))["global"])
    assert all(each["spent_nanousd"] + each["held_nanousd"] <= limit_nanousd for each in seen)
    assert max(each["held_nanousd"] for each in seen) > limit_nanousd // 2
    passed = [answer for answer in answers if answer.status == 200]
    assert 5 <= len(passed) == len(provider.ledger) - before < 200
    refused = [json.loads(answer.body.content)["error"]["code"] for answer in answers if answer.status == 429]
    assert len(refused) == 200 - len(passed)
    assert set(refused) <= {"budget_held", "budget_exceeded"}
    assert last["held_nanousd"] == 0
    assert last["spent_nanousd"] == sum(record["cost_nanousd"] for record in found)
    assert last["spent_nanousd"] == sum(bill(billed) for billed in list(provider.ledger)[before:])


# -- the same, whatever calls do -------------------------------------------------------------------------------------------

LEAVES = {"no": b"", "with the head": b"\r\n\r\n", "with the first event": b"data:", "before anything came": b""}
WISHES = ["", "words=3", "words=40;cached=3", "pace=0.002", "usage=none", "status=500", "status=429", "cut=0", "cut=4"]
BODIES = {
    "chat": (CHAT, MINI | {"max_tokens": 50}),
    "chat stream": (CHAT, MINI | TOLD | {"max_tokens": 50}),
    "chat stream untold": (CHAT, MINI | {"stream": True, "max_tokens": 9}),
    "responses stream": (RESPONSES, {"model": "gpt-4o-mini", "input": "one", "max_output_tokens": 50, "stream": True}),
    "anthropic": (MESSAGES, HAIKU),
    "anthropic stream": (MESSAGES, HAIKU | {"stream": True}),
    "unpriced": (CHAT, MINI | {"model": "gpt-99-ultra", "max_tokens": 20}),
}
NOTHING_SPENT = {"spent_nanousd": 0, "held_nanousd": 0, "limit_nanousd": 2_000_000}
"""A team of which the store has no account: all its calls were refused before they were counted, or cost nothing."""
calls = st.tuples(st.sampled_from(sorted(BODIES)), st.sampled_from(WISHES), st.sampled_from(sorted(LEAVES)))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["cancel", "drain"])
async def busy(
    request: pytest.FixtureRequest, provider: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    """A gateway that gives every team two purses so small that some calls do not fit; a team is used for one example."""
    folder = tmp_path_factory.mktemp("busy")
    purse = {"scope": "team:*", "limit_usd": "0.002", "window": "day", "mode": "strict"}
    blocks = {
        "budgets": [GLOBAL, purse],
        "metering": {"on_disconnect": request.param},
        "front": {"shutdown_grace": "1s"},
    }
    async with in_process(folder, config_for(folder, provider.url, **blocks)) as serving:
        yield serving


async def act(gateway: Any, team: str, kind: str, wish: str, leaves: str) -> None:
    """One client: calls, and leaves when it is to."""
    early = leaves == "before anything came"
    names = (("X-Tollgate-Team", team), ("X-Correlation-Id", team), ("Connection", "close"))
    async with connected(gateway.front_port) as client:
        await client.send(post(*BODIES[kind], f"{wish};delay=0.2" if early else wish, *names))
        try:
            if mark := LEAVES[leaves]:
                await client.see(mark)
            else:
                await (asyncio.sleep(0) if early else client.answer("POST"))
        except (CutOff, ConnectionError):
            pass  # refused, or broken off by the provider


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(todo=st.lists(calls, min_size=1, max_size=25))
async def test_whatever_calls_do_the_books_agree_at_the_end(busy: Any, todo: list[tuple[str, str, str]]) -> None:
    """Errors, refusals, broken answers, clients that leave at any moment: nothing stays held, what is spent is the sum of
    the records, and no strict limit is passed.
    """
    team = f"team-{next(NUMBERS)}"
    await asyncio.gather(*(act(busy, team, *each) for each in todo))
    found = await correlated(busy, team, len(todo))
    budget = (await budgets_of(busy)).get(f"team:{team}", NOTHING_SPENT)
    assert len(found) == len(todo)
    assert budget["held_nanousd"] == 0
    assert budget["spent_nanousd"] == sum(record["cost_nanousd"] for record in found) <= budget["limit_nanousd"]
    assert {record["outcome"] for record in found} <= {"completed", "client_disconnected", "upstream_error", "refused"}
    assert all(not record["cost_nanousd"] for record in found if record["outcome"] == "refused")


async def test_after_all_of_it_the_whole_comes_to_the_sum_of_its_parts(busy: Any) -> None:
    """The global budget is the sum of all teams', and the gateway has no call on its way."""
    of_teams = await budgets_of(busy)
    everything = of_teams.pop("global")
    assert everything["spent_nanousd"] == sum(each["spent_nanousd"] for each in of_teams.values()) > 0
    assert everything["held_nanousd"] == 0
    assert json.loads(await look(busy, "/system/llm-status"))["active_requests"] == 0
