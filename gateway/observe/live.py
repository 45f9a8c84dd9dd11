"""What the live page is told while it is open: calls as they end, once a second how it goes, and that something has changed.

Owns the listeners. Each has a bounded list of what it was not sent yet: one that is too slow loses the oldest of it, and nobody waits
for it. While nobody listens, a batch costs nothing and no clock ticks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

import orjson

from gateway.call import Record
from gateway.observe import Batch

log = logging.getLogger("gateway.observe")

MAX_LISTENERS = 64
MAX_WAITING = 100
"""Events that wait for one listener, some 0.5 KB each."""
CALLS_A_SECOND = 20
TICK_S = 1.0
HEARTBEAT_TICKS = 15
STUCK_S = 30.0
"""A listener that takes nothing for so long is let go."""
LAST_WORDS_S = 0.2
RETRY_MS = 2000
TOLD = (
    "call_id", "correlation_id", "started_at", "team", "user", "agent", "key_name", "model_requested", "model_served", "upstream",
    "operation", "stream", "status", "error_type", "outcome", "usage", "usage_source", "cost_nanousd", "unpriced", "latency_ms",
    "ttft_ms",
)  # fmt: skip
"""Of a record."""
COMMENT = b": still here\n\n"


def event(name: str, data: Any) -> bytes:
    """As a stream of events writes it (HTML, 9.2.6); JSON has no line break."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


class Listener:
    """One that listens: iterate over ``events``."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self.wake = asyncio.Event()
        self.task: asyncio.Task[Any] | None = None
        self.taken_at = 0.0

    def put(self, text: bytes) -> None:
        """The oldest goes where there is no room."""
        self.waiting.append(text)
        self.wake.set()


class Live:
    """A sink. ``now`` says how it goes, ``version`` what a change changes."""

    name = "live"

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._now: Callable[[], dict[str, Any]] = dict
        self._version: Callable[[], dict[str, Any]] = dict
        self._ticking: asyncio.Task[None] | None = None
        self._told = self._left_out = 0
        self._is_closed = False

    def connect(self, now: Callable[[], dict[str, Any]], version: Callable[[], dict[str, Any]]) -> None:
        """Where the figures come from. Before the first listener."""
        self._now, self._version = now, version

    @property
    def is_full(self) -> bool:
        """Whether one more listener would be too many, or all is over."""
        return self._is_closed or len(self._listeners) >= MAX_LISTENERS

    def take(self, batch: Batch) -> None:
        """Tell of calls, as far as a second has room for them."""
        if not self._listeners:
            return
        for record in batch.records:
            if record.corrects or record.told_by:
                continue
            if self._told >= CALLS_A_SECOND:
                self._left_out += 1
                continue
            self._told += 1
            self._tell(event("call", _short(record)))

    def listen(self) -> AsyncGenerator[bytes]:
        """What is told from now on, for one listener: it counts from this moment. Ends with ``close``."""
        listener = Listener()
        listener.put(f"retry: {RETRY_MS}\n\n".encode() + event("now", self._snapshot(0)))
        self._listeners.add(listener)
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick(), name="live")
        return self._events(listener)

    async def _events(self, listener: Listener) -> AsyncGenerator[bytes]:
        listener.task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        try:
            while True:
                listener.taken_at = loop.time()
                while listener.waiting:
                    yield listener.waiting.popleft()
                    listener.taken_at = loop.time()
                if self._is_closed:
                    return
                listener.wake.clear()
                await listener.wake.wait()
        finally:
            self._listeners.discard(listener)

    async def close(self) -> None:
        """No listener is kept: each is sent what waits for it, if it takes it at once."""
        self._is_closed = True
        if self._ticking is not None:
            self._ticking.cancel()
        tasks = [each.task for each in self._listeners if each.task is not None]
        for each in self._listeners:
            each.wake.set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LAST_WORDS_S)
            for task in late:
                task.cancel()

    async def _tick(self) -> None:
        """Once a second, while somebody listens."""
        version, ticks = self._version(), 0
        while self._listeners:
            await asyncio.sleep(TICK_S)
            ticks += 1
            left_out, self._told, self._left_out = self._left_out, 0, 0
            try:
                self._let_go()
                self._tell(event("now", self._snapshot(left_out)))
                if (latest := self._version()) != version:
                    version = latest
                    self._tell(event("changed", version))
                if ticks % HEARTBEAT_TICKS == 0:
                    self._tell(COMMENT)
            except Exception:
                log.exception("a bug while telling the live page")
        self._ticking = None

    def _let_go(self) -> None:
        """Of listeners that take nothing; also of those that never began to."""
        long_ago = asyncio.get_running_loop().time() - STUCK_S
        for each in [each for each in self._listeners if each.waiting and each.taken_at < long_ago]:
            if each.task is not None:
                each.task.cancel()
            self._listeners.discard(each)

    def _snapshot(self, left_out: int) -> dict[str, Any]:
        return {**self._now(), "calls_left_out": left_out}

    def _tell(self, text: bytes) -> None:
        for each in self._listeners:
            each.put(text)


def _short(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in TOLD}
