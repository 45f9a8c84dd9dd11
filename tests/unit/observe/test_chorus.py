"""What several notice is told once: any order of voices begins a thing once and ends it when the last is silent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.chorus import Chorus
from gateway.observe.events import Event
from gateway.observe.repeats import Repeats


def event(state: str) -> Event:
    return Event("upstream", "upstream/a", state, "critical", f"a {state}")


STEPS = st.lists(st.tuples(st.sampled_from("123"), st.sampled_from(["firing", "resolved", "dies"])), max_size=30)


@given(STEPS)
def test_it_fires_while_anybody_says_so(steps: list[tuple[str, str]]) -> None:
    """Held against the set of those who say so; a process that dies says nothing any more."""
    heard, told, saying = Repeats(3600), [], set[str]()
    chorus = Chorus(lambda event: told.append(event.state) if heard.is_news(event, 0.0) else None)
    expected: list[str] = []
    for who, what in steps:
        before = bool(saying)
        if what == "firing":
            saying.add(who)
            chorus.hear(who, event("firing"))
        else:
            saying.discard(who)
            if what == "resolved":
                chorus.hear(who, event("resolved"))
            else:
                chorus.keep({"1", "2", "3"} - {who})
        if bool(saying) != before:
            expected.append("firing" if saying else "resolved")
        assert told == expected


def test_what_has_no_end_is_handed_on() -> None:
    """Who hears the same twice is the listener's business."""
    told: list[Event] = []
    chorus = Chorus(told.append)
    chorus.hear("1", event("told"))
    chorus.hear("2", event("told"))
    chorus.keep(set())
    assert [each.state for each in told] == ["told", "told"]
