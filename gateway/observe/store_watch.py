"""Whether the store answers, and whether finished calls pile up before it: looked at every few seconds, told as events.

Laws: one look at a time, however long it takes, so that a store that hangs is asked once; calls are not touched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from gateway.observe.events import Event, Tell

log = logging.getLogger("gateway.store_watch")

LOOK_S = 3.0
DOWN_AFTER_LOOKS = 2
"""A store that is restarted is away for a second; nobody need be woken for that."""
PATIENCE_S = 10.0
"""A store that has not answered for so long is down, whatever it will say."""
MANY_WAITING = 100
LONG_S = 60.0


class StoreWatch:
    """``check`` raises when the store does not answer; ``waiting`` is how many finished calls are not in the books yet."""

    def __init__(
        self,
        check: Callable[[], Awaitable[None]],
        waiting: Callable[[], int],
        tell: Tell,
        *,
        look_s: float = LOOK_S,
        long_s: float = LONG_S,
    ) -> None:
        self._check = check
        self._waiting = waiting
        self._tell = tell
        self._look_s = look_s
        self._long_s = long_s
        self._failed_looks = 0
        self._many_since: float | None = None
        self._is_down = False
        self._is_late = False
        self._asking: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="store-watch")

    async def stop(self) -> None:
        """Look no more."""
        for task in (self._task, self._asking):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                self._say_store(up=await self._is_up())
                self._say_waiting(self._waiting(), time.monotonic())
            except Exception:
                log.exception("a bug while watching the store")
            await asyncio.sleep(self._look_s)

    async def _is_up(self) -> bool:
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="store-look")
        done, _ = await asyncio.wait({self._asking}, timeout=PATIENCE_S)
        if not done:
            self._failed_looks = max(self._failed_looks, DOWN_AFTER_LOOKS)
            return False
        failed = self._asking.cancelled() or self._asking.exception() is not None
        self._asking = None
        return not failed

    async def _ask(self) -> None:
        await self._check()

    def _say_store(self, *, up: bool) -> None:
        self._failed_looks = 0 if up else self._failed_looks + 1
        if up and self._is_down:
            self._is_down = False
            self._tell(_event("store/up", "resolved", "critical", "the store answers again"))
        elif not self._is_down and self._failed_looks >= DOWN_AFTER_LOOKS:
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
        if not self._is_late and now - self._many_since >= self._long_s:
            self._is_late = True
            text = f"{waiting} finished calls are not in the books yet: they wait in the journal or in memory"
            self._tell(_event("store/journal", "firing", "warning", text, facts))


def _event(key: str, state: str, severity: str, text: str, facts: tuple[tuple[str, str], ...] = ()) -> Event:
    return Event("store", key, state, severity, text, facts)
