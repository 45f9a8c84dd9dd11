"""Windows end while calls run, and clocks are set: each window keeps its own limit, exactly."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from gateway import handle
from gateway.accounts import Account
from gateway.store.sqlite import SqliteStore
from tests.front_door.conftest import Serve
from tests.front_door.test_replicas import CALL, CENT, ROWS
from tests.harness.books import CHAT, budgets_of, post
from tests.harness.messages import response
from tests.harness.raw_client import ask
from tests.harness.scripted import ScriptedUpstream
from tests.promise.test_store import balance, claim, settlement

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUDGET = [{"scope": "global", "limit_usd": "0.05", "window": "hour", "mode": "strict"}]
ANSWER = response(
    200,
    ("Content-Type", "application/json"),
    body=json.dumps(
        {"model": "cent-a-call", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5}}
    ).encode(),
)


class Clock:
    """The wall clock of the gateway's calls, in the hands of a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = datetime(2027, 1, 1, 10, 59, 59, tzinfo=UTC).timestamp()
        fake = SimpleNamespace(**{name: getattr(time, name) for name in ("monotonic", "monotonic_ns", "time_ns")}, time=lambda: self.now)  # fmt: skip
        monkeypatch.setattr(handle, "time", fake)


async def test_a_window_that_ends_under_load(
    upstream: ScriptedUpstream, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls before the hour and after it, on their way at once: five cents each; a clock set back finds the old window full."""
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump(ROWS))
    clock, go_on = Clock(monkeypatch), asyncio.Event()
    upstream.answer = [go_on, ANSWER]
    gateway = await serve(budgets=BUDGET, store={"held_wait": 0}, pricing={"overrides": str(tmp_path / "prices.yaml")})

    async def burst(count: int) -> list[asyncio.Task[Any]]:
        tasks = [asyncio.create_task(ask(gateway.front_port, post(CHAT, CALL))) for _ in range(count)]
        refused = 0
        async with asyncio.timeout(20):
            while refused < count - 5:
                await asyncio.sleep(0.01)
                refused = sum(task.done() for task in tasks)
        return tasks

    before = await burst(30)
    clock.now += 2
    after = await burst(30)
    go_on.set()
    statuses = [[(await task).status for task in tasks] for tasks in (before, after)]
    assert [each.count(200) for each in statuses] == [5, 5]
    clock.now -= 2
    assert [(await ask(gateway.front_port, post(CHAT, CALL))).status for _ in range(3)] == [429] * 3
    clock.now += 3600
    assert (await ask(gateway.front_port, post(CHAT, CALL))).status == 429  # the hour after has been used up as well
    clock.now += 3600
    assert (await ask(gateway.front_port, post(CHAT, CALL))).status == 200
    assert len(upstream.seen) == 11
    async with asyncio.timeout(20):
        while (await budgets_of(gateway))["global"]["held_nanousd"]:
            await asyncio.sleep(0.01)


async def test_a_clock_that_jumps_past_a_lease_loses_nothing(tmp_path: Path) -> None:
    """Living holds are charged as lost by whoever sees the new time first, and corrected by their own settlements."""
    ahead_s = {"one": 0.0, "two": 0.0}

    def make(owner: str) -> SqliteStore:
        path = str(tmp_path / "books.db")
        return SqliteStore(
            path,
            lease_s=0.3,
            durability="normal",
            retention_s=1e10,
            owner=owner,
            clock=lambda: time.time() + ahead_s[owner],
        )

    one, two = make("one"), make("two")
    await one.open()
    await two.open()
    for number in range(10):
        await one.reserve(f"c{number}", [claim()])
    ahead_s["two"] = 3600
    async with asyncio.timeout(20):
        while await two.holds():
            await asyncio.sleep(0.02)
    assert await balance(two) == (10 * CENT, 0)
    ahead_s["one"] = 3600
    for number in range(10):
        await one.settle(settlement(f"c{number}", number))
    assert await balance(one, Account("team:search", "day:2026-11-20")) == (45, 0)
    assert await one.check() == 0
    await one.close()
    await two.close()
