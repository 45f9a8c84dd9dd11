"""How fast calls come and how long they take: against the plain list of what was counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.pace import BY, MAX_VALUES, Pace, bucket_of, percentiles, told_durations, told_minute
from gateway.observe.series import OTHER
from tests.harness.finished import batch
from tests.unit.observe.test_recent import RECORD

MODELS, UPSTREAMS, TYPES = ("a", "b", "c"), ("one", "two"), ("", "routing")
CALLS = st.lists(
    st.tuples(
        st.integers(0, 4000),
        st.sampled_from(MODELS),
        st.sampled_from(UPSTREAMS),
        st.sampled_from(TYPES),
        st.floats(0.01, 1e6),
        st.one_of(st.none(), st.floats(0.01, 1e6)),
    ),
    max_size=60,
)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def call(model: str, upstream: str, kind: str, latency: float, ttft: float | None):
    return replace(
        RECORD, model_served=model, upstream=upstream, call_type=kind, latency_ms=latency, ttft_ms=ttft, attempts=1,
        status=200, error_type="", outcome="completed", corrects="", told_by="",
    )  # fmt: skip


def slots_of(window: str) -> tuple[int, int]:
    return {"5m": (30, 10), "1h": (300, 12)}[window]


@pytest.mark.parametrize("window", ["5m", "1h"])
@pytest.mark.parametrize("by", BY)
@given(calls=CALLS)
async def test_each_window_counts_the_calls_of_its_slots(window: str, by: str, calls) -> None:
    """Those of the slots that are not over for longer than the window, however far apart they came."""
    clock = Clock()
    pace = Pace(clock)
    came = []
    for after, *told in sorted(calls, key=lambda each: each[0]):
        clock.now = 1_000_000.0 + after
        pace.take(batch([call(*told)]))
        came.append((int(clock.now), told))
    length, slots = slots_of(window)
    kept = [told for at, told in came if at // length > int(clock.now) // length - slots]
    found = told_durations([await pace.durations(window, by)])
    expected: dict[str, int] = {}
    for told in kept:
        expected[told[BY.index(by)]] = expected.get(told[BY.index(by)], 0) + 1
    assert {row["value"]: row["calls"] for row in found["rows"]} == expected
    assert found["all"]["calls"] == len(kept)
    assert (found["all"]["ttft_ms"] is None) == all(told[4] is None for told in kept)


@given(st.lists(st.floats(1.0, 1e7), min_size=1, max_size=200))
def test_a_percentile_is_right_to_two_percent(times: list[float]) -> None:
    """Whatever came."""
    buckets: dict[int, int] = {}
    for each in times:
        buckets[bucket_of(each)] = buckets.get(bucket_of(each), 0) + 1
    found = percentiles(buckets)
    assert found is not None
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        exact = sorted(times)[max(0, -(-len(times) * int(share * 100) // 100) - 1)]
        assert found[name] == pytest.approx(exact, rel=0.03, abs=0.1)


async def test_names_that_callers_make_up_are_counted_together() -> None:
    """Of a slot; the upstream is the config's and stays."""
    pace = Pace(Clock())
    pace.take(batch([call(f"m{number}", "one", "", 5.0, None) for number in range(3 * MAX_VALUES)]))
    found = told_durations([await pace.durations("5m", "model")])
    assert len(found["rows"]) == MAX_VALUES + 1
    assert found["rows"][0] == {**found["rows"][0], "value": OTHER, "calls": 2 * MAX_VALUES}
    assert [row["value"] for row in (told_durations([await pace.durations("1h", "upstream")]))["rows"]] == ["one"]
    assert (told_durations([await pace.durations("1h", "upstream")]))["all"]["calls"] == 3 * MAX_VALUES


async def test_what_nobody_waited_for_is_left_out() -> None:
    """Corrections, refusals that never went out, sessions."""
    pace = Pace(Clock())
    one = call("a", "one", "", 5.0, 2.0)
    pace.take(
        batch([replace(one, corrects="x"), replace(one, attempts=0, outcome="refused"), replace(one, status=101)])
    )
    assert (told_durations([await pace.durations("5m", "model")]))["rows"] == []
    minute = told_minute([pace.minute()])
    assert minute["refused_per_minute"] == 1
    assert minute["latency_p50_ms"] is None


async def test_several_processes_are_told_as_one() -> None:
    """Calls that two served: percentiles, sums and shares are those of one that served them all."""
    calls = [
        replace(
            RECORD,
            latency_ms=1.5**number,
            ttft_ms=1.2**number,
            model_served=f"model-{number % 3}",
            cost_nanousd=number,
            attempts=1,
            usage_source="estimated" if number % 4 == 0 else "provider",
        )
        for number in range(20)
    ]
    alone, one, other = (Pace(lambda: 100.0) for _ in range(3))
    alone.take(batch(calls))
    one.take(batch(calls[:13]))
    other.take(batch(calls[13:]))
    assert told_minute([one.minute(), other.minute()]) == told_minute([alone.minute()])
    parts = [await each.durations("5m", "model") for each in (one, other)]
    assert told_durations(parts) == told_durations([await alone.durations("5m", "model")])
