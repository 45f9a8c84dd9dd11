"""How fast calls come and how long they take: a sink that counts into buckets of time and of milliseconds.

Owns the last minute by the second, and the last five minutes and hour by model, upstream and call type. Durations are counted in 16
buckets an octave, so that a percentile is right to 2.2 % whatever came; nothing here grows with the number of calls. A record costs
about 2 us (measured), what is asked for is put together when it is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import exp2, log2
from typing import Any

from gateway.call import Record
from gateway.observe import Batch
from gateway.observe.series import OTHER

BY = ("model", "upstream", "call_type")
"""What durations are told apart by."""
WINDOWS: Mapping[str, tuple[int, int]] = {"5m": (30, 10), "1h": (300, 12)}
"""Window -> (seconds of a slot, slots). A call is counted in a slot of the shorter one, which goes into the longer one's as a whole."""
MAX_VALUES = 100
"""Combinations of them in one slot: callers name them; of what comes beyond model and call type count as ``other``."""
NOW_S = 60
RATE_S = 10
"""Over so many seconds calls a second are counted."""
AN_OCTAVE = 16
SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
SWITCHED = 101
"""A session over WebSocket lasts as long as its two sides like."""
COUNTED = ("nanousd", "errors", "refused", "estimated", "unpriced")
Buckets = dict[int, int]
Minute = dict[str, Any]
"""Sums of the calls of one process, and buckets of their durations."""
Names = tuple[str, ...]
"""Of a call, in the order of ``BY``."""


def bucket_of(milliseconds: float) -> int:
    """The bucket that a duration is counted in."""
    return int(AN_OCTAVE * log2(milliseconds)) if milliseconds > 1 else 0


def percentiles(buckets: Mapping[int, int]) -> dict[str, float] | None:
    """The middle of the buckets in which they lie, in milliseconds; None of nothing."""
    count = sum(buckets.values())
    if not count:
        return None
    found, seen, order = {}, 0, iter(sorted(buckets))
    place = 0
    for name, share in SHARES.items():
        while seen < share * count:
            place = next(order)
            seen += buckets[place]
        found[name] = round(exp2((place + 0.5) / AN_OCTAVE), 1)
    return found


def _add(sums: Buckets, more: Mapping[int, int]) -> None:
    for bucket, count in more.items():
        sums[bucket] = sums.get(bucket, 0) + count


class Durations:
    """How long calls took, and until their first byte."""

    __slots__ = ("latency", "ttft")

    def __init__(self) -> None:
        self.latency: Buckets = {}
        self.ttft: Buckets = {}

    def count(self, latency: int, ttft: int | None) -> None:
        """One call, by its buckets."""
        self.latency[latency] = self.latency.get(latency, 0) + 1
        if ttft is not None:
            self.ttft[ttft] = self.ttft.get(ttft, 0) + 1

    def add(self, other: Durations) -> None:
        """Another one's calls too."""
        _add(self.latency, other.latency)
        _add(self.ttft, other.ttft)

    def pairs(self) -> dict[str, list[tuple[int, int]]]:
        """Buckets and counts, as JSON takes them."""
        return {"latency": list(self.latency.items()), "ttft": list(self.ttft.items())}

    def add_pairs(self, pairs: Mapping[str, Any]) -> None:
        """As ``add``."""
        _add(self.latency, dict(pairs["latency"]))
        _add(self.ttft, dict(pairs["ttft"]))

    def told(self, name: str | None) -> dict[str, Any]:
        """One row of an answer."""
        calls = sum(self.latency.values())
        return {
            "value": name,
            "calls": calls,
            "latency_ms": percentiles(self.latency),
            "ttft_ms": percentiles(self.ttft),
        }


class _Slot:
    """The durations of some seconds, by each combination of ``BY``."""

    __slots__ = ("moment", "of")

    def __init__(self, moment: int) -> None:
        self.moment = moment
        self.of: dict[Names, Durations] = {}

    def row(self, names: Names) -> Durations:
        """Where calls of these names are counted."""
        found = self.of.get(names)
        if found is None:
            kept = names if len(self.of) < MAX_VALUES else (OTHER, names[1], OTHER)
            found = self.of.setdefault(kept, Durations())
        return found

    def add(self, other: _Slot) -> None:
        """Another one's calls too."""
        for names, durations in other.of.items():
            self.row(names).add(durations)


class _Second:
    """Counts of the calls that ended in one second."""

    __slots__ = ("calls", "durations", "errors", "estimated", "moment", "nanousd", "refused", "unpriced")

    def __init__(self, moment: int) -> None:
        self.moment = moment
        self.calls = self.errors = self.refused = self.estimated = self.unpriced = self.nanousd = 0
        self.durations = Durations()

    def count(self, record: Record) -> None:
        self.calls += 1
        self.nanousd += record.cost_nanousd
        self.estimated += record.usage_source == "estimated"
        self.unpriced += record.unpriced
        if record.outcome == "refused":
            self.refused += 1
        elif record.error_type:
            self.errors += 1


class Pace:
    """A sink. ``clock`` gives monotonic seconds."""

    name = "pace"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._seconds: deque[_Second] = deque(maxlen=NOW_S)
        self._short, self._long = (deque[_Slot](maxlen=slots) for _, slots in WINDOWS.values())

    def take(self, batch: Batch) -> None:
        """Count a batch."""
        now = int(self._clock())
        if not self._seconds or self._seconds[-1].moment != now:
            self._seconds.append(_Second(now))
        second = self._seconds[-1]
        slot = self._slot(now)
        for record in batch.records:
            if record.corrects or record.told_by:
                continue  # no call that somebody waited for
            second.count(record)
            if not record.attempts or record.status == SWITCHED:
                continue
            latency = bucket_of(record.latency_ms)
            ttft = bucket_of(record.ttft_ms) if record.ttft_ms is not None else None
            second.durations.count(latency, ttft)
            names = (record.model_served or record.model_requested, record.upstream, record.call_type)
            slot.row(names).count(latency, ttft)

    def _slot(self, now: int) -> _Slot:
        """The one of this moment. The one before goes into the longer window when it is over."""
        (length, _), (longer, _) = WINDOWS.values()
        short, long, moment = self._short, self._long, now // length
        if not short or short[-1].moment != moment:
            if short:
                over = short[-1].moment * length // longer
                if not long or long[-1].moment != over:
                    long.append(_Slot(over))
                long[-1].add(short[-1])
            short.append(_Slot(moment))
        return short[-1]

    def minute(self) -> Minute:
        """The last minute, to be told alone or with those of other processes. Some 0.1 ms."""
        now = self._clock()
        seconds = [each for each in self._seconds if each.moment > int(now) - NOW_S]
        durations = Durations()
        for each in seconds:
            durations.add(each.durations)
        lately = sum(each.calls for each in seconds if each.moment >= int(now) - RATE_S)
        return {
            "calls": sum(each.calls for each in seconds),
            "calls_per_s": lately / min(RATE_S, max(1.0, now - self._began)),
            **{name: sum(getattr(each, name) for each in seconds) for name in COUNTED},
            **durations.pairs(),
        }

    async def durations(self, window: str, by: str) -> dict[str, Any]:
        """Durations in the last window, by value: for ``told_durations``. Calls go on between two slots."""
        place = BY.index(by)
        sums: dict[str, Durations] = {}
        for slot in self._within(window):
            for names, durations in list(slot.of.items()):
                sums.setdefault(names[place], Durations()).add(durations)
            await asyncio.sleep(0)
        return {name: durations.pairs() for name, durations in sums.items()}

    def _within(self, window: str) -> list[_Slot]:
        """The slots of a window: of the longer one those that are whole, and the short one that is not in them yet."""
        length, slots = WINDOWS[window]
        oldest = int(self._clock()) // length - slots
        if window == "5m":
            return [slot for slot in self._short if slot.moment > oldest]
        whole = [slot for slot in self._long if slot.moment > oldest]
        shorter, _ = WINDOWS["5m"]
        return whole + [slot for slot in list(self._short)[-1:] if slot.moment * shorter // length > oldest]


def told_minute(minutes: Sequence[Minute]) -> dict[str, Any]:
    """Calls a second (over ten), the rest by the minute, over all of them; percentiles None without calls."""
    sums = {name: sum(each[name] for each in minutes) for name in ("calls", "calls_per_s", *COUNTED)}
    durations = Durations()
    for each in minutes:
        durations.add_pairs(each)
    latency, ttft = percentiles(durations.latency) or {}, percentiles(durations.ttft) or {}
    calls = sums["calls"]
    return {
        "calls_per_s": round(sums["calls_per_s"], 3),
        "cost_per_minute_nanousd": sums["nanousd"],
        "ttft_p50_ms": ttft.get("p50"),
        "ttft_p95_ms": ttft.get("p95"),
        "latency_p50_ms": latency.get("p50"),
        "latency_p95_ms": latency.get("p95"),
        "errors_per_minute": sums["errors"],
        "refused_per_minute": sums["refused"],
        "estimated_share": round(sums["estimated"] / calls, 6) if calls else 0.0,
        "unpriced_share": round(sums["unpriced"] / calls, 6) if calls else 0.0,
    }


def told_durations(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Percentiles over all of them, the values with the most calls first."""
    sums: dict[str, Durations] = {}
    everything = Durations()
    for part in parts:
        for name, pairs in part.items():
            sums.setdefault(name, Durations()).add_pairs(pairs)
            everything.add_pairs(pairs)
    rows = sorted((each.told(name) for name, each in sums.items()), key=lambda row: (-row["calls"], row["value"]))
    return {"rows": rows, "all": everything.told(None)}
