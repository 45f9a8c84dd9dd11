"""Targets: what calls promise their users, and a sink that counts how many keep it.

Which calls count is decided by ``verdict`` and explained in docs/targets.md: what a caller did itself is nobody's miss. With ten
targets a call costs 0.3 us where it meets them and 1.1 us where it misses them (measured): what its fields match is worked out once,
and calls that the same targets speak of share their counters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import inf
from typing import Any

from gateway.call import Record
from gateway.observe import Batch
from gateway.tallies import Tally, bucket_of
from gateway.value import value

MAX_KINDS = 10_000
"""Combinations of fields that are remembered: they come from callers."""
MAX_PENDING = 30_000
"""Tallies that wait for a store that is down; beyond that the oldest go."""

GOOD, FAILED, LEFT, NOT_OURS = "good", "failed", "left", "not ours"
OUR_FAULTS = frozenset(("store_unavailable", "shutting_down", "internal_error"))
ASKS_TOO_MUCH = frozenset((408, 429))
"""Of a provider: it did not manage, which is no fault of the request."""
SWITCHED = 101
"""A session over WebSocket lasts as long as its two sides like."""

FIELDS = ("team", "agent", "call_type", "model", "upstream")
"""What targets can look at."""
FieldsOfCall = tuple[str, str, str, str, str]
"""The values of these, in this order."""


@value
class Target:
    """``match`` are patterns by field of the record, all of which must hold. Bounds in milliseconds, ``inf`` = none. ``whole``: of all
    calls of one correlation id together.
    """

    name: str
    match: tuple[tuple[str, str], ...] = ()
    whole: bool = False
    latency_ms: float = inf
    ttft_ms: float = inf
    objective: float = 0.99

    def speaks_of(self, fields: Mapping[str, str]) -> bool:
        """Whether a call with these fields is one of its calls."""
        return all(fnmatchcase(fields[name], pattern) for name, pattern in self.match)


def verdict(outcome: str, status: int, error_type: str) -> str:
    """Whose doing the end of a call was, as GOOD, FAILED, LEFT (its client did not wait for it) or NOT_OURS."""
    if outcome == "completed" and not error_type:
        return GOOD
    if outcome == "lost" or error_type in OUR_FAULTS:
        return FAILED
    if outcome == "client_disconnected":
        return FAILED if status >= 500 else LEFT if status < 400 else NOT_OURS
    if error_type.startswith("upstream_"):
        return FAILED
    if outcome == "upstream_error" and (status >= 500 or status in ASKS_TOO_MUCH):
        return FAILED
    return NOT_OURS


class _Group:
    """Calls that the same targets speak of, and what became of them since the last look: ``good`` met all of their ``targets``,
    ``failed`` missed all of them, the others are counted by target.
    """

    __slots__ = ("bounds", "failed", "good", "latency_ms", "met", "missed", "targets", "ttft_ms")

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self.targets = targets
        self.bounds = [(target.latency_ms, target.ttft_ms) for target in targets]
        self.latency_ms = min((latency_ms for latency_ms, _ in self.bounds), default=inf)
        self.ttft_ms = min((ttft_ms for _, ttft_ms in self.bounds), default=inf)
        self.good = self.failed = 0
        self.met, self.missed = [0] * len(targets), [0] * len(targets)

    def count(self, whose: str, latency_ms: float, ttft_ms: float | None) -> None:
        """A call that did not simply meet all."""
        if whose == FAILED:
            self.failed += 1
            return
        waited_ms = 0.0 if ttft_ms is None else ttft_ms
        for index, (latest_ms, first_ms) in enumerate(self.bounds):
            if latency_ms > latest_ms or waited_ms > first_ms:
                self.missed[index] += 1
            elif whose == GOOD:  # of one whose client left nobody knows what would have become of it
                self.met[index] += 1

    def take(self) -> Iterator[tuple[str, int, int]]:
        """(target, calls, missed) since the last time."""
        for index, target in enumerate(self.targets):
            missed = self.failed + self.missed[index]
            calls = self.good + self.met[index] + missed
            if calls:
                yield target.name, calls, missed
        self.good = self.failed = 0
        self.met, self.missed = [0] * len(self.targets), [0] * len(self.targets)


@dataclass(slots=True)
class Pending:
    """Tallies that the store does not have yet, by target and bucket."""

    counts: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    size: int = 0
    dropped: int = 0
    """Calls that were in those that had to go."""

    def add(self, tally: Tally) -> None:
        """Add to what waits."""
        buckets = self.counts.setdefault(tally.target, {})
        row = buckets.get(tally.bucket)
        if row is None:
            if self.size >= MAX_PENDING:
                self._drop_oldest()
            row = self.counts.setdefault(tally.target, {}).setdefault(tally.bucket, [0, 0])
            self.size += 1
        row[0] += tally.calls
        row[1] += tally.missed

    def take(self, most: int) -> list[Tally]:
        """Some of them, to be handed to the store; ``add`` gives them back."""
        found: list[Tally] = []
        for target in list(self.counts):
            buckets = self.counts[target]
            while buckets and len(found) < most:
                bucket = next(iter(buckets))
                found.append(Tally(bucket, target, *buckets.pop(bucket)))
            if not buckets:
                del self.counts[target]
        self.size -= len(found)
        return found

    def _drop_oldest(self) -> None:
        oldest = min(bucket for buckets in self.counts.values() for bucket in buckets)
        for target in list(self.counts):
            row = self.counts[target].pop(oldest, None)
            if row is not None:
                self.size -= 1
                self.dropped += row[0]
            if not self.counts[target]:
                del self.counts[target]


class TargetSink:
    """Counts calls. ``count`` gets (target, calls, missed) for the metrics, ``follow`` each call whose request may go on."""

    name = "targets"

    def __init__(
        self,
        count: Callable[[str, int, int], None],
        follow: Callable[[Record], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pending = Pending()
        self._count = count
        self._follow = follow
        self._clock = clock
        self._of_calls: tuple[Target, ...] = ()
        self._of_requests: tuple[Target, ...] = ()
        self._kinds: dict[FieldsOfCall, _Group] = {}
        self._alone: dict[FieldsOfCall, _Group] = {}
        """Of calls that are a request of their own."""
        self._groups: dict[tuple[str, ...], _Group] = {}
        """By the names of their targets."""
        self._bucket = 0

    def apply(self, targets: Sequence[Target]) -> None:
        """Count for these from now on."""
        self.roll()
        self._forget()
        self._of_calls = tuple(target for target in targets if not target.whole)
        self._of_requests = tuple(target for target in targets if target.whole)

    def take(self, batch: Batch) -> None:
        """Count a batch."""
        if not self._of_calls and not self._of_requests:
            return
        bucket = bucket_of(self._clock())
        if bucket != self._bucket:
            self.roll()
            self._bucket = bucket
        for record in batch.records:
            self._take(record)

    def _take(self, record: Record) -> None:
        if record.corrects or record.told_by:
            return  # work that no call of ours waited for
        fields = (record.team, record.agent, record.call_type, record.model_requested, record.upstream)
        if record.correlation_id == record.call_id or not self._of_requests:
            group = self._alone.get(fields) or self._remember(
                self._alone, fields, (*self._of_calls, *self._of_requests)
            )
        else:
            group = self._kinds.get(fields) or self._remember(self._kinds, fields, self._of_calls)
            self._follow(record)
        if not group.targets:
            return
        whose = verdict(record.outcome, record.status, record.error_type)
        latency_ms = record.latency_ms if record.status != SWITCHED else 0.0
        ttft_ms = record.ttft_ms
        if whose == GOOD and latency_ms <= group.latency_ms and (ttft_ms is None or ttft_ms <= group.ttft_ms):
            group.good += 1
        elif whose != NOT_OURS:
            group.count(whose, latency_ms, ttft_ms)

    def judge_request(
        self, fields: FieldsOfCall, whose: str, ended_at: float, times: tuple[float, float | None]
    ) -> None:
        """Count a request of several calls; ``times`` are its latency and time to the first byte."""
        if whose != NOT_OURS:
            group = _Group(_matching(self._of_requests, fields))
            group.count(whose, *times)
            self._write_down(group, bucket_of(ended_at))

    @property
    def follows(self) -> bool:
        """Whether a target speaks of requests."""
        return bool(self._of_requests)

    def roll(self) -> None:
        """Write down what was counted since the last time."""
        for group in self._groups.values():
            self._write_down(group, self._bucket)

    def _write_down(self, group: _Group, bucket: int) -> None:
        for name, calls, missed in group.take():
            self.pending.add(Tally(bucket, name, calls, missed))
            self._count(name, calls, missed)

    def _remember(self, kinds: dict[FieldsOfCall, _Group], fields: FieldsOfCall, targets: Sequence[Target]) -> _Group:
        if len(kinds) >= MAX_KINDS:
            self.roll()
            self._forget()
        found = _matching(targets, fields)
        names = tuple(target.name for target in found)
        group = kinds[fields] = self._groups.setdefault(names, _Group(found))
        return group

    def _forget(self) -> None:
        self._kinds.clear()
        self._alone.clear()
        self._groups.clear()


def _matching(targets: Sequence[Target], fields: FieldsOfCall) -> tuple[Target, ...]:
    named = dict(zip(FIELDS, fields, strict=True))
    return tuple(target for target in targets if target.speaks_of(named))


def fields_of(record: Mapping[str, Any]) -> FieldsOfCall:
    """What targets look at, of a record as the store has it."""
    return (
        record["team"],
        record["agent"],
        record["call_type"],
        record["model_requested"],
        record["upstream"],
    )
