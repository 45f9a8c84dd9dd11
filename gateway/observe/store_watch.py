"""Whether the store is down, and whether finished calls pile up before it: events made of what the health check finds.

Quiet: asks nobody and has no task. A probe, a scrape and the clock all have the store looked at, so that what counts is time
and not the number of looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.observe.events import Event, Tell

DOWN_AFTER_S = 3.0
"""A store that is restarted is away for a second; nobody need be woken for that."""
MANY_WAITING = 100
LONG_S = 60.0


class StoreWatch:
    """``waiting`` is how many finished calls are not in the books yet."""

    def __init__(self, waiting: Callable[[], int], tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._waiting = waiting
        self._tell = tell
        self._clock = clock
        self._failed_since: float | None = None
        self._many_since: float | None = None
        self._is_down = False
        self._is_late = False

    def take(self, *, up: bool) -> None:
        """Somebody has looked: the store answered, or did not."""
        now = self._clock()
        self._say_store(up=up, now=now)
        self._say_waiting(self._waiting(), now)

    def _say_store(self, *, up: bool, now: float) -> None:
        if up:
            self._failed_since = None
            if self._is_down:
                self._is_down = False
                self._tell(_event("store/up", "resolved", "critical", "the store answers again"))
            return
        if self._failed_since is None:
            self._failed_since = now
        if not self._is_down and now - self._failed_since >= DOWN_AFTER_S:
            self._is_down = True
            text = "the store does not answer: calls go on or are refused as store.on_outage says"
            self._tell(_event("store/up", "firing", "critical", text))

    def _say_waiting(self, waiting: int, now: float) -> None:
        facts = (("waiting", str(waiting)),)
        if waiting <= MANY_WAITING:
            self._many_since = None
            if self._is_late:
                self._is_late = False
                text = "finished calls are in the books again"
                self._tell(_event("store/journal", "resolved", "warning", text, facts))
            return
        if self._many_since is None:
            self._many_since = now
        if not self._is_late and now - self._many_since >= LONG_S:
            self._is_late = True
            text = f"{waiting} finished calls are not in the books yet: they wait in the journal or in memory"
            self._tell(_event("store/journal", "firing", "warning", text, facts))


def _event(key: str, state: str, severity: str, text: str, facts: tuple[tuple[str, str], ...] = ()) -> Event:
    return Event("store", key, state, severity, text, facts)
