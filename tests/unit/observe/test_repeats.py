"""What is told again, what is not, and that ends belong to beginnings."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.observe import repeats
from gateway.observe.events import Event
from gateway.observe.repeats import Repeats

STATES = ("firing", "resolved", "told")


def event(state: str, key: str = "k", severity: str = "warning") -> Event:
    return Event("store", key, state, severity, "text")


def test_the_same_state_is_news_again_after_the_time() -> None:
    """And not a moment earlier."""
    heard = Repeats(60)
    assert [heard.is_news(event("firing"), now) for now in (0, 1, 59.9, 60, 61, 120)] == [
        True, False, False, True, False, True,
    ]  # fmt: skip


def test_an_end_is_told_once_and_only_after_its_beginning() -> None:
    """After it the beginning is new, however soon it comes."""
    heard = Repeats(60)
    states = ["resolved", "firing", "resolved", "resolved", "firing", "firing", "resolved"]
    assert [heard.is_news(event(state), now) for now, state in enumerate(states)] == [
        False, True, True, False, True, False, True,
    ]  # fmt: skip


def test_what_grows_worse_is_news_at_once() -> None:
    """And then no more often than before; what calms down is none."""
    heard = Repeats(60)
    severities = ["info", "warning", "critical", "critical", "warning", "critical"]
    assert [heard.is_news(event("firing", severity=each), now) for now, each in enumerate(severities)] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_a_beginning_that_was_heard_gets_its_end_though_worse_was_not_heard() -> None:
    """And the worse is news again."""
    heard = Repeats(60)
    assert heard.is_news(event("firing"), 0)
    assert heard.is_news(event("firing", severity="critical"), 1)
    heard.forget(event("firing", severity="critical"), 1)
    assert heard.is_news(event("firing", severity="critical"), 2)
    heard.forget(event("firing", severity="critical"), 2)
    assert heard.is_news(event("resolved"), 3)


def test_what_has_no_end_gets_none() -> None:
    """``told`` is not a beginning."""
    heard = Repeats(60)
    assert heard.is_news(event("told"), 0)
    assert not heard.is_news(event("resolved"), 1)


def test_what_was_not_heard_is_news_again() -> None:
    """Unless something newer of its key was told since."""
    heard = Repeats(60)
    assert heard.is_news(event("firing"), 0)
    heard.forget(event("firing"), 0)
    assert not heard.is_news(event("resolved"), 1)
    assert heard.is_news(event("firing"), 2)
    assert heard.is_news(event("resolved"), 3)
    assert heard.is_news(event("firing"), 4)
    heard.forget(event("firing"), 2)
    assert heard.is_news(event("resolved"), 5)


def test_keys_that_callers_invent_are_bounded() -> None:
    """The oldest go first; one that is told again is young."""
    heard = Repeats(1e9)
    heard.is_news(event("told", "first"), 0)
    for number in range(repeats.MAX_KEYS):
        heard.is_news(event("told", str(number)), 0)
    assert len(heard._told) == repeats.MAX_KEYS
    assert heard.is_news(event("firing", "0"), 0), "an old key in a new state is young again"
    assert heard.is_news(event("told", "another"), 0)
    assert heard.is_news(event("resolved", "0"), 0)
    assert heard._told.keys() >= {"0", "another"}
    assert "1" not in heard._told
    assert heard.is_news(event("told", "first"), 1)
    assert not heard.is_news(event("told", str(repeats.MAX_KEYS - 1)), 1)


def test_what_callers_do_does_not_make_an_end_unknown() -> None:
    """A target may fire for days while every user's budget is told of; unless all that is known goes on."""
    heard = Repeats(1e9)
    assert heard.is_news(event("firing", "target"), 0)
    for number in range(repeats.MAX_KEYS + 5):
        heard.is_news(event("told", str(number)), 0)
    assert len(heard._told) == repeats.MAX_KEYS
    assert heard.is_news(event("resolved", "target"), 1)
    for number in range(repeats.MAX_KEYS + 5):
        heard.is_news(event("firing", str(number)), 2)
    assert len(heard._told) == repeats.MAX_KEYS


@given(
    st.lists(st.tuples(st.sampled_from(STATES), st.sampled_from("ab"), st.integers(0, 50)), max_size=60),
    st.integers(1, 80),
)
def test_whatever_happens_the_laws_hold(steps: list[tuple[str, str, int]], repeat: int) -> None:
    """Of each key: between two tellings of one state lies the time or an end, and before each end stands a beginning."""
    heard, now = Repeats(repeat), 0
    told: dict[str, list[tuple[str, int]]] = {"a": [], "b": []}
    for state, key, later in steps:
        now += later
        if heard.is_news(event(state, key), now):
            told[key].append((state, now))
    for of_key in told.values():
        assert not of_key or of_key[0][0] != "resolved"
        for (before, at), (state, then) in pairwise(of_key):
            assert state != "resolved" or before == "firing"
            assert before != state or then - at >= repeat
