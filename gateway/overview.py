"""Spend by one dimension over the running hour, day, week or month, beside the same span of the one before.

An answer is what was last added up, and says when that was (``as_of``); asking begins the next adding up, beside the calls, so that
an answer takes milliseconds and nothing is done while nobody asks. Only the first answer of a period and dimension is waited for.
All in whole hours (hour, day) or days (week, month) of UTC: the running one is counted as far as it has come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.errors import Failure, Kind, Whose
from gateway.store import SPEND_COUNTS, Store
from gateway.store.digest import COST, Counts, Digest
from gateway.value import value
from pricing.money import format_usd

log = logging.getLogger("gateway.overview")

PERIODS = ("hour", "day", "week", "month")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FRESH_S = 2.0
"""What was added up so shortly before is not added up again."""
REST = 19
"""Adding up takes at most one part in so many and one of the time: it must not keep a core busy."""
MAX_KEPT = 16
"""Combinations of period and dimension that are kept."""
SERIES = ("calls", "failed", "refused", "cost_nanousd")


@value
class Span:
    """A period that runs, up to the end of its running hour or day, and as much of the one before."""

    since: datetime
    until: datetime
    before_since: datetime
    before_until: datetime
    step: timedelta

    @property
    def units(self) -> list[str]:
        """Hours and days of which it consists; the running day as hours, of which only the last one still changes."""
        return _units(self.since, self.until, self.step, self.until - DAY if self.step == DAY else self.since)

    @property
    def units_before(self) -> list[str]:
        """The same of the one before."""
        return _units(self.before_since, self.before_until, self.step, self.before_until)

    @property
    def moments(self) -> list[datetime]:
        """When each hour or day of it begins."""
        return [self.since + at * self.step for at in range((self.until - self.since) // self.step)]


def span_of(period: str, now: datetime) -> Span:
    """The running period (UTC; weeks from Monday)."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    if period == "hour":
        return _span(hour, hour + HOUR, hour - HOUR, HOUR)
    if period == "day":
        return _span(day, hour + HOUR, day - DAY, HOUR)
    if period == "week":
        monday = day - day.weekday() * DAY
        return _span(monday, day + DAY, monday - 7 * DAY, DAY)
    first = day.replace(day=1)
    return _span(first, day + DAY, (first - DAY).replace(day=1), DAY)


def _span(since: datetime, until: datetime, before: datetime, step: timedelta) -> Span:
    return Span(since, until, before, min(before + (until - since), since), step)


def _units(since: datetime, until: datetime, step: timedelta, hours_from: datetime) -> list[str]:
    found, at = [], since
    while at < until:
        if step == DAY and at >= hours_from:
            found += [f"{(at + hour * HOUR):%Y-%m-%dT%H}" for hour in range(24)]
        else:
            found.append(f"{at:%Y-%m-%dT%H}" if step == HOUR else f"{at:%Y-%m-%d}")
        at += step
    return found


@dataclass(slots=True)
class _Kept:
    """What was added up last."""

    span: Span
    digest: Digest
    as_of: datetime
    next_at: float
    """On the monotonic clock: when it may be added up again."""


class Overviews:
    """Answers about spend."""

    def __init__(self, store: Store, dimensions: Sequence[str], clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._dimensions = tuple(dimensions)
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._running: dict[tuple[str, str], asyncio.Task[_Kept]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="overview")

    async def close(self) -> None:
        """Stop adding up."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def answer(self, period: str, by: str, limit: int, search: str) -> dict[str, Any]:
        """See the module. ``by`` "" is the usual dimension. Failure for what cannot be asked, or while there is nothing to tell."""
        kept = await self._latest(period, self._dimension(period, by))
        asked = asyncio.get_running_loop().run_in_executor(self._thread, kept.digest.top, limit, search)
        top = await asked
        shown = [sum(column) for column in zip(*(counts for _, counts, _ in top.rows), strict=True)] or [0] * len(
            SPEND_COUNTS
        )
        beyond = top.values - len(top.rows)
        others = [found - part for found, part in zip(top.found, shown, strict=True)]
        span = kept.span
        return {
            "as_of": _rfc3339(kept.as_of, "milliseconds"),
            "period": period,
            "since": _rfc3339(span.since),
            "until": _rfc3339(span.until),
            "previous_since": _rfc3339(span.before_since),
            "previous_until": _rfc3339(span.before_until),
            "by": self._dimension(period, by),
            "totals": _counts(kept.digest.totals),
            "previous": _counts(kept.digest.before),
            "rows": [
                {
                    "value": name,
                    **_counts(counts),
                    "previous_cost_nanousd": before[COST],
                    "previous_cost_usd": format_usd(before[COST]),
                    "previous_calls": before[0],
                }
                for name, counts, before in top.rows
            ],
            "others": {"values": beyond, **_counts(others)} if beyond else None,
            "series": _series(span, kept.digest),
            "dimensions": list(self._dimensions),
        }

    def _dimension(self, period: str, by: str) -> str:
        if period not in PERIODS:
            raise _cannot(f"The period must be one of {', '.join(PERIODS)}.")
        if by and by not in self._dimensions:
            known = ", ".join(self._dimensions) or "nothing"
            raise _cannot(f"Spend is told apart by {known}; spend.by in the config declares what else, from then on.")
        return by or ("team" if "team" in self._dimensions else next(iter(self._dimensions), ""))

    async def _latest(self, period: str, by: str) -> _Kept:
        key = (period, by)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        if (kept is None or time.monotonic() >= kept.next_at) and key not in self._running:
            self._running[key] = task = asyncio.create_task(self._add_up(period, by), name="overview")
            task.add_done_callback(lambda task: self._added_up(key, task))
        return kept if kept is not None else await asyncio.shield(self._running[key])

    async def _add_up(self, period: str, by: str) -> _Kept:
        began, now = time.monotonic(), datetime.fromtimestamp(self._clock(), UTC)
        span = span_of(period, now)
        digest = await self._store.digest(by, span.units, span.units_before)
        ended = time.monotonic()
        return _Kept(span, digest, now, ended + max(FRESH_S, REST * (ended - began)))

    def _added_up(self, key: tuple[str, str], task: asyncio.Task[_Kept]) -> None:
        del self._running[key]
        if task.cancelled():
            return
        fault = task.exception()
        if fault is None:
            self._kept[key] = task.result()
            self._kept.move_to_end(key)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        elif isinstance(fault, Failure):
            log.debug("spend cannot be added up: %s", fault.message)
        else:
            log.error("a bug while adding up spend", exc_info=fault)


def _series(span: Span, digest: Digest) -> list[dict[str, Any]]:
    size = len("2026-11-21T05") if span.step == HOUR else len("2026-11-21")
    sums: dict[str, list[int]] = {}
    for unit, counts in digest.series.items():
        row = sums.setdefault(unit[:size], [0] * len(SPEND_COUNTS))
        for at, count in enumerate(counts):
            row[at] += count
    found = []
    for moment in span.moments:
        summed = sums.get(f"{moment:%Y-%m-%dT%H}"[:size], [0] * len(SPEND_COUNTS))
        told: dict[str, Any] = {name: summed[SPEND_COUNTS.index(name)] for name in SERIES}
        found.append({"at": _rfc3339(moment), **told, "cost_usd": format_usd(told["cost_nanousd"])})
    return found


def _counts(counts: Counts | Sequence[int]) -> dict[str, Any]:
    return {**dict(zip(SPEND_COUNTS, counts, strict=True)), "cost_usd": format_usd(counts[COST])}


def _rfc3339(moment: datetime, precision: str = "seconds") -> str:
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def _cannot(message: str) -> Failure:
    return Failure(Kind.MALFORMED_REQUEST, Whose.FRONT, message)
