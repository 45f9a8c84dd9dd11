"""Following what operators decide ends when it is told to."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway import follower
from gateway.follower import Follower


class Busy:
    """A store whose answer comes in the very moment in which its asker is cancelled, once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.swallowed = False

    async def revision(self) -> int:
        self.asked.set()
        if self.swallowed:
            await asyncio.sleep(0)
            return 0
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.swallowed = True
        return 0

    async def entries(self, since: int) -> list[Any]:
        return []


async def test_an_end_that_was_swallowed_is_asked_for_again(monkeypatch: Any) -> None:
    """As wait_for of Python 3.11 does it."""
    monkeypatch.setattr(follower, "EVERY_S", 0.0)
    store: Any = Busy()
    following = Follower(store, lambda _: asyncio.sleep(0))
    store.swallowed = True
    await following.start()
    store.swallowed, store.asked = False, asyncio.Event()
    await store.asked.wait()
    ended, _ = await asyncio.wait((asyncio.ensure_future(following.stop()),), timeout=3)
    assert (bool(ended), store.swallowed) == (True, True)
