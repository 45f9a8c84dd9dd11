"""Who hears the same thing twice stops listening: which events are told, given those that were told before.

The same event in the same state is told again after ``repeat_s`` at the earliest. An end is told once, and only where its
beginning was; after it the beginning is new.
"""

from __future__ import annotations

from collections import OrderedDict

from gateway.observe.events import Event

MAX_KEYS = 10_000
"""Keys are made of names that callers choose; the oldest are forgotten first."""


class Repeats:
    """What one listener was told."""

    def __init__(self, repeat_s: float) -> None:
        self.repeat_s = repeat_s
        self._told: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def is_news(self, event: Event, now: float) -> bool:
        """Whether to tell it at ``now`` (seconds of any clock that only goes forward); if so, it counts as told."""
        state, at = self._told.get(event.key, ("", now))
        if event.state == "resolved":
            if state != "firing":
                return False
        elif state == event.state and now - at < self.repeat_s:
            return False
        self._told[event.key] = (event.state, now)
        self._told.move_to_end(event.key)
        if len(self._told) > MAX_KEYS:
            self._told.popitem(last=False)
        return True

    def forget(self, event: Event, at: float) -> bool:
        """What was news ``at`` was not heard after all. False when something newer of its key was told since."""
        if self._told.get(event.key) != (event.state, at):
            return False
        del self._told[event.key]
        return True
