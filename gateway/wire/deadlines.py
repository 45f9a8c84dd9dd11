"""The time limits of the exchanges of one upstream, or of the clients of a front, all under one timer.

What has a limit is looked at when the first may be over, and then when the next one may be: a call costs a set's
``add`` and ``discard`` (0.1 us) in place of a timer that is made and cancelled (1.5 us), and with the same limit for all, few looks find
anything to do. Knows none of them from inside.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

GRAIN_NS = 50_000_000
"""Looks are at least so far apart: a limit is kept to within 50 ms."""


class Timed(Protocol):
    """What has a limit."""

    def look(self, now_ns: int) -> int:
        """End what is overdue. Returns when to look again, 0 = never. Both in nanoseconds of ``time.monotonic_ns``."""


class Deadlines:
    """Who has a limit, and when to look next. Without anybody no timer is made."""

    __slots__ = ("_at_ns", "_timed", "_timer")

    def __init__(self) -> None:
        self._timed: set[Timed] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._at_ns = 0

    def __len__(self) -> int:
        return len(self._timed)

    def watch(self, timed: Timed, due_ns: int) -> None:
        """Look at it at ``due_ns``, or a little later, and from then on when it says."""
        self._timed.add(timed)
        if not self._at_ns or due_ns < self._at_ns:
            self._arm(due_ns)

    def forget(self, timed: Timed) -> None:
        """It has no limit any more, or had none."""
        self._timed.discard(timed)

    def close(self) -> None:
        """No more looks."""
        self._timed.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, due_ns: int) -> None:
        now_ns = time.monotonic_ns()
        at_ns = max(due_ns, now_ns + GRAIN_NS)
        if self._at_ns and self._at_ns <= at_ns:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at_ns = at_ns
        self._timer = asyncio.get_running_loop().call_later((at_ns - now_ns) / 1e9, self._look)

    def _look(self) -> None:
        self._timer, self._at_ns = None, 0
        now_ns = time.monotonic_ns()
        next_ns = 0
        for timed in tuple(self._timed):
            due_ns = timed.look(now_ns)
            if not due_ns:
                self._timed.discard(timed)
            elif not next_ns or due_ns < next_ns:
                next_ns = due_ns
        if next_ns:
            self._arm(next_ns)
