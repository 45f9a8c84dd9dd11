"""Targets: which calls count, which of them miss, and what is written down of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.call import Record
from gateway.observe import targets
from gateway.observe.targets import FAILED, GOOD, LEFT, NOT_OURS, Pending, Target, TargetSink, verdict
from gateway.tallies import Tally
from tests.harness.finished import batch
from tests.unit.observe.test_metrics import RECORD

CALL = replace(RECORD, latency_ms=700.0, ttft_ms=100.0)
NOON = 1_795_262_400


class Counting:
    """A sink at a time that the test says, and what it told the metrics and those who follow requests."""

    def __init__(self, *of: Target) -> None:
        self.now = float(NOON)
        self.counted: dict[str, tuple[int, int]] = {}
        self.followed: list[str] = []
        self.sink = TargetSink(self._count, lambda record: self.followed.append(record.call_id), lambda: self.now)
        self.sink.apply(of)

    def _count(self, target: str, calls: int, missed: int) -> None:
        before = self.counted.get(target, (0, 0))
        self.counted[target] = (before[0] + calls, before[1] + missed)

    def take(self, *records: Record) -> None:
        self.sink.take(batch(records))

    @property
    def tallies(self) -> list[Tally]:
        self.sink.roll()
        return sorted(self.sink.pending.take(1000))


def counted(target: Target, *records: Record) -> tuple[int, int]:
    """(calls, missed)."""
    counting = Counting(target)
    counting.take(*records)
    found = counting.tallies
    assert counting.counted == {tally.target: (tally.calls, tally.missed) for tally in found}, "metrics and store agree"
    return (found[0].calls, found[0].missed) if found else (0, 0)


@pytest.mark.parametrize(
    ("outcome", "status", "error_type", "whose"),
    [
        ("completed", 200, "", GOOD),
        ("completed", 101, "", GOOD),
        ("completed", 304, "", GOOD),
        *[("upstream_error", status, str(status), FAILED) for status in (500, 502, 503, 504, 529, 429, 408)],
        *[("upstream_error", status, str(status), NOT_OURS) for status in (400, 401, 403, 404, 413, 422)],
        ("upstream_error", 502, "upstream_unreachable", FAILED),
        ("upstream_error", 504, "upstream_timeout", FAILED),
        ("upstream_error", 200, "upstream_reset", FAILED),
        ("refused", 502, "upstream_unreadable", FAILED),
        ("refused", 503, "store_unavailable", FAILED),
        ("refused", 503, "shutting_down", FAILED),
        ("refused", 500, "internal_error", FAILED),
        ("cut", 200, "shutting_down", FAILED),
        ("cut", 200, "budget_exceeded", NOT_OURS),
        ("refused", 429, "budget_exceeded", NOT_OURS),
        ("refused", 429, "budget_held", NOT_OURS),
        ("refused", 403, "model_unpriced", NOT_OURS),
        ("refused", 400, "malformed_body", NOT_OURS),
        ("refused", 400, "malformed_header", NOT_OURS),
        ("refused", 413, "body_too_large", NOT_OURS),
        ("refused", 404, "unknown_route", NOT_OURS),
        ("client_disconnected", 200, "client_disconnected", LEFT),
        ("client_disconnected", 0, "client_disconnected", LEFT),
        ("client_disconnected", 0, "upstream_reset", LEFT),
        ("client_disconnected", 500, "client_disconnected", FAILED),
        ("client_disconnected", 404, "client_disconnected", NOT_OURS),
        ("lost", 0, "", FAILED),
    ],
)
def test_whose_doing_the_end_of_a_call_was(outcome: str, status: int, error_type: str, whose: str) -> None:
    """What docs/targets.md says, row by row."""
    assert verdict(outcome, status, error_type) == whose


@pytest.mark.parametrize(
    ("bounds", "call", "found"),
    [
        ({}, {}, (1, 0)),
        ({"latency_ms": 700.0}, {}, (1, 0)),
        ({"latency_ms": 699.0}, {}, (1, 1)),
        ({"ttft_ms": 100.0}, {}, (1, 0)),
        ({"ttft_ms": 99.0}, {}, (1, 1)),
        ({"ttft_ms": 99.0}, {"ttft_ms": None}, (1, 0)),
        ({"latency_ms": 699.0}, {"status": 101}, (1, 0)),
        ({"ttft_ms": 99.0}, {"status": 101}, (1, 1)),
        ({"latency_ms": 10_000.0}, {"outcome": "upstream_error", "status": 500, "error_type": "500"}, (1, 1)),
        ({"latency_ms": 10.0}, {"outcome": "upstream_error", "status": 404, "error_type": "404"}, (0, 0)),
        ({"latency_ms": 10.0}, {"outcome": "refused", "status": 429, "error_type": "budget_exceeded"}, (0, 0)),
        ({}, {"outcome": "client_disconnected", "error_type": "client_disconnected"}, (0, 0)),
        ({"latency_ms": 700.0}, {"outcome": "client_disconnected", "error_type": "client_disconnected"}, (0, 0)),
        ({"latency_ms": 699.0}, {"outcome": "client_disconnected", "error_type": "client_disconnected"}, (1, 1)),
        ({"latency_ms": 10.0}, {"told_by": "another"}, (0, 0)),
        ({"latency_ms": 10.0}, {"corrects": "another", "outcome": "corrected"}, (0, 0)),
    ],
)
def test_a_call_meets_a_target_misses_it_or_does_not_count(
    bounds: dict[str, float], call: dict[str, Any], found: tuple[int, int]
) -> None:
    """To the millisecond, whatever else went on."""
    assert counted(Target("t", **bounds), replace(CALL, **call)) == found


@pytest.mark.parametrize(
    ("match", "speaks"),
    [
        ((), True),
        ((("team", "search"),), True),
        ((("team", "sea*"), ("model", "gpt-4?"), ("agent", "[abc]ot"), ("call_type", "routing"), ("upstream", "*")), True),
        ((("team", "Search"),), False),
        ((("team", "sea*"), ("model", "claude-*")), False),
        ((("upstream", "azure"),), False),
        ((("call_type", "rout"),), False),
    ],
)  # fmt: skip
def test_a_target_speaks_of_calls_whose_fields_all_match(match: tuple[tuple[str, str], ...], speaks: bool) -> None:
    """As the call asked for its model, not as it was served."""
    assert counted(Target("t", match), CALL) == ((1, 0) if speaks else (0, 0))


def test_a_call_counts_for_every_target_that_speaks_of_it() -> None:
    """Each by its own bounds."""
    counting = Counting(Target("a", latency_ms=699.0), Target("b", (("team", "sea*"),)), Target("c", (("team", "x"),)))
    counting.take(CALL, CALL, replace(CALL, latency_ms=1.0), replace(CALL, team="x"))
    assert counting.tallies == [Tally(NOON, "a", 4, 3), Tally(NOON, "b", 3, 0), Tally(NOON, "c", 1, 0)]


def test_calls_count_in_the_five_minutes_in_which_they_end() -> None:
    """What was counted before the bucket's end stays in it, though it is written down later."""
    counting = Counting(Target("a"))
    for counting.now in (NOON - 0.1, NOON, NOON + 299.9, NOON + 300):
        counting.take(CALL)
    assert counting.tallies == [Tally(NOON - 300, "a", 1, 0), Tally(NOON, "a", 2, 0), Tally(NOON + 300, "a", 1, 0)]
    assert counting.counted == {"a": (4, 0)}
    assert counting.tallies == [], "once"


def test_kinds_of_calls_are_bounded_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names come from callers."""
    monkeypatch.setattr(targets, "MAX_KINDS", 3)
    counting = Counting(Target("a", (("team", "team-*"),)))
    counting.take(*(replace(CALL, team=f"team-{number}", model_requested=str(number)) for number in range(50)))
    assert counting.tallies == [Tally(NOON, "a", 50, 0)]
    assert len(counting.sink._alone) <= 3


def test_a_reload_counts_on_with_the_new_targets() -> None:
    """What was counted before belongs to the old ones."""
    counting = Counting(Target("a"), Target("b"))
    counting.take(CALL)
    counting.sink.apply([Target("b", latency_ms=1.0), Target("c")])
    counting.take(CALL)
    assert counting.tallies == [Tally(NOON, "a", 1, 0), Tally(NOON, "b", 2, 1), Tally(NOON, "c", 1, 0)]


def test_a_call_without_a_correlation_id_of_its_own_is_a_request() -> None:
    """Others are followed, and count as calls alone for the time being."""
    counting = Counting(Target("call"), Target("request", whole=True, latency_ms=10.0))
    counting.take(CALL, replace(CALL, call_id="c2"))
    assert counting.tallies == [Tally(NOON, "call", 2, 0), Tally(NOON, "request", 1, 1)]
    assert counting.followed == ["c2"]


def test_nobody_follows_requests_where_no_target_asks() -> None:
    """Their ids would fill the memory for nothing."""
    counting = Counting(Target("call"))
    counting.take(replace(CALL, call_id="c2"))
    assert counting.followed == []


def test_tallies_that_wait_are_bounded_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is down for a week must not fill the memory; it is known how many calls were in what had to go."""
    monkeypatch.setattr(targets, "MAX_PENDING", 4)
    pending = Pending()
    for bucket in range(0, 1500, 300):
        for name in "ab":
            pending.add(Tally(bucket, name, 2, 1))
            assert pending.size == sum(map(len, pending.counts.values())) <= 4
    pending.add(Tally(1200, "a", 5, 0))
    assert pending.dropped == 12
    assert sorted(pending.take(100)) == [
        Tally(900, "a", 2, 1), Tally(900, "b", 2, 1), Tally(1200, "a", 7, 1), Tally(1200, "b", 2, 1),
    ]  # fmt: skip
    assert pending.size == 0


def test_what_the_store_does_not_take_is_given_back() -> None:
    """Beside what was counted in the meantime."""
    pending = Pending()
    pending.add(Tally(0, "a", 2, 1))
    pending.add(Tally(300, "a", 1, 0))
    first = pending.take(1)
    pending.add(Tally(0, "a", 3, 0))
    for tally in first:
        pending.add(tally)
    assert pending.size == 2
    assert sorted(pending.take(9)) == [Tally(0, "a", 5, 1), Tally(300, "a", 1, 0)]
