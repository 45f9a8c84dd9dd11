"""The last minute of every upstream, and whether it works: told by the calls themselves, nothing is ever sent to find out.

A minute is kept in one bucket a second, at most sixty for each upstream that the config names. A record costs about 2 us.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.call import Record
from gateway.observe import Batch
from gateway.observe.events import Event, Tell
from gateway.observe.names import READ, WRITTEN
from pricing.money import format_usd

WINDOW_S = 60
ENOUGH = 3
"""So many calls that fail one after the other within the window make an upstream a failing one: two may be chance."""
MAX_KINDS = 20
"""Kinds of errors of one second that are told apart: a provider can answer with any status."""
BROKEN = {
    "upstream_timeout": "timeout",
    "upstream_unreachable": "unreachable",
    "upstream_reset": "disconnected",
    "upstream_unreadable": "error",
}
"""What the gateway says of an upstream that gave no whole answer, and the outcome of that attempt."""


def outcome_of(record: Record) -> str:
    """How the last attempt of a call went: ok, error (it answered with 4xx or 5xx, or with no HTTP), timeout, unreachable, or
    disconnected. A client that leaves before anything came is disconnected too: that is how an upstream looks that hangs.
    """
    error = record.error_type
    if error:
        if error in BROKEN:
            return BROKEN[error]
        if error.isdigit():
            return "error"
    return "ok" if record.ttft_ms is not None else "disconnected"


def is_fault(error_type: str) -> bool:
    """Whether it speaks against the upstream: no connection, no answer in time, no whole answer, or a 5xx. What it says to a
    wrong key or to too many requests shows that it works.
    """
    return error_type in BROKEN or (len(error_type) == 3 and error_type.startswith("5"))


@dataclass(slots=True)
class _Second:
    """Sums of the calls that ended in one second."""

    moment: int
    calls: int = 0
    read: int = 0
    written: int = 0
    nanousd: int = 0
    latency_ms: float = 0.0
    answered: int = 0
    ttft_ms: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        self.calls += 1
        self.nanousd += record.cost_nanousd
        self.latency_ms += record.latency_ms
        if record.ttft_ms is not None:
            self.answered += 1
            self.ttft_ms += record.ttft_ms
        for unit, count in record.usage.items():
            if unit in READ:
                self.read += count
            elif unit in WRITTEN:
                self.written += count
        if record.error_type:
            kind = record.error_type if len(self.errors) < MAX_KINDS else "other"
            self.errors[kind] = self.errors.get(kind, 0) + 1


def merged(minutes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several processes say of the same minute, as one would say it."""
    calls, answered = (sum(each[name] for each in minutes) for name in ("calls", "answered"))
    errors: dict[str, int] = {}
    for minute in minutes:
        for kind, count in minute["errors"].items():
            errors[kind] = errors.get(kind, 0) + count
    nanousd = sum(each["cost_nanousd_per_minute"] for each in minutes)
    latency = sum((each["latency_ms"] or 0) * each["calls"] for each in minutes)
    ttft = sum((each["ttft_ms"] or 0) * each["answered"] for each in minutes)
    return {
        **minutes[0],
        "calls": calls,
        "answered": answered,
        "errors": errors,
        **{name: round(sum(each[name] for each in minutes), 3) for name in minutes[0] if name.endswith("_per_s")},
        "cost_nanousd_per_minute": nanousd,
        "cost_usd_per_minute": format_usd(nanousd),
        "latency_ms": round(latency / calls, 3) if calls else None,
        "ttft_ms": round(ttft / answered, 3) if answered else None,
    }


class _Minute:
    """The last seconds in which there were calls."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque(maxlen=WINDOW_S)

    def at(self, moment: int) -> _Second:
        """The bucket of this second."""
        if not self._seconds or self._seconds[-1].moment != moment:
            self._seconds.append(_Second(moment))
        return self._seconds[-1]

    def window(self, moment: int) -> list[_Second]:
        """The seconds of the window that ends now."""
        return [each for each in self._seconds if each.moment > moment - WINDOW_S]


def _rates(seconds: Sequence[_Second], over_s: float) -> dict[str, Any]:
    """What happened in them, per second of ``over_s``; means in milliseconds, None without calls."""
    calls, answered = sum(each.calls for each in seconds), sum(each.answered for each in seconds)
    errors: dict[str, int] = {}
    for each in seconds:
        for kind, count in each.errors.items():
            errors[kind] = errors.get(kind, 0) + count
    nanousd = sum(each.nanousd for each in seconds) * WINDOW_S // max(1, round(over_s))
    return {
        "calls": calls,
        "answered": answered,
        "errors": errors,
        "calls_per_s": round(calls / over_s, 3),
        "errors_per_s": round(sum(errors.values()) / over_s, 3),
        "input_tokens_per_s": round(sum(each.read for each in seconds) / over_s, 3),
        "output_tokens_per_s": round(sum(each.written for each in seconds) / over_s, 3),
        "cost_nanousd_per_minute": nanousd,
        "cost_usd_per_minute": format_usd(nanousd),
        "latency_ms": round(sum(each.latency_ms for each in seconds) / calls, 3) if calls else None,
        "ttft_ms": round(sum(each.ttft_ms for each in seconds) / answered, 3) if answered else None,
    }


class _Upstream:
    """What is known of one. ``faults`` are the moments of the newest calls that failed, without one that came through since."""

    __slots__ = ("failing", "faults", "last_error", "last_error_at", "minute", "seen")

    def __init__(self) -> None:
        self.minute = _Minute()
        self.faults: deque[float] = deque(maxlen=ENOUGH)
        self.failing = False
        self.seen: float | None = None
        self.last_error = ""
        self.last_error_at = ""

    def judge(self, record: Record, now: float) -> bool | None:
        """Take a call into account: True when the upstream begins to fail with it, False when it is over, else None."""
        if is_fault(record.error_type):
            self.seen = now
            self.last_error = record.error_type
            self.last_error_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            self.faults.append(now)
            if not self.failing and len(self.faults) == ENOUGH and now - self.faults[0] < WINDOW_S:
                self.failing = True
                return True
        elif record.ttft_ms is not None:  # a client that left, or a budget, before it answered says nothing of it
            self.seen = now
            self.faults.clear()
            if self.failing:
                self.failing = False
                return False
        return None


class Recent:
    """A sink. ``tell`` gets an event when an upstream begins to fail, and when the first call comes through again."""

    name = "recent"

    def __init__(self, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._began = clock()
        self._upstreams: dict[str, _Upstream] = {}
        self._others = [_Minute()]
        """Of calls that went to no upstream, and of upstreams that are forgotten: a part of what all calls come to."""

    def take(self, batch: Batch) -> None:
        """Count a batch."""
        now = self._clock()
        moment = int(now)
        for record in batch.records:
            if record.corrects or record.told_by:
                continue  # no call that somebody waited for
            if not record.attempts:
                self._others[0].at(moment).add(record)
                continue
            upstream = self._upstreams.get(record.upstream) or self._remember(record.upstream)
            upstream.minute.at(moment).add(record)
            change = upstream.judge(record, now)
            if change is not None:
                self._tell(_fails(record) if change else _works(record.upstream, "answers again"))

    def keep(self, names: Collection[str]) -> None:
        """Forget all but these: the config names no others any more."""
        self._others[1:] = [minute for minute in self._others[1:] if minute.window(int(self._clock()))]
        for name in [name for name in self._upstreams if name not in names]:
            forgotten = self._upstreams.pop(name)
            self._others.append(forgotten.minute)
            if forgotten.failing:
                self._tell(_works(name, "is not in the config any more"))

    def state(self, name: str) -> str:
        """up; failing: its newest calls all failed; unknown: no call has told anything in the last minute."""
        upstream = self._upstreams.get(name)
        if upstream is None or upstream.seen is None or self._clock() - upstream.seen >= WINDOW_S:
            return "unknown"
        return "failing" if upstream.failing else "up"

    def states(self) -> dict[str, str]:
        """The state of every upstream that was called."""
        return {name: self.state(name) for name in self._upstreams}

    def verdicts(self) -> dict[str, bool]:
        """Whether each upstream that was called worked when it was heard of last, however long ago."""
        return {name: not each.failing for name, each in self._upstreams.items() if each.seen is not None}

    def about(self, name: str) -> dict[str, Any]:
        """State, last fault and last minute of an upstream."""
        upstream = self._upstreams.get(name) or _Upstream()
        last = {"kind": upstream.last_error, "at": upstream.last_error_at} if upstream.last_error else None
        return {"state": self.state(name), "last_error": last, "last_minute": self._told(upstream.minute)}

    def last_minute(self) -> dict[str, Any]:
        """Of all calls, those that were refused as well."""
        return self._told(*self._others, *(each.minute for each in self._upstreams.values()))

    def _told(self, *minutes: _Minute) -> dict[str, Any]:
        now = self._clock()
        seconds = [second for minute in minutes for second in minute.window(int(now))]
        return _rates(seconds, min(WINDOW_S, max(1.0, now - self._began)))

    def _remember(self, name: str) -> _Upstream:
        return self._upstreams.setdefault(name, _Upstream())


def _fails(record: Record) -> Event:
    return Event(
        kind="upstream",
        key=f"upstream/{record.upstream}",
        state="firing",
        severity="critical",
        text=f"upstream {record.upstream} fails: its last {ENOUGH} calls got no answer or a 5xx, the newest {record.error_type}",
        facts=(("upstream", record.upstream), ("error", record.error_type)),
    )


def _works(name: str, what: str) -> Event:
    return Event(
        kind="upstream",
        key=f"upstream/{name}",
        state="resolved",
        severity="info",
        text=f"upstream {name} {what}",
        facts=(("upstream", name),),
    )
