"""The watch over the store: told when it is down and when it is back, once each, however often somebody looks."""

from __future__ import annotations

from gateway.observe.events import Event
from gateway.observe.store_watch import StoreWatch


class Watched:
    """A store whose looks are told by hand: when, whether it answered, how many calls wait."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.now = 0.0
        self.waiting = 0
        self._watch = StoreWatch(lambda: self.waiting, self.told.append, lambda: self.now)

    def look(self, at: float, *, up: bool = True, waiting: int = 0) -> None:
        self.now, self.waiting = at, waiting
        self._watch.take(up=up)

    @property
    def states(self) -> list[tuple[str, str, str]]:
        return [(each.key, each.state, each.severity) for each in self.told]


def test_down_and_up_are_told_once_each() -> None:
    """As one thing with a beginning and an end; then it can begin anew."""
    store = Watched()
    for at in (0, 5, 10, 15):
        store.look(at, up=False)
    assert store.states == [("store/up", "firing", "critical")]
    for at in (20, 25):
        store.look(at)
    assert store.states[1:] == [("store/up", "resolved", "critical")]
    for at in (30, 35):
        store.look(at, up=False)
    assert len(store.told) == 3


def test_a_store_that_is_away_for_a_moment_wakes_nobody() -> None:
    """One look that fails is a restart; so are ten within a second, when scrapes look as well; an answer between ends it."""
    store = Watched()
    for tenth in range(10):
        store.look(tenth / 10, up=False)
    for at, up in ((5, True), (10, False), (15, True), (20, False)):
        store.look(at, up=up)
    assert store.told == []


def test_calls_that_pile_up_are_told_after_a_while() -> None:
    """With how many there are; a peak is nobody's business."""
    store = Watched()
    for waiting, at in ((101, 0), (101, 59), (100, 60), (101, 61), (250, 120)):
        store.look(at, waiting=waiting)
    assert store.told == []
    for waiting, at in ((250, 121), (300, 500), (3, 501), (3, 502)):
        store.look(at, waiting=waiting)
    assert store.states == [("store/journal", "firing", "warning"), ("store/journal", "resolved", "warning")]
    assert store.told[0].facts == (("waiting", "250"),)
