"""Who hears the same thing twice stops listening: which events are told, given those that were told before.

The same event in the same state is told again after ``repeat_s`` at the earliest, or at once if it is more severe. An end is
told once, and only where its beginning was; after it the beginning is new.
"""

from __future__ import annotations

from collections import OrderedDict

from gateway.observe.events import Event
from gateway.value import value

MAX_KEYS = 10_000
"""Keys are made of names that callers choose; the oldest are forgotten first. What goes on is kept:
its end would be told to nobody."""
SEVERITIES = ("info", "warning", "critical")


@value
class _Last:
    """What was told last of a key. ``rank`` is how severe it was; ``goes_on``: its beginning had been told before."""

    state: str
    rank: int
    at: float
    goes_on: bool = False


class Repeats:
    """What one listener was told."""

    def __init__(self, repeat_s: float) -> None:
        self.repeat_s = repeat_s
        self._told: OrderedDict[str, _Last] = OrderedDict()

    def is_news(self, event: Event, now: float) -> bool:
        """Whether to tell it at ``now`` (seconds of any clock that only goes forward); if so, it counts as told."""
        last = self._told.get(event.key)
        is_same = last is not None and last.state == event.state
        if event.state == "resolved":
            if last is None or last.state != "firing":
                return False
        elif last is not None and is_same and now - last.at < self.repeat_s and _rank(event) <= last.rank:
            return False
        self._told[event.key] = _Last(event.state, _rank(event), now, is_same)
        self._told.move_to_end(event.key)
        if len(self._told) > MAX_KEYS:
            self._forget_oldest()
        return True

    def _forget_oldest(self) -> None:
        ended = (key for key, last in self._told.items() if last.state != "firing")
        del self._told[next(ended, next(iter(self._told)))]

    def forget(self, event: Event, at: float) -> None:
        """What was news ``at`` was not heard after all. It is news again, and its end is none unless its beginning was heard before."""
        last = self._told.get(event.key)
        if last is None or (last.state, last.at) != (event.state, at):
            return  # something newer was told since
        if last.goes_on:
            self._told[event.key] = _Last(event.state, -1, at, goes_on=True)
        else:
            del self._told[event.key]


def _rank(event: Event) -> int:
    return SEVERITIES.index(event.severity) if event.severity in SEVERITIES else len(SEVERITIES)
