"""Requests of several calls: when they are over, who judges them, and how they went."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.call import Record, as_json, from_json
from gateway.observe import end_to_end
from gateway.observe.end_to_end import QUIET_S, Requests
from gateway.observe.targets import Target, TargetSink
from gateway.record import timestamp
from gateway.tallies import Tally, bucket_of
from tests.unit.observe.test_metrics import RECORD

NOON = 1_795_262_400


def call(call_id: str, start_s: float, seconds: float, tie: str = "run", **more: Any) -> Record:
    """A call that began so long after noon and took so long."""
    told = {"started_at": timestamp(NOON + start_s), "latency_ms": seconds * 1000, "ttft_ms": seconds * 500, **more}
    return replace(RECORD, call_id=call_id, correlation_id=tie, **told)


class Following:
    """A process that follows requests; ``stored`` are the records of all processes."""

    def __init__(self, *of: Target, stored: list[Record] | None = None) -> None:
        self.now = 0.0
        self.stored = stored if stored is not None else []
        self.asked = 0
        self.requests = Requests(lambda: self.now)
        self.sink = TargetSink(lambda *_: None, self.requests.see)
        self.sink.apply(of or (Target("run", whole=True, latency_ms=10_000.0),))

    def see(self, *records: Record) -> None:
        self.stored += records
        for record in records:
            self.requests.see(record)

    async def recent(self, limit: int, before: str, correlation_id: str) -> list[dict[str, Any]]:
        self.asked += 1
        found = [each for each in self.stored if each.correlation_id == correlation_id]
        found.sort(key=lambda each: (each.started_at, each.call_id), reverse=True)
        names = [each.call_id for each in found]
        start = names.index(before) + 1 if before else 0
        return [from_json(as_json(each)) for each in found[start : start + limit]]

    async def judged(self, running: tuple[str, ...] = ()) -> list[Tally]:
        await self.requests.judge(self.sink, self.recent, running)
        return sorted(self.sink.pending.take(1000))


def met(end_s: float, name: str = "run") -> Tally:
    return Tally(bucket_of(NOON + end_s), name, 1, 0)


def missed(end_s: float, name: str = "run") -> Tally:
    return Tally(bucket_of(NOON + end_s), name, 1, 1)


async def test_a_request_is_judged_when_it_was_quiet_for_a_minute() -> None:
    """Each further call puts that off; it is judged once."""
    process = Following()
    process.see(call("a", 0, 1))
    process.now = 50.0
    process.see(call("b", 4, 1))
    process.now = 50.0 + QUIET_S - 0.1
    assert await process.judged() == []
    assert process.asked == 0
    process.now = 50.0 + QUIET_S
    assert await process.judged() == [met(5)]
    assert (await process.judged(), len(process.requests)) == ([], 0)


@pytest.mark.parametrize(
    ("calls", "found"),
    [
        ([call("a", 0, 1), call("b", 9, 1)], met(10)),
        ([call("a", 0, 1), call("b", 9, 1.001)], missed(10)),
        ([call("a", 0, 10.5), call("b", 2, 1)], missed(10)),
        ([call("b", 5, 1), call("a", 0, 1)], met(6)),
    ],
    ids=["in time", "a millisecond late", "calls beside each other", "settled in another order"],
)
async def test_it_takes_from_the_first_head_to_the_last_end(calls: list[Record], found: Tally) -> None:
    """Pauses in between included."""
    process = Following()
    process.see(*calls)
    process.now = 1000.0
    assert await process.judged() == [found]


BROKEN = {"outcome": "upstream_error", "status": 500, "error_type": "500"}
REFUSED = {"outcome": "refused", "status": 429, "error_type": "budget_exceeded"}
LEFT = {"outcome": "client_disconnected", "error_type": "client_disconnected"}


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        ({}, BROKEN, [missed(3)]),
        (BROKEN, {}, [met(3)]),
        ({}, REFUSED, []),
        (REFUSED, {}, [met(3)]),
        ({}, LEFT, []),
        ({"started_at": timestamp(NOON - 20)}, LEFT, [missed(3)]),
        ({}, {"told_by": "a"}, [met(1)]),
    ],
    ids=["failed", "tried again", "refused", "refused before", "left", "left when it was late", "a work is no call"],
)
async def test_the_call_that_ended_last_says_how_it_went(
    first: dict[str, Any], last: dict[str, Any], found: list[Tally]
) -> None:
    """What failed before was tried again."""
    process = Following()
    if "told_by" in last:
        process.stored.append(call("b", 2, 1, **last))
        process.see(call("a", 0, 1, **first))
    else:
        process.see(call("a", 0, 1, **first), call("b", 2, 1, **last))
    process.now = 1000.0
    assert await process.judged() == found


async def test_the_first_byte_of_any_call_counts_and_a_session_has_no_length() -> None:
    """``ttft_ms`` is from the first head; ``latency_ms`` of a WebSocket says nothing."""
    process = Following(Target("byte", whole=True, ttft_ms=600.0), Target("late", whole=True, ttft_ms=599.0))
    process.see(call("a", 0, 1, ttft_ms=None), call("b", 0.5, 1, ttft_ms=100.0))
    process.now = 1000.0
    assert await process.judged() == [met(1.5, "byte"), missed(1.5, "late")]
    process = Following()
    process.see(call("a", 0, 50, status=101))
    process.now = 1000.0
    assert await process.judged() == [met(50)]


async def test_the_first_call_decides_which_targets_speak_of_it() -> None:
    """Whose request it is."""
    process = Following(
        Target("planner", (("agent", "planner"),), whole=True), Target("x", (("agent", "x"),), whole=True)
    )
    process.see(call("a", 0, 1, agent="planner"), call("b", 2, 1, agent="x"))
    process.now = 1000.0
    assert await process.judged() == [met(3, "planner")]


async def test_only_who_saw_the_newest_call_counts_it() -> None:
    """Of two processes one, whichever looks first; by the end of calls, not by their start."""
    stored: list[Record] = []
    one, two = Following(stored=stored), Following(stored=stored)
    one.see(call("a", 0, 9))
    two.see(call("b", 1, 2))
    one.now = two.now = 1000.0
    assert (await two.judged(), await one.judged()) == ([], [met(9)])


async def test_a_call_on_its_way_keeps_its_request_open() -> None:
    """It may take longer than a minute."""
    process = Following()
    process.see(call("a", 0, 1))
    process.now = 100.0
    assert await process.judged(("run",)) == []
    process.see(call("b", 2, 97))
    process.now = 200.0
    assert await process.judged() == [missed(99)]


async def test_after_a_long_silence_the_same_id_begins_another_request() -> None:
    """An id may stand for a conversation: what was judged before is not judged again."""
    process = Following()
    process.see(call("a", 0, 1))
    process.now = 100.0
    assert await process.judged() == [met(1)]
    process.see(call("b", 1000, 1), call("c", 1005, 2))
    process.now = 2000.0
    assert await process.judged() == [met(1007)]


async def test_too_many_at_a_time_are_judged_early_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, and nothing is left out."""
    monkeypatch.setattr(end_to_end, "MAX_OPEN", 3)
    process = Following()
    process.see(*(call(f"c{number}", number, 0.5, tie=f"run{number}") for number in range(5)))
    assert await process.judged() == [Tally(bucket_of(NOON), "run", 2, 0)]
    assert len(process.requests) == 3
    process.now = 1000.0
    assert await process.judged() == [Tally(bucket_of(NOON), "run", 3, 0)]


async def test_a_store_that_is_away_is_asked_again() -> None:
    """Nothing is lost of what it could not tell."""
    process = Following()
    process.see(call("a", 0, 1))
    process.now = 1000.0

    async def away(limit: int, before: str, correlation_id: str) -> list[dict[str, Any]]:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await process.requests.judge(process.sink, away, ())
    assert await process.judged() == [met(1)]


async def test_a_process_that_ends_judges_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over or not."""
    process = Following()
    process.see(call("a", 0, 1), call("b", 0, 1, tie="other"))
    await process.requests.judge_all(process.sink, process.recent)
    assert process.sink.pending.take(9) == [Tally(bucket_of(NOON), "run", 2, 0)]


async def test_a_request_of_very_many_calls_is_read_to_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page at a time."""
    monkeypatch.setattr(end_to_end, "PAGE_CALLS", 7)
    process = Following()
    process.see(*(call(f"c{number:02d}", number, 1) for number in range(30)))
    process.now = 1000.0
    assert await process.judged() == [missed(30)]
    assert process.asked == 5


async def test_records_that_are_gone_are_not_judged() -> None:
    """Retention, or a store that forgot."""
    process = Following()
    process.see(call("a", 0, 1))
    process.stored.clear()
    process.now = 1000.0
    assert await process.judged() == []
    assert len(process.requests) == 0
