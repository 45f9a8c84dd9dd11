"""Tallies over processes: whatever calls go through whichever process in whatever batches, the sums are those of all calls."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.observe.objectives import Objectives
from gateway.observe.targets import Target
from gateway.store.sqlite import SqliteStore
from gateway.tallies import Tally, bucket_of
from tests.harness.finished import batch
from tests.unit.observe.test_metrics import RECORD

NOON = 1_795_262_400
BOUND_MS = 50.0
TARGETS = (
    Target("all"),
    Target("fast", latency_ms=BOUND_MS),
    Target("a", (("team", "a*"),), latency_ms=BOUND_MS),
)
one_call = st.tuples(st.sampled_from(["a1", "a2", "b"]), st.sampled_from([10.0, BOUND_MS, 60.0]), st.booleans())
Call = tuple[str, float, bool]
steps = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3000), st.lists(one_call, max_size=5), st.booleans()), max_size=12
)
"""(process, seconds after noon, a batch of (team, latency, failed), whether it is handed over then)."""


def expected(batches: list[tuple[int, int, list[Call], bool]]) -> list[Tally]:
    """Counted one by one."""
    calls: Counter[tuple[int, str]] = Counter()
    missed: Counter[tuple[int, str]] = Counter()
    for _, at, some, _ in batches:
        for team, latency_ms, failed in some:
            for name, speaks, late in (
                ("all", True, False),
                ("fast", True, latency_ms > BOUND_MS),
                ("a", team != "b", latency_ms > BOUND_MS),
            ):
                key = (bucket_of(NOON + at), name)
                calls[key] += speaks
                missed[key] += speaks and (late or failed)
    return [Tally(*key, count, missed[key]) for key, count in sorted(calls.items()) if count]


async def counted(batches: list[tuple[int, int, list[Call], bool]], folder: Path) -> list[Tally]:
    """What three processes on one store make of it."""
    now = float(NOON)
    stores = [
        SqliteStore(str(folder / "books.db"), lease_s=60, durability="normal", retention_s=1e10, owner=f"{number}", clock=lambda: NOON)
        for number in range(3)
    ]  # fmt: skip
    processes = [Objectives(TARGETS, lambda *_: None, lambda _: None, lambda: now) for _ in stores]
    for store, process in zip(stores, processes, strict=True):
        await store.open()
        process.connect(store, tuple)
    for number, at, some, hand_over in batches:
        now = float(NOON + at)
        failed = {"outcome": "upstream_error", "status": 500, "error_type": "500"}
        records = [
            replace(RECORD, team=team, latency_ms=latency_ms, **(failed if fails else {}))
            for team, latency_ms, fails in some
        ]
        processes[number].sink.take(batch(records))
        if hand_over:
            await processes[number].refresh()
    now += 3600
    for process in processes:
        await process.refresh()
    found = await stores[0].tallies(NOON - 300, NOON + 4000)
    for store in stores:
        await store.close()
    return found


@settings(max_examples=40, deadline=None)
@given(batches=steps)
def test_tallies_of_several_processes_are_those_of_all_calls(batches: list[tuple[int, int, list[Call], bool]]) -> None:
    """In any batches, in any order, handed over whenever."""
    with tempfile.TemporaryDirectory() as folder:
        assert asyncio.run(counted(batches, Path(folder))) == expected(batches)
