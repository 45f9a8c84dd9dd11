"""Metrics on their way out: all of them, every so often, in requests of a bounded size."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from gateway.observe.exporter import Exporter
from gateway.observe.otlp import metrics_request
from gateway.observe.otlp_metrics import metrics
from gateway.observe.protobuf import Attributes
from gateway.observe.series import Family

log = logging.getLogger("gateway.observe.push")

POINTS_A_REQUEST = 2000
"""A megabyte; a gRPC server takes four by default."""
WAIT_S = 0.05
REFRESH_S = 5.0
"""So long gauges may take to be read; counts do not wait for a store that hangs."""

Named = tuple[str, str, Family[Any]]
Instruments = Callable[[], Iterable[Named]]


class Push:
    """Tells a receiver of OTLP what ``instruments`` hold, every ``interval_s`` seconds and once more at the end."""

    def __init__(self, exporter: Exporter, resource: Attributes, interval_s: float, instruments: Instruments) -> None:
        self.exporter = exporter
        self.refresh: Callable[[], Awaitable[None]] = _nothing
        """Awaited before each round: reads what gauges show."""
        self._resource = resource
        self._interval_s = interval_s
        self._instruments = instruments
        self._start_ns = time.time_ns()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self.exporter.start()
        self._task = asyncio.create_task(self._run(), name="push metrics")

    async def close(self, grace_s: float) -> None:
        """Tell the last figures."""
        self._closing.set()
        if self._task is not None:
            await self._task
        await self.exporter.close(grace_s)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._interval_s)
            try:
                await self._tell()
            except Exception as error:
                log.error("metrics could not be pushed: %s", type(error).__name__)
            if self._closing.is_set():
                return

    async def _tell(self) -> None:
        """One round. Calls go on between two slices; what the receiver has no room for in time is told in the next round."""
        await self._refresh()
        until = time.monotonic() + self._interval_s
        written: list[bytes] = []
        points = 0
        now_ns = max(time.time_ns(), self._start_ns + 1)  # clocks are set back
        for piece, count in metrics(self._instruments(), self._start_ns, now_ns):
            await asyncio.sleep(0)
            written.append(piece)
            points += count
            if points >= POINTS_A_REQUEST:
                await self._room(until)
                self.exporter.submit(metrics_request(self._resource, written), points)
                written, points = [], 0
        if written:
            self.exporter.submit(metrics_request(self._resource, written), points)

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(REFRESH_S):
                await self.refresh()
        except Exception as error:
            log.warning("the gauges that are pushed are not fresh: %s", type(error).__name__)

    async def _room(self, until: float) -> None:
        """Until the receiver has taken something, no longer than ``until``: after that the oldest goes."""
        while self.exporter.is_busy and time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), WAIT_S)
                return


async def _nothing() -> None:
    """There is nothing to read."""
