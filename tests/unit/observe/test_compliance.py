"""Windows over five-minute sums, and the alarms that are made of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.observe.compliance import HOUR, LEAST_CALLS, SLOTS, Alarms, History, Sums
from gateway.observe.events import Event
from gateway.observe.objectives import LENGTHS
from gateway.observe.targets import Pending, Target
from gateway.tallies import BUCKET_S, KEPT_S, Tally, bucket_of

NOON = 1_795_262_400
TARGET = Target("fast", objective=0.9)
moments = st.integers(NOON - 9 * 86_400, NOON)
calls = st.lists(st.tuples(moments, st.sampled_from(["fast", "slow"]), st.booleans()), max_size=60)


def tallied(some: list[tuple[int, str, bool]]) -> list[Tally]:
    """Calls as a store has them."""
    sums: dict[tuple[int, str], list[int]] = {}
    for at, target, missed in some:
        row = sums.setdefault((bucket_of(at), target), [0, 0])
        row[0] += 1
        row[1] += missed
    return [Tally(*key, *row) for key, row in sorted(sums.items())]


@settings(max_examples=200, deadline=None)
@given(stored=calls, waiting=calls, window_s=st.sampled_from(LENGTHS), size=st.sampled_from([3600, 7200, 86_400]))
def test_a_window_is_what_a_plain_list_of_calls_says(
    stored: list[tuple[int, str, bool]], waiting: list[tuple[int, str, bool]], window_s: int, size: int
) -> None:
    """From the bucket in which it begins to now, read in whatever pieces, with what waits for the store."""
    history, pending = History(), Pending()
    until = NOON + BUCKET_S
    rows = tallied(stored)
    for begin in range(until - KEPT_S, until, size):
        end = min(begin + size, until)
        history.put(begin, end, [row for row in rows if begin <= row.bucket < end])
    for row in tallied(waiting):
        pending.add(row)
    for name in ("fast", "slow"):
        kept = [each for each in stored + waiting if each[1] == name and each[0] >= bucket_of(NOON - window_s)]
        expected = Sums(len(kept), sum(missed for *_, missed in kept))
        assert history.sums(name, NOON + 7.0, window_s, pending) == expected


@settings(max_examples=100, deadline=None)
@given(jumps=st.lists(st.integers(1, 12 * 86_400), max_size=8), window_s=st.sampled_from(LENGTHS))
def test_a_ring_forgets_what_its_slots_held_eight_days_ago(jumps: list[int], window_s: int) -> None:
    """Time goes on in steps of any length, as while the store is away; only what was put lately is found."""
    history, put = History(), {}
    now = NOON
    for jump in [0, *jumps]:
        now += jump
        bucket = bucket_of(now)
        history.advance(bucket)
        history.put(bucket, bucket + BUCKET_S, [Tally(bucket, "fast", 1, 0)])
        put[bucket] = 1
    expected = sum(1 for bucket in put if bucket >= bucket_of(now - window_s))
    assert history.sums("fast", now, window_s) == Sums(expected, 0)


def test_what_is_read_takes_the_place_of_what_was_known() -> None:
    """Sums are read, not added; buckets that are not read stay."""
    history = History()
    history.put(NOON, NOON + 600, [Tally(NOON, "fast", 5, 1), Tally(NOON + 300, "fast", 7, 1)])
    history.put(NOON + 300, NOON + 600, [Tally(NOON + 300, "fast", 8, 2)])
    assert history.sums("fast", NOON + 300, HOUR) == Sums(13, 3)
    history.put(NOON, NOON + 600, [])
    assert history.sums("fast", NOON + 300, HOUR) == Sums(0, 0)
    history.put(NOON, NOON + 300, [Tally(NOON, "fast", 5, 1), Tally(NOON, "slow", 5, 1)])
    history.keep(["slow"])
    assert history.sums("fast", NOON, HOUR) == Sums(0, 0)
    assert history.sums("slow", NOON, HOUR) == Sums(5, 1)


def test_a_clock_that_is_set_back_empties_nothing() -> None:
    """And nothing when it is right again."""
    history = History()
    history.put(NOON, NOON + 300, [Tally(NOON, "fast", 5, 1)])
    history.advance(NOON - 3600)
    assert history.sums("fast", NOON - 3600, HOUR) == Sums(0, 0)
    history.advance(NOON)
    assert history.sums("fast", NOON, HOUR) == Sums(5, 1)


def test_a_ring_holds_the_longest_window() -> None:
    """Its first bucket included."""
    assert max(LENGTHS) + BUCKET_S <= SLOTS * BUCKET_S


def test_burn_is_how_much_faster_than_allowed() -> None:
    """At 1 the objective is met exactly."""
    assert Sums(100, 10).burn(0.9) == pytest.approx(1.0)
    assert Sums(100, 100).burn(0.9) == pytest.approx(10.0)
    assert Sums(100, 0).burn(0.9) == 0
    assert Sums(0, 0).burn(0.9) == 0
    assert (Sums(0, 0).compliance, Sums(4, 1).compliance) == (None, 0.75)


def sums(missed: dict[int, float], calls: int = 100) -> dict[int, Sums]:
    """Every window with so many calls; those named with that share of misses."""
    return {length: Sums(calls, round(calls * missed.get(length, 0.0))) for length in LENGTHS}


STRICT = Target("strict", objective=0.99)
MIN = 60
CASES = [
    (0.15, (HOUR, 5 * MIN), "critical"),
    (0.14, (HOUR, 5 * MIN), None),
    (0.5, (HOUR,), None),
    (0.5, (5 * MIN,), None),
    (0.06, (6 * HOUR, 30 * MIN), "critical"),
    (0.05, (6 * HOUR, 30 * MIN), None),
    (0.5, (6 * HOUR,), None),
    (0.03, (24 * HOUR, 2 * HOUR), "warning"),
    (0.02, (24 * HOUR, 2 * HOUR), None),
    (0.5, (2 * HOUR,), None),
    (0.5, (7 * 24 * HOUR,), None),
]


@pytest.mark.parametrize(("share", "windows", "severity"), CASES)
def test_an_alarm_needs_both_windows_of_a_pair(share: float, windows: tuple[int, ...], severity: str | None) -> None:
    """The table of docs/targets.md."""
    event = Alarms().look(STRICT, sums(dict.fromkeys(windows, share)))
    assert (event.severity if event else None) == severity


def test_few_calls_are_no_alarm() -> None:
    """Of one call that missed nobody is woken."""
    bad = dict.fromkeys(LENGTHS, 1.0)
    assert Alarms().look(STRICT, sums(bad, LEAST_CALLS - 1)) is None
    assert Alarms().look(STRICT, sums(bad, LEAST_CALLS)) is not None


def test_an_alarm_is_told_once_again_when_it_grows_and_when_it_is_over() -> None:
    """Always under the same key."""
    alarms = Alarms()
    slow = sums(dict.fromkeys((24 * HOUR, 2 * HOUR), 0.04))
    fast = sums(dict.fromkeys(LENGTHS, 0.5))
    told = [alarms.look(STRICT, each) for each in (slow, slow, fast, fast, slow, sums({}), sums({}), slow)]
    assert [(each.state, each.severity) if each else None for each in told] == [
        ("firing", "warning"), None, ("firing", "critical"), None, None, ("resolved", "critical"), None, ("firing", "warning"),
    ]  # fmt: skip
    assert {(each.kind, each.key) for each in told if each} == {("target", "target/strict")}


def test_an_alarm_says_what_is_wrong_to_people_and_to_machines() -> None:
    """Burn, objective and compliance, as decimal texts."""
    event = Alarms().look(STRICT, sums(dict.fromkeys(LENGTHS, 0.2)))
    assert event == Event(
        "target",
        "target/strict",
        "firing",
        "critical",
        "target strict burns its error budget 20.0 times too fast: of the calls of the last hour 80.00 % met it, 99 % must",
        (("target", "strict"), ("burn", "20.00"), ("objective", "0.99"), ("compliance", "0.800000")),
    )


def test_a_target_that_is_gone_is_no_alarm_any_more() -> None:
    """A reload took it out of the config: what was told of it is over."""
    alarms = Alarms()
    alarms.look(STRICT, sums(dict.fromkeys(LENGTHS, 0.5)))
    assert alarms.names == ("strict",)
    ended = alarms.end("strict", "is gone")
    assert ended is not None
    assert (ended.state, ended.key, ended.facts) == ("resolved", "target/strict", (("target", "strict"),))
    assert alarms.end("strict", "is gone") is None


def test_another_target_is_another_alarm() -> None:
    """One that fires says nothing of the next."""
    alarms = Alarms()
    bad = sums(dict.fromkeys(LENGTHS, 0.9))
    assert alarms.look(STRICT, bad) is not None
    assert alarms.look(replace(STRICT, name="other"), bad) is not None
    assert alarms.look(replace(STRICT, name="loose", objective=0.5), bad) is None, "it cannot burn so fast"
