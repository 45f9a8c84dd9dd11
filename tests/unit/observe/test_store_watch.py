"""The watch over the store: told when it is down and when it is back, once each, and at no cost to a store that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.observe import store_watch
from gateway.observe.events import Event
from gateway.observe.store_watch import StoreWatch


class Store:
    """Up, down or hanging."""

    def __init__(self) -> None:
        self.is_up = True
        self.hangs = False
        self.waiting = 0
        self.looks = 0
        self.at_once = 0
        self.most_at_once = 0

    async def check(self) -> None:
        self.looks += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            while self.hangs:
                await asyncio.sleep(0.001)
            if not self.is_up:
                raise ConnectionError
        finally:
            self.at_once -= 1

    async def looked_at(self, times: int) -> None:
        await until(lambda wanted=self.looks + times: self.looks >= wanted)


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def watched(long_s: float = 0.0) -> AsyncIterator[tuple[Store, list[Event]]]:
    store, told = Store(), list[Event]()
    watch = StoreWatch(store.check, lambda: store.waiting, told.append, look_s=0.001, long_s=long_s)
    watch.start()
    yield store, told
    await watch.stop()


def states(told: list[Event]) -> list[tuple[str, str, str]]:
    return [(each.key, each.state, each.severity) for each in told]


async def test_down_and_up_are_told_once_each() -> None:
    """As one thing with a beginning and an end."""
    async with watched() as (store, told):
        store.is_up = False
        await store.looked_at(10)
        assert states(told) == [("store/up", "firing", "critical")]
        store.is_up = True
        await store.looked_at(10)
    assert states(told)[1:] == [("store/up", "resolved", "critical")]


async def test_a_store_that_is_away_for_a_moment_wakes_nobody() -> None:
    """One look that fails is a restart."""
    store, told = Store(), list[Event]()
    watch = StoreWatch(store.check, lambda: 0, told.append)
    for up in (True, False, True, False, True):
        watch._say_store(up=up)
    assert told == []


async def test_a_store_that_hangs_is_down_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs must not gather questions; once it answers it is up."""
    monkeypatch.setattr(store_watch, "PATIENCE_S", 0.005)
    async with watched() as (store, told):
        store.hangs = True
        await until(lambda: told)
        looks = store.looks
        for _ in range(30):
            await asyncio.sleep(0.001)
        assert store.looks == looks
        assert store.most_at_once == 1
        store.hangs = False
        await until(lambda: len(told) == 2)
    assert states(told) == [("store/up", "firing", "critical"), ("store/up", "resolved", "critical")]


async def test_calls_that_pile_up_are_told_after_a_while() -> None:
    """With how many there are; a peak is nobody's business."""
    told = list[Event]()
    watch = StoreWatch(Store().check, lambda: 0, told.append)
    for waiting, at in ((101, 0), (101, 59), (100, 60), (101, 61), (250, 120)):
        watch._say_waiting(waiting, at)
    assert told == []
    for waiting, at in ((250, 121), (300, 500), (3, 501), (3, 502)):
        watch._say_waiting(waiting, at)
    assert states(told) == [("store/journal", "firing", "warning"), ("store/journal", "resolved", "warning")]
    assert told[0].facts == (("waiting", "250"),)


async def test_a_watch_that_stumbles_goes_on() -> None:
    """A bug in one look is a line in the log."""
    store, told = Store(), list[Event]()
    broken = iter([True, True])

    def waiting() -> int:
        if next(broken, False):
            raise ValueError
        return 0

    watch = StoreWatch(store.check, waiting, told.append, look_s=0.001)
    watch.start()
    await store.looked_at(6)
    await watch.stop()


async def test_it_stops_in_the_middle_of_a_look() -> None:
    """Nothing is left running."""
    async with watched() as (store, _):
        store.hangs = True
        await until(lambda: store.at_once)
    assert store.at_once == 0
