"""Targets in service: handed over, read back, looked at, on a real store that is there or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.observe import objectives, targets
from gateway.observe.events import Event
from gateway.observe.objectives import Objectives
from gateway.observe.targets import Target
from gateway.store.sqlite import SqliteStore
from gateway.tallies import Tally
from tests.harness.finished import batch
from tests.unit.observe.test_metrics import RECORD

NOON = 1_795_262_400
CALL = replace(RECORD, latency_ms=10.0)
LATE = replace(RECORD, latency_ms=100.0)
FAST = Target("fast", latency_ms=50.0, objective=0.9)
SLOW = Target("slow", latency_ms=500.0, objective=0.9)


class Process:
    """One of several on a store, at a time that the test says."""

    def __init__(self, store: SqliteStore, *of: Target) -> None:
        self.now = float(NOON)
        self.events: list[Event] = []
        self.objectives = Objectives(of or (FAST,), lambda *_: None, self.events.append, lambda: self.now)
        self.objectives.connect(store, tuple)

    def take(self, *records: Any) -> None:
        self.objectives.sink.take(batch(records))

    async def window(self, name: str = "1h", number: int = 0) -> tuple[int, int]:
        """(calls, missed) as they are told."""
        self.now += 2  # what was read just before is not read again
        found = (await self.objectives.report())["targets"][number]["windows"][name]
        return (found["calls"], found["missed"])


def make_store(folder: Path, owner: str = "one") -> SqliteStore:
    return SqliteStore(str(folder / "books.db"), lease_s=60, durability="normal", retention_s=1e10, owner=owner, clock=lambda: NOON)  # fmt: skip


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = make_store(tmp_path)
    await made.open()
    yield made
    await made.close()


async def until(question: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await question():
            await asyncio.sleep(0.01)


async def test_what_all_processes_counted_is_told_by_each(store: SqliteStore) -> None:
    """Handed over before it is told."""
    one, two = Process(store), Process(store)
    one.take(CALL, LATE)
    two.take(CALL, CALL)
    assert await one.window() == (2, 1)
    assert await two.window() == (4, 1)
    assert await one.window() == (4, 1)
    assert await store.tallies(NOON, NOON + 300) == [Tally(NOON, "fast", 4, 1)]


async def test_a_report_has_targets_bounds_and_windows(store: SqliteStore) -> None:
    """Numbers, null where there is none, and since when."""
    process = Process(store, FAST, Target("all", (("team", "sea*"),), whole=True, ttft_ms=5.0, objective=0.5))
    assert await process.objectives.report() == {
        "targets": [
            {
                "name": "fast", "of": "call", "match": {}, "latency_ms": 50, "ttft_ms": None, "objective": 0.9,
                "windows": {
                    name: {"calls": 0, "missed": 0, "compliance": None, "error_budget_left": 1.0, "burn": 0.0}
                    for name in ("1h", "24h", "7d")
                },
            },
            {
                "name": "all", "of": "request", "match": {"team": "sea*"}, "latency_ms": None, "ttft_ms": 5,
                "objective": 0.5, "windows": {
                    name: {"calls": 0, "missed": 0, "compliance": None, "error_budget_left": 1.0, "burn": 0.0}
                    for name in ("1h", "24h", "7d")
                },
            },
        ],
        "as_of": "2026-11-21T12:00:00+00:00",
    }  # fmt: skip
    process.take(CALL, CALL, CALL, LATE)
    process.now += 2
    told = (await process.objectives.report())["targets"][0]["windows"]["24h"]
    assert told == {"calls": 4, "missed": 1, "compliance": 0.75, "error_budget_left": -1.5, "burn": 2.5}


async def test_windows_end(store: SqliteStore) -> None:
    """An hour later it is not in the hour, a day later not in the day, a week later not in the week."""
    process = Process(store)
    process.take(LATE)
    assert await process.window() == (1, 1)
    found = []
    for process.now in (
        NOON + 3600,
        NOON + 3900,
        NOON + 86_400,
        NOON + 86_700,
        NOON + 7 * 86_400,
        NOON + 7 * 86_400 + 300,
    ):
        found.append([(await process.window(name))[0] for name in ("1h", "24h", "7d")])
    assert found == [[1, 1, 1], [0, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]]


async def test_gauges_are_those_of_the_last_look(store: SqliteStore) -> None:
    """A window without calls has no value: nobody knows."""
    process = Process(store, FAST, SLOW)
    assert process.objectives.gauges() == {
        "llm_target_compliance_ratio": {},
        "llm_target_objective_ratio": {("fast",): 0.9, ("slow",): 0.9},
    }
    process.take(CALL, LATE)
    await process.objectives.refresh()
    ratios = {(name, window): ratio for name, ratio in (("fast", 0.5), ("slow", 1.0)) for window in ("1h", "24h", "7d")}
    assert process.objectives.gauges()["llm_target_compliance_ratio"] == ratios


async def test_while_the_store_is_away_tallies_wait_and_are_looked_at(tmp_path: Path) -> None:
    """And are added when it is back: no call is left out, none counts twice."""
    store = make_store(tmp_path)
    process = Process(store)
    process.take(*[LATE] * 12)
    assert await process.window() == (12, 12)
    assert [event.state for event in process.events] == ["firing"]
    assert (await process.objectives.report())["as_of"] is None
    await store.open()
    assert await process.window() == (12, 12)
    assert await store.tallies(NOON, NOON + 300) == [Tally(NOON, "fast", 12, 12)]
    await store.close()
    process.take(CALL)
    assert await process.window() == (13, 12)
    assert process.objectives.sink.pending.size == 1


async def test_the_log_says_once_that_tallies_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not every two seconds; and what had to go in the meantime is said with its number."""
    process = Process(make_store(tmp_path))
    with caplog.at_level("WARNING", "gateway.observe"), pytest.MonkeyPatch.context() as patched:
        process.objectives.sink.pending.size = 0
        patched.setattr(targets, "MAX_PENDING", 1)
        for _ in range(3):
            process.take(CALL, CALL)
            await process.window()
            process.now += 300
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR", "ERROR"]
    assert "2 calls are lost" in caplog.records[1].getMessage()


async def test_the_tasks_hand_over_and_tell_by_themselves(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks."""
    monkeypatch.setattr(objectives, "FLUSH_S", 0.01)
    monkeypatch.setattr(objectives, "LOOK_S", 0.01)
    process = Process(store)
    process.objectives.start()
    process.take(*[LATE] * 12)

    async def told() -> bool:
        return [event.key for event in process.events] == ["target/fast"]

    await until(told)
    assert await store.tallies(NOON, NOON + 300) == [Tally(NOON, "fast", 12, 12)]
    process.take(*[CALL] * 100)

    async def is_over() -> bool:
        return [event.state for event in process.events] == ["firing", "resolved"]

    await until(is_over)
    await process.objectives.stop()


async def test_what_was_counted_is_handed_over_at_the_end(store: SqliteStore) -> None:
    """With requests that were open, judged early. Again is nothing."""
    process = Process(store, FAST)
    process.objectives.start()
    process.take(CALL, LATE)
    await process.objectives.stop()
    assert await store.tallies(NOON, NOON + 300) == [Tally(NOON, "fast", 2, 1)]
    await process.objectives.stop()
    assert await store.tallies(NOON, NOON + 300) == [Tally(NOON, "fast", 2, 1)]


async def test_an_end_without_the_store_says_what_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Within seconds, and without a word of it in what is raised."""
    process = Process(make_store(tmp_path))
    process.objectives.start()
    process.take(CALL)
    with caplog.at_level("WARNING", "gateway.observe"):
        await process.objectives.stop()
    assert "1 tallies of targets are lost" in caplog.text


async def test_a_reload_keeps_what_belongs_to_a_name(store: SqliteStore) -> None:
    """A target that comes back has its week again; one that goes takes its alarm with it."""
    process = Process(store, FAST, SLOW)
    process.take(*[LATE] * 12)
    assert await process.window() == (12, 12)
    assert [event.state for event in process.events] == ["firing"]
    process.objectives.apply([SLOW])
    assert [(event.key, event.state) for event in process.events[1:]] == [("target/fast", "resolved")]
    assert process.events[-1].text == "target fast is not in the config any more", "nobody says that it is met again"
    assert await process.window() == (12, 0)
    process.objectives.apply([SLOW, replace(FAST, latency_ms=500.0)])
    process.take(LATE)
    assert await process.window("7d", 1) == (13, 12)


async def test_targets_that_come_and_go_leave_nothing_in_memory(store: SqliteStore) -> None:
    """A name a reload, for ever."""
    process = Process(store)
    for number in range(5):
        process.objectives.apply([replace(FAST, name=f"t{number}")])
        process.take(CALL)
        assert await process.window() == (1, 0)
    assert list(process.objectives._history._rings) == ["t4"]
    assert list(process.objectives._sums) == ["t4"]


async def test_nothing_is_asked_of_the_store_where_there_are_no_targets(tmp_path: Path) -> None:
    """A closed store would raise."""
    process = Process(make_store(tmp_path))
    process.objectives.apply([])
    process.take(CALL)
    assert await process.objectives.report() == {"targets": [], "as_of": None}
    assert process.objectives.sink.pending.size == 0
