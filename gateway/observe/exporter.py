"""Telemetry on its way to a receiver: a bounded queue, one request at a time, tried again, and dropped before it is in the way.

A receiver that is away, slow or full costs a counter and at most so many bytes of memory. Time-outs, 429, 502, 503 and 504 are
tried again with growing pauses (OTLP specification 1.9, "Failures"), or after what ``Retry-After`` asks for, half a minute at
most; anything else is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("gateway.observe.exporter")

MAX_KEPT_BYTES = 4 << 20
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
TRIES = 6
"""About a minute; what comes after would be dropped for what waits."""


class Away(Exception):  # noqa: N818 - it says what is the case
    """The receiver did not take it now; ``pause_s`` is what it asks for, 0 where it asks nothing."""

    def __init__(self, why: str, pause_s: float = 0.0) -> None:
        super().__init__(why)
        self.pause_s = pause_s


class Refused(Exception):  # noqa: N818
    """The receiver will never take it."""


class Transport(Protocol):
    """How one request gets there."""

    async def send(self, body: bytes) -> None:
        """Returns when it was taken. Raises Away or Refused."""

    async def close(self) -> None:
        """Give connections back."""


class Exporter:
    """One signal to one receiver. ``count`` gets (signal, outcome, items): exported, failed or dropped."""

    def __init__(self, signal: str, transport: Transport, count: Callable[[str, str, int], None]) -> None:
        self.signal = signal
        self._transport = transport
        self._count = count
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.fault = ""
        """Why nothing goes out at the moment; "" when it does."""

    @property
    def is_busy(self) -> bool:
        """Whether so much waits that more had better wait elsewhere."""
        return self._bytes > MAX_KEPT_BYTES // 2

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._run(), name=f"export {self.signal}")

    def submit(self, body: bytes, items: int) -> None:
        """Have it sent. What finds no room makes the oldest go: the present is what somebody looks at."""
        self._waiting.append((body, items))
        self._bytes += len(body)
        while self._bytes > MAX_KEPT_BYTES and len(self._waiting) > 1:
            gone, lost = self._waiting.popleft()
            self._bytes -= len(gone)
            self._count(self.signal, "dropped", lost)
        self._wake.set()

    def drop(self, items: int) -> None:
        """Count what does not even get here."""
        self._count(self.signal, "dropped", items)

    async def close(self, grace_s: float) -> None:
        """Send what waits, for so long."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._task, grace_s)
        for _, items in self._waiting:
            self._count(self.signal, "dropped", items)
        self._waiting.clear()
        await self._transport.close()

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            body, items = self._waiting.popleft()
            self._bytes -= len(body)
            outcome = "failed"  # unless it is heard of before the end
            try:
                outcome = await self._deliver(body)
            finally:
                self._count(self.signal, outcome, items)

    async def _deliver(self, body: bytes) -> str:
        for attempt in range(TRIES):
            try:
                await self._transport.send(body)
            except Away as away:
                self._note(str(away))
                if self._closing or attempt == TRIES - 1:
                    break
                await self._pause(away.pause_s or FIRST_PAUSE_S * 2**attempt / 2)
            except Refused as refused:
                self._note(str(refused))
                break
            except Exception as error:
                self._note(type(error).__name__)
                break
            else:
                if self.fault:
                    log.info("%s go out again", self.signal)
                self.fault = ""
                return "exported"
        return "failed"

    async def _pause(self, seconds: float) -> None:
        """So long or up to twice that: not all replicas at once. Not at all once somebody waits for the end."""
        left = min(LONGEST_PAUSE_S, seconds * random.uniform(1.0, 2.0))  # noqa: S311 - no secret
        self._wake.clear()
        while left > 0 and not self._closing:
            await asyncio.sleep(min(left, 0.2))
            left -= 0.2

    def _note(self, why: str) -> None:
        if not self.fault:
            log.warning("%s do not go out: %s", self.signal, why)
        self.fault = why
