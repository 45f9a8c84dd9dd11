"""The last minute and the state of an upstream: sums that agree with a plain count, and a verdict that only calls change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.observe.events import Event
from gateway.observe.recent import ENOUGH, WINDOW_S, Recent, outcome_of
from tests.harness.finished import batch
from tests.unit.observe.test_metrics import RECORD, REFUSED

FAULTS = {
    "503": "error",
    "529": "error",
    "upstream_timeout": "timeout",
    "upstream_unreachable": "unreachable",
    "upstream_reset": "disconnected",
    "upstream_unreadable": "error",
}
ANSWERS = {"": "ok", "401": "error", "429": "error", "404": "error"}
GONE = replace(RECORD, error_type="client_disconnected", outcome="client_disconnected", ttft_ms=None, status=0)


def failed(kind: str) -> Any:
    ttft_ms = None if kind in ("upstream_timeout", "upstream_unreachable") else 100.0
    return replace(RECORD, error_type=kind, outcome="upstream_error", ttft_ms=ttft_ms)


class Watched:
    """A sink with a clock of its own, and what it told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.told: list[Event] = []
        self.recent = Recent(self.told.append, lambda: self.now)

    def take(self, *records: Any) -> None:
        self.recent.take(batch(records))

    @property
    def state(self) -> str:
        return self.recent.state("openai")


@pytest.mark.parametrize("kind", FAULTS)
def test_an_upstream_fails_after_enough_faults_and_is_up_with_the_first_success(kind: str) -> None:
    """Told once when it begins and once when it is over, under one key."""
    watched = Watched()
    assert (watched.state, watched.recent.verdicts()) == ("unknown", {})
    for number in range(1, ENOUGH + 3):
        watched.take(failed(kind))
        assert watched.state == ("failing" if number >= ENOUGH else "up")
    watched.take(RECORD, RECORD)
    assert watched.state == "up"
    assert [(each.kind, each.key, each.severity, each.state) for each in watched.told] == [
        ("upstream", "upstream/openai", "critical", "firing"),
        ("upstream", "upstream/openai", "info", "resolved"),
    ]
    assert kind in watched.told[0].text
    assert watched.recent.about("openai")["last_error"]["kind"] == kind


@pytest.mark.parametrize("kind", [*ANSWERS, "client_disconnected"])
def test_an_answer_of_any_kind_shows_that_it_works(kind: str) -> None:
    """A wrong key, too many requests, a client that left in the middle: none of it is the upstream's fault."""
    watched = Watched()
    watched.take(*[failed(kind)] * 10)
    assert (watched.state, watched.told) == ("up", [])
    watched.take(failed("503"), failed("503"), failed(kind), failed("503"))
    assert (watched.state, watched.told) == ("up", [])


def test_faults_that_lie_far_apart_are_no_outage() -> None:
    """Two an hour are the weather."""
    watched = Watched()
    for _ in range(10):
        watched.take(failed("503"))
        watched.now += WINDOW_S / 2
    assert watched.told == []


def test_what_tells_nothing_changes_nothing() -> None:
    """Refused calls never came to the upstream; a client that left before it answered, and work of an earlier call, prove
    nothing either way.
    """
    watched = Watched()
    watched.take(*[failed("503")] * ENOUGH)
    watched.take(REFUSED, GONE, replace(RECORD, told_by="c0"), replace(RECORD, corrects="c0"))
    assert (watched.state, len(watched.told)) == ("failing", 1)
    fresh = Watched()
    fresh.take(*[GONE] * 10)
    assert (fresh.state, fresh.told) == ("unknown", [])


def test_an_upstream_that_nobody_calls_is_unknown_and_the_verdict_stands() -> None:
    """The state says that nothing was seen lately; gauge and event wait for a call that comes through."""
    watched = Watched()
    watched.take(*[failed("503")] * ENOUGH)
    watched.now += WINDOW_S
    assert watched.state == "unknown"
    assert watched.recent.verdicts() == {"openai": False}
    assert watched.recent.about("openai")["last_minute"]["calls"] == 0
    assert [each.state for each in watched.told] == ["firing"]
    watched.take(RECORD)
    assert (watched.state, watched.recent.verdicts(), watched.told[-1].state) == ("up", {"openai": True}, "resolved")


def test_what_the_config_names_no_more_is_forgotten() -> None:
    """Memory is bounded by the config, and an alarm about what is gone is over."""
    watched = Watched()
    watched.take(*[failed("503")] * ENOUGH, replace(RECORD, upstream="other"))
    watched.recent.keep({"other"})
    assert watched.recent.verdicts() == {"other": True}
    assert [each.state for each in watched.told] == ["firing", "resolved"]
    watched.recent.keep(())
    assert watched.recent.states() == {}
    assert len(watched.told) == 2


@pytest.mark.parametrize(("kind", "outcome"), (FAULTS | ANSWERS).items())
def test_an_attempt_has_one_outcome(kind: str, outcome: str) -> None:
    """As the metric tells it; a client that gives up waiting is how a hanging upstream shows."""
    assert outcome_of(failed(kind)) == outcome
    assert outcome_of(GONE) == "disconnected"
    assert outcome_of(replace(GONE, ttft_ms=5.0)) == "ok"


calls = st.lists(
    st.tuples(st.floats(0, 30), st.integers(0, 10**6), st.integers(0, 10**12), st.sampled_from(["", "429", "503"])),
    max_size=200,
)


@settings(max_examples=60, deadline=None)
@given(calls=calls)
def test_the_last_minute_is_the_sum_of_its_calls(calls: list[tuple[float, int, int, str]]) -> None:
    """To the second, against a plain list; dollars are exact."""
    watched = Watched()
    watched.now += 10 * WINDOW_S
    watched.recent._began = 0.0
    ended: list[tuple[int, int, int, str]] = []
    for pause, count, nanousd, kind in calls:
        watched.now += pause
        usage = {"input": count, "output": 2 * count}
        watched.take(replace(RECORD, usage=usage, cost_nanousd=nanousd, error_type=kind))
        ended.append((int(watched.now), count, nanousd, kind))
    last = [each for each in ended if each[0] > int(watched.now) - WINDOW_S]
    for found in (watched.recent.last_minute(), watched.recent.about("openai")["last_minute"]):
        assert found["calls"] == len(last)
        assert found["cost_nanousd_per_minute"] == sum(each[2] for each in last)
        assert sum(found["errors"].values()) == sum(bool(each[3]) for each in last)
        assert found["input_tokens_per_s"] == pytest.approx(sum(each[1] for each in last) / WINDOW_S, abs=0.001)
        assert found["output_tokens_per_s"] == pytest.approx(sum(each[1] for each in last) / WINDOW_S * 2, abs=0.001)
        assert found["latency_ms"] == (pytest.approx(700.0) if last else None)
        assert found["ttft_ms"] == (pytest.approx(100.0) if last else None)


@given(st.lists(st.tuples(st.sampled_from(["openai", "other", "", "forget"]), st.integers(0, 20)), max_size=40))
def test_the_last_minute_of_all_is_that_of_every_call(steps: list[tuple[str, int]]) -> None:
    """Of refused ones, and of an upstream that the config names no more, while its calls are of the last minute."""
    watched, ended = Watched(), list[tuple[str, float]]()
    for upstream, pause_s in steps:
        watched.now += pause_s
        if upstream == "forget":
            watched.recent.keep({"openai"})
            continue
        watched.take(replace(RECORD, upstream=upstream) if upstream else REFUSED)
        ended.append((upstream, watched.now))
    last = [upstream for upstream, at in ended if at > watched.now - WINDOW_S]
    assert watched.recent.last_minute()["calls"] == len(last)
    assert watched.recent.about("openai")["last_minute"]["calls"] == last.count("openai")
    watched.now += WINDOW_S
    watched.recent.keep(())
    watched.recent.keep(())
    assert watched.recent.last_minute()["calls"] == 0
    assert len(watched.recent._others) == 1


def test_a_young_process_is_not_measured_by_a_whole_minute() -> None:
    """Ten calls in its first five seconds are two a second."""
    watched = Watched()
    watched.now += 5
    watched.take(*[RECORD] * 10)
    assert watched.recent.last_minute()["calls_per_s"] == 2


def test_memory_has_a_bound_whatever_providers_answer() -> None:
    """A bucket a second, and so many kinds of errors in each."""
    watched = Watched()
    for second in range(1000):
        watched.now += 1
        watched.take(*(failed(str(100 + (second * 7 + number) % 900)) for number in range(50)))
    upstream = watched.recent._upstreams["openai"]
    assert len(upstream.minute._seconds) <= WINDOW_S
    assert max(len(each.errors) for each in upstream.minute._seconds) <= 21
