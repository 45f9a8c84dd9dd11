"""Targets in service: what the sink counted goes to the store, what all processes counted comes back, and somebody is told.

Owns the tasks beside the path and their rhythm. Which store it is nobody here knows: anything with ``tally``, ``tallies`` and
``recent``. While it cannot be asked, what it last said and what waits for it are looked at together.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from gateway.errors import Failure
from gateway.observe.compliance import PAIRS, WINDOWS, Alarms, History, Sums
from gateway.observe.end_to_end import Requests
from gateway.observe.events import Tell
from gateway.observe.targets import Target, TargetSink
from gateway.tallies import BUCKET_S, KEPT_S, Tally, bucket_of

log = logging.getLogger("gateway.observe")

FLUSH_S = 2.0
LOOK_S = 15.0
RECENT_S = 3600
"""What a look reads; other processes hand in what is older only after an outage."""
WHOLE_S = 600.0
"""How often everything is read again."""
SLICE_S = 3600
"""What is read in one go, an hour of the clock: a day at once would stand on the event loop for milliseconds."""
TALLIES_AT_ONCE = 500
LAST_WORDS_S = 3.0
FRESH_S = 1.0
"""What was read so shortly before is not read again for one who asks."""
LENGTHS = tuple(sorted({*WINDOWS.values(), *(length for pair in PAIRS for length in (pair.long_s, pair.short_s))}))

Gauges = Mapping[str, Mapping[tuple[str, ...], float]]


class TallyStore(Protocol):
    """What is asked of a store; see ``gateway.store.Store``."""

    async def tally(self, tallies: Sequence[Tally]) -> None:
        """Add."""

    async def tallies(self, since: int, until: int) -> list[Tally]:
        """Read."""

    async def recent(self, limit: int, before: str = "", correlation_id: str = "") -> list[dict[str, Any]]:
        """Records, newest first."""


class Objectives:
    """``sink`` counts calls; ``report`` says how it stands. ``count`` gets (target, calls, missed), ``tell`` events."""

    def __init__(
        self,
        targets: Sequence[Target],
        count: Callable[[str, int, int], None],
        tell: Tell,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._requests = Requests()
        self.sink = TargetSink(count, self._requests.see, clock)
        self.sink.apply(targets)
        self._targets = tuple(targets)
        self._tell = tell
        self._clock = clock
        self._store: TallyStore | None = None
        self._running: Callable[[], Collection[str]] = tuple
        self._history = History()
        self._alarms = Alarms()
        self._sums: dict[str, dict[int, Sums]] = {}
        self._looked_at = 0.0
        """Unix seconds of what the store last said; 0 = nothing yet."""
        self._next_whole = 0.0
        self._one_at_a_time = asyncio.Lock()
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_silent = False

    def connect(self, store: TallyStore, running: Callable[[], Collection[str]]) -> None:
        """Where tallies are kept; ``running`` says the correlation ids of calls that are on their way. Before ``start``."""
        self._store, self._running = store, running

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: needs a running loop. The store may not be there yet."""
        self._tasks = [
            asyncio.create_task(self._keep(), name="targets"),
            asyncio.create_task(self._judge(), name="targets-requests"),
        ]

    async def stop(self) -> None:
        """Judge what is open, hand over what was counted, within a few seconds; what the store does not take then is lost."""
        if not self._tasks:
            return
        self._stop.set()  # not cancelled: a store may be in the middle of a step
        await asyncio.gather(*self._tasks)
        self._tasks = []
        if self._store is None or not self._targets:
            return
        with contextlib.suppress(TimeoutError, Failure):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._requests.judge_all(self.sink, self._store.recent)
        with contextlib.suppress(TimeoutError, Failure):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._flush()
        if self.sink.pending.size:
            log.warning("%d tallies of targets are lost: the store did not take them", self.sink.pending.size)

    def apply(self, targets: Sequence[Target]) -> None:
        """Take over what a reload changed. What was counted under a name stays under it."""
        if tuple(targets) == self._targets:
            return
        self._targets = tuple(targets)
        self.sink.apply(targets)
        names = {target.name for target in targets}
        self._history.keep(names)
        self._sums = {name: sums for name, sums in self._sums.items() if name in names}
        self._next_whole = 0.0
        if not self.sink.follows:
            self._requests.forget()
        for name in self._alarms.names:
            event = self._alarms.end(name, "is not in the config any more") if name not in names else None
            if event is not None:
                self._tell(event)

    # -- the tasks ----------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Hand over every ``FLUSH_S``, look every ``LOOK_S``."""
        next_look = 0.0
        while not self._stop.is_set():
            if self._targets:
                try:
                    async with self._one_at_a_time:
                        await self._flush_or_wait()
                        if time.monotonic() >= next_look:
                            is_read = await self._read()
                            await self._look()
                            next_look = time.monotonic() + (LOOK_S if is_read else FLUSH_S)
                except Exception:
                    log.exception("a bug while looking at targets")
            await self._pause(FLUSH_S)

    async def _judge(self) -> None:
        """Requests that are over."""
        while not self._stop.is_set():
            if self._store is not None and len(self._requests):
                try:
                    await self._requests.judge(self.sink, self._store.recent, self._running())
                except Failure as failure:
                    log.debug("requests are judged later: %s", failure.message)
                except Exception:
                    log.exception("a bug while judging requests")
            await self._pause(FLUSH_S)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    # -- the store ----------------------------------------------------------------------------------------------------

    async def _flush(self) -> None:
        """Hand over what was counted. Failure: then it is kept."""
        self.sink.roll()
        while self._store is not None and (some := self.sink.pending.take(TALLIES_AT_ONCE)):
            try:
                await self._store.tally(some)
            except BaseException:
                for tally in some:
                    self.sink.pending.add(tally)
                raise

    async def _flush_or_wait(self) -> None:
        dropped = self.sink.pending.dropped
        try:
            await self._flush()
            self._is_silent = False
        except Failure as failure:
            if not self._is_silent:
                self._is_silent = True
                log.warning("tallies of targets are kept until the store takes them: %s", failure.message)
        if self.sink.pending.dropped > dropped:
            log.error("tallies of %d calls are lost: too many wait for the store", self.sink.pending.dropped - dropped)

    async def _read(self) -> bool:
        """What the store has of the last hour, now and then of all days. False when it could not be asked."""
        if self._store is None:
            return False
        now, is_whole = self._clock(), time.monotonic() >= self._next_whole
        until = bucket_of(now) + BUCKET_S
        since = until - (KEPT_S if is_whole else RECENT_S + BUCKET_S)
        names = {target.name for target in self._targets}
        try:
            while since < until:
                end = min((since // SLICE_S + 1) * SLICE_S, until)
                found = await self._store.tallies(since, end)
                self._history.put(since, end, [tally for tally in found if tally.target in names])
                since = end
        except Failure as failure:
            log.debug("how targets are met cannot be read: %s", failure.message)
            self._next_whole = 0.0
            return False
        if is_whole:
            self._next_whole = time.monotonic() + WHOLE_S
        self._looked_at = now
        return True

    async def _look(self) -> None:
        """Work the windows out, tell what burns."""
        now = self._clock()
        self.sink.roll()
        self._history.advance(bucket_of(now))
        for target in self._targets:
            if target not in self._targets:
                continue  # a reload came in between: nobody would tell that its alarm is over
            sums = {length: self._history.sums(target.name, now, length, self.sink.pending) for length in LENGTHS}
            self._sums[target.name] = sums
            event = self._alarms.look(target, sums)
            if event is not None:
                self._tell(event)
            await asyncio.sleep(0)  # some 0.05 ms each: calls come in between

    # -- what is said -------------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Have the latest to say, as far as the store can be asked. Raises nothing."""
        if not self._targets or 0 <= self._clock() - self._looked_at < FRESH_S:
            return
        try:
            async with self._one_at_a_time:
                await self._flush_or_wait()
                await self._read()
                await self._look()
        except Exception:
            log.exception("a bug while looking at targets")

    def gauges(self) -> Gauges:
        """The values of the gauges of targets. A window without calls has none."""
        ratios: dict[tuple[str, ...], float] = {}
        for target in self._targets:
            for window, length in WINDOWS.items():
                sums = self._sums.get(target.name, {}).get(length)
                if sums is not None and sums.compliance is not None:
                    ratios[(target.name, window)] = sums.compliance
        return {
            "llm_target_compliance_ratio": ratios,
            "llm_target_objective_ratio": {(target.name,): target.objective for target in self._targets},
        }

    async def report(self) -> dict[str, Any]:
        """Every target and how it is met, over all processes. ``as_of``: what the store last said."""
        await self.refresh()
        at = datetime.fromtimestamp(self._looked_at, UTC).isoformat(timespec="seconds") if self._looked_at else None
        return {"targets": [self._told(target) for target in self._targets], "as_of": at}

    def _told(self, target: Target) -> dict[str, Any]:
        sums = self._sums.get(target.name, {})
        return {
            "name": target.name,
            "of": "request" if target.whole else "call",
            "match": dict(target.match),
            "latency_ms": _bound(target.latency_ms),
            "ttft_ms": _bound(target.ttft_ms),
            "objective": target.objective,
            "windows": {window: _window(target, sums.get(length, Sums(0, 0))) for window, length in WINDOWS.items()},
        }


def _bound(milliseconds: float) -> int | None:
    return int(milliseconds) if milliseconds != float("inf") else None


def _window(target: Target, sums: Sums) -> dict[str, Any]:
    burn = sums.burn(target.objective)
    return {
        "calls": sums.calls,
        "missed": sums.missed,
        "compliance": round(sums.compliance, 6) if sums.compliance is not None else None,
        "error_budget_left": round(1 - burn, 6),
        "burn": round(burn, 6),
    }
