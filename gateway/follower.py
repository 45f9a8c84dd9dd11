"""Every process follows what operators decide: it asks the store for the newest revision several times a second, and fetches what is new.

A store that is down keeps what is known, and that is said once. Laws: what is decided holds for the next call of every process within
a second, on connections that are open as well; a call that runs keeps what it started with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gateway.decided import NOTHING, Decided
from gateway.ended import ended
from gateway.errors import Failure

if TYPE_CHECKING:
    from gateway.store import Store

log = logging.getLogger("gateway.follower")

EVERY_S = 0.3


class Follower:
    """``apply`` gets all decisions whenever there are new ones; ``decided`` are those that it has taken over."""

    def __init__(self, store: Store, apply: Callable[[Decided], Awaitable[None]]) -> None:
        self.decided = NOTHING
        self._store = store
        self._apply = apply
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._silent = False

    async def start(self) -> None:
        """Look once, then begin to follow. A store that is down is asked again later."""
        await self._try()
        self._task = asyncio.create_task(self._follow(), name="follow")

    async def stop(self) -> None:
        """Follow no more."""
        if self._task is not None:
            await ended(self._task)

    async def current(self) -> Decided:
        """What is decided now, by whomever. Failure while the store cannot be asked."""
        async with self._lock:
            known = self.decided
            if not known.is_read or await self._store.revision() != known.revision:
                entries = await self._store.entries(known.revision)
                found = await asyncio.to_thread(known.following, entries)
                await self._apply(found)
                self.decided = found
        return self.decided

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self._try()

    async def _try(self) -> None:
        try:
            await self.current()
        except Failure as failure:
            if not self._silent:
                log.warning("what operators decide cannot be read, what is known of it holds: %s", failure.message)
            self._silent = True
        except Exception:
            if not self._silent:
                log.exception("a bug while following what operators decide")
            self._silent = True
        else:
            if self._silent:
                log.info("what operators decide can be read again: revision %d", self.decided.revision)
            self._silent = False
