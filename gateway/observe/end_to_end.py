"""Requests of several calls, from the first one's head to the last one's end: agent runs, workflows.

Calls of one request may pass through several processes, and nobody says which is the last. So a request is over when none of its calls
has been seen for ``QUIET_S``; who saw the newest one then reads all of them from the store and judges. Knows no store: records
are asked for through a callable.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.call import Record
from gateway.observe.targets import SWITCHED, TargetSink, fields_of, verdict
from gateway.value import value

QUIET_S = 60.0
MAX_OPEN = 10_000
"""Requests that are followed at a time; beyond that the one that was quiet for longest is judged early."""
PAGE_CALLS = 100
MAX_PAGES = 100

Records = list[dict[str, Any]]
Recent = Callable[[int, str, str], Awaitable[Records]]
"""(limit, before, correlation_id) -> records, newest first, as the store has it."""


@value
class _Newest:
    """Of the calls of a request that this process saw, the one that ended last; and when one was last seen (monotonic)."""

    ended_at: float
    call_id: str
    seen: float


class Requests:
    """Follows requests from ``see`` on; ``judge`` counts those that are over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, _Newest] = {}
        """In the order in which they were last seen."""
        self._over: deque[tuple[str, _Newest]] = deque(maxlen=MAX_OPEN)

    def __len__(self) -> int:
        return len(self._open) + len(self._over)

    def see(self, record: Record) -> None:
        """A call of a request has ended."""
        try:
            ended_at = _ended_at(record.started_at, record.latency_ms)
        except ValueError:
            return  # nobody knows when that was
        newest = _Newest(ended_at, record.call_id, self._clock())
        before = self._open.pop(record.correlation_id, None)
        if before is not None and (before.ended_at, before.call_id) > (newest.ended_at, newest.call_id):
            newest = _Newest(before.ended_at, before.call_id, newest.seen)
        elif before is None and len(self._open) >= MAX_OPEN:
            oldest = next(iter(self._open))
            self._over.append((oldest, self._open.pop(oldest)))
        self._open[record.correlation_id] = newest

    def forget(self) -> None:
        """Nobody asks any more."""
        self._open.clear()
        self._over.clear()

    async def judge(self, sink: TargetSink, recent: Recent, running: Collection[str]) -> None:
        """Count what is over; ``running`` are correlation ids of calls that are on their way here. Raises what ``recent`` raises:
        then the rest waits for the next time.
        """
        self._close(self._clock() - QUIET_S, running)
        await self._judge_over(sink, recent)

    async def judge_all(self, sink: TargetSink, recent: Recent) -> None:
        """Count all, over or not: this process ends."""
        self._over.extend(self._open.items())
        self._open.clear()
        await self._judge_over(sink, recent)

    async def _judge_over(self, sink: TargetSink, recent: Recent) -> None:
        while self._over:
            correlation_id, newest = self._over[0]
            calls = last_stretch(await _all_of(recent, correlation_id))
            if self._over and self._over[0][1] is newest:
                self._over.popleft()
            if calls and _newest_of(calls)["call_id"] == newest.call_id:  # else whoever saw a later one counts it
                count_request(sink, calls)

    def _close(self, before: float, running: Collection[str]) -> None:
        while self._open:
            correlation_id, newest = next(iter(self._open.items()))
            if newest.seen > before:
                return
            del self._open[correlation_id]
            if correlation_id in running:
                self._open[correlation_id] = _Newest(newest.ended_at, newest.call_id, self._clock())
            else:
                self._over.append((correlation_id, newest))


def last_stretch(records: Sequence[Mapping[str, Any]]) -> Records:
    """The calls after the last silence of ``QUIET_S``, by their start: those before it were a request of their own, which has been
    judged. An id may stand for a conversation.
    """
    calls: Records = []
    end = 0.0
    for record in sorted(records, key=lambda each: (each["started_at"], each["call_id"])):
        if record["corrects"] or record["told_by"]:
            continue
        if calls and _start_of(record) - end > QUIET_S:
            calls = []
        end = max(end, _end_of(record)) if calls else _end_of(record)
        calls.append(dict(record))
    return calls


def count_request(sink: TargetSink, calls: Sequence[Mapping[str, Any]]) -> None:
    """Judge calls, in the order of their start. The call that ended last says how it went: what failed before was tried again."""
    last = _newest_of(calls)
    began, ended = _start_of(calls[0]), max(map(_end_of, calls))
    whose = verdict(last["outcome"], last["status"], last["error_type"])
    firsts = [_start_of(call) + call["ttft_ms"] / 1000 for call in calls if call["ttft_ms"] is not None]
    is_session = any(call["status"] == SWITCHED for call in calls)
    latency_ms = round((ended - began) * 1000, 3) if not is_session else 0.0
    ttft_ms = round((min(firsts) - began) * 1000, 3) if firsts else None
    sink.judge_request(fields_of(calls[0]), whose, ended, (latency_ms, ttft_ms))


async def _all_of(recent: Recent, correlation_id: str) -> Records:
    found = page = await recent(PAGE_CALLS, "", correlation_id)
    for _ in range(MAX_PAGES):
        if len(page) < PAGE_CALLS:
            break
        page = await recent(PAGE_CALLS, page[-1]["call_id"], correlation_id)
        found = found + page
    return found


def _newest_of(calls: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return max(calls, key=lambda call: (_end_of(call), call["call_id"]))


def _start_of(record: Mapping[str, Any]) -> float:
    return _ended_at(record["started_at"], 0.0)


def _end_of(record: Mapping[str, Any]) -> float:
    return _ended_at(record["started_at"], record["latency_ms"])


def _ended_at(started_at: str, latency_ms: float) -> float:
    """Unix seconds; the clocks are those of the processes that took the calls."""
    return datetime.fromisoformat(started_at).timestamp() + latency_ms / 1000
