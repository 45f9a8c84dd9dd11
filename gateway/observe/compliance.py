"""How well targets were met: five-minute sums of the last eight days, windows over them, and the speed at which an error budget burns.

Quiet: no store, no task, no clock. The windows and factors of alerts are those of the SRE Workbook (Google, 2018), chapter 5,
"Multiwindow, Multi-Burn-Rate Alerts": a long window says that it matters, a short one that it goes on.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence

from gateway.observe.events import Event
from gateway.observe.targets import Pending, Target
from gateway.tallies import BUCKET_S, KEPT_S, Tally, bucket_of
from gateway.value import value

SLOTS = KEPT_S // BUCKET_S
MINUTE, HOUR = 60, 3600
WINDOWS = {"1h": HOUR, "24h": 24 * HOUR, "7d": 7 * 24 * HOUR}
"""Those that are shown, in seconds."""
LEAST_CALLS = 10
"""In the short window: of fewer one miss would be an alarm."""
PLACES = 9
"""As many as an objective can have: 6 misses of 100 are six times 1 - 0.99, and not a little less."""
SEVERITIES = ("warning", "critical")
CALMED_DOWN = "no longer burns its error budget too fast"


@value
class Pair:
    """An alarm while the budget burns ``factor`` times too fast, over both windows (seconds)."""

    factor: float
    long_s: int
    short_s: int
    severity: str
    says: str


PAIRS = (
    Pair(14.4, HOUR, 5 * MINUTE, "critical", "the last hour"),
    Pair(6.0, 6 * HOUR, 30 * MINUTE, "critical", "the last six hours"),
    Pair(3.0, 24 * HOUR, 2 * HOUR, "warning", "the last day"),
)


@value
class Sums:
    """Calls and misses of a target within a window."""

    calls: int
    missed: int

    @property
    def compliance(self) -> float | None:
        """The share that met it; None where there were no calls."""
        return 1 - self.missed / self.calls if self.calls else None

    def burn(self, objective: float) -> float:
        """How many times faster than allowed the error budget is used: at 1 exactly the objective is met."""
        if not self.calls:
            return 0.0
        return round(self.missed / self.calls / round(1 - objective, PLACES), PLACES)


class History:
    """What the store has, by target, in rings of buckets: 37 KB a target."""

    def __init__(self) -> None:
        self._rings: dict[str, tuple[array[int], array[int]]] = {}
        self._newest = 0
        """The newest bucket that has a slot; what it would overwrite is SLOTS older."""

    def put(self, since: int, until: int, tallies: Iterable[Tally]) -> None:
        """What the store says of the buckets from ``since`` to before ``until``, in place of what was known of them."""
        self.advance(until - BUCKET_S)
        oldest = self._newest - (SLOTS - 1) * BUCKET_S
        for bucket in range(max(since, oldest), until, BUCKET_S):
            slot = bucket // BUCKET_S % SLOTS
            for calls, missed in self._rings.values():
                calls[slot] = missed[slot] = 0
        for tally in tallies:
            if oldest <= tally.bucket < until:
                calls, missed = self._ring(tally.target)
                slot = tally.bucket // BUCKET_S % SLOTS
                calls[slot], missed[slot] = tally.calls, tally.missed

    def advance(self, bucket: int) -> None:
        """Time goes on: slots of eight days ago are emptied."""
        steps = min((bucket - self._newest) // BUCKET_S, SLOTS)
        for ahead in range(steps):
            slot = (bucket // BUCKET_S - ahead) % SLOTS
            for calls, missed in self._rings.values():
                calls[slot] = missed[slot] = 0
        self._newest = max(self._newest, bucket)

    def keep(self, names: Iterable[str]) -> None:
        """Forget all other targets."""
        kept = set(names)
        self._rings = {name: ring for name, ring in self._rings.items() if name in kept}

    def sums(self, target: str, now: float, window_s: int, pending: Pending | None = None) -> Sums:
        """Of the window that ends now and begins with the bucket that ``window_s`` ago lies in; with what waits for the store."""
        first, last = bucket_of(now - window_s), bucket_of(now)
        found_calls = found_missed = 0
        if target in self._rings:
            calls, missed = self._rings[target]
            for begin, end in _slices(max(first, self._newest - (SLOTS - 1) * BUCKET_S), min(last, self._newest)):
                found_calls += sum(calls[begin:end])
                found_missed += sum(missed[begin:end])
        for bucket, (more_calls, more_missed) in (
            pending.counts.get(target, {}) if pending is not None else {}
        ).items():
            if first <= bucket <= last:
                found_calls += more_calls
                found_missed += more_missed
        return Sums(found_calls, found_missed)

    def _ring(self, target: str) -> tuple[array[int], array[int]]:
        if target not in self._rings:
            self._rings[target] = (array("q", bytes(8 * SLOTS)), array("q", bytes(8 * SLOTS)))
        return self._rings[target]


def _slices(first: int, last: int) -> Sequence[tuple[int, int]]:
    """The slots from one bucket to another, both with: one piece, or two around the end of the ring."""
    if first > last:
        return ()
    begin, end = first // BUCKET_S % SLOTS, last // BUCKET_S % SLOTS + 1
    return ((begin, end),) if begin < end else ((begin, SLOTS), (0, end))


class Alarms:
    """Which targets burn their error budget too fast. An alarm that grows worse is told again, one that calms down when it is over."""

    def __init__(self) -> None:
        self._firing: dict[str, str] = {}

    def look(self, target: Target, sums: Mapping[int, Sums]) -> Event | None:
        """What is to be told of a target whose ``sums`` by seconds of window are these."""
        found = next((pair for pair in PAIRS if _holds(pair, target, sums)), None)
        before = self._firing.get(target.name)
        if found is None:
            return self.end(target.name, CALMED_DOWN, sums[HOUR].compliance) if before is not None else None
        if before is not None and SEVERITIES.index(found.severity) <= SEVERITIES.index(before):
            return None
        self._firing[target.name] = found.severity
        return _firing(found, target, sums[found.long_s])

    def end(self, name: str, why: str, compliance: float | None = None) -> Event | None:
        """An alarm is over; ``why`` says what is true of the target now. None where there is no alarm."""
        severity = self._firing.pop(name, None)
        if severity is None:
            return None
        facts = (("target", name), *((("compliance", _decimal(compliance)),) if compliance is not None else ()))
        return Event("target", f"target/{name}", "resolved", severity, f"target {name} {why}", facts)

    @property
    def names(self) -> Sequence[str]:
        """The targets that alarms are about."""
        return tuple(self._firing)


def _holds(pair: Pair, target: Target, sums: Mapping[int, Sums]) -> bool:
    short, long = sums[pair.short_s], sums[pair.long_s]
    if short.calls < LEAST_CALLS:
        return False
    return min(short.burn(target.objective), long.burn(target.objective)) >= pair.factor


def _firing(pair: Pair, target: Target, sums: Sums) -> Event:
    burn, compliance = sums.burn(target.objective), sums.compliance or 0.0
    return Event(
        "target",
        f"target/{target.name}",
        "firing",
        pair.severity,
        f"target {target.name} burns its error budget {burn:.1f} times too fast: of the calls of {pair.says}"
        f" {compliance * 100:.2f} % met it, {target.objective * 100:g} % must",
        (
            ("target", target.name),
            ("burn", f"{burn:.2f}"),
            ("objective", f"{target.objective:g}"),
            ("compliance", _decimal(compliance)),
        ),
    )


def _decimal(share: float) -> str:
    return f"{share:.6f}"
