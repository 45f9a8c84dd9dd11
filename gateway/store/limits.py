"""How limits are counted: a bucket that leaks for requests and tokens, a number for calls in flight. Arithmetic, no clock of its own.

A bucket holds what was let in and leaks the whole limit in a minute, steadily: so at most the limit is let through at once, and no more
than ``allowed * (1 + minutes)`` in any stretch of time (what providers call a token bucket). It is counted in parts of which
one request or token has 60,000, so that ``allowed`` parts leak in a millisecond: integers, no rounding, and the wait until there is
room is exact. ``redis_books.lua`` says the same in its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from gateway.accounts import PLACES, TOKENS, Use
from gateway.errors import Refusal
from gateway.store.words import NEVER, PLACE_RETRY_MS, limited

PARTS = 60_000
"""Milliseconds of a minute."""
PLACES_KEPT_MS = 7 * 86_400_000
"""A number of calls in flight that nobody has changed for so long is forgotten: so long no call takes."""
MAX_OWN = 4096

Key = tuple[str, str]
"""(scope, unit)."""
Level = tuple[int, int, int]
"""(parts, or calls in flight; as of which Unix millisecond; from when on it says nothing any more)."""


@dataclass(slots=True)
class Levels:
    """How full limits are at one moment; absent means empty. ``changed`` says what to write."""

    now_ms: int
    of: dict[Key, Level] = field(default_factory=dict)
    changed: set[Key] = field(default_factory=set)

    def in_the_way(self, uses: Sequence[Use]) -> Refusal | None:
        """The limit that has no room for the longest time: after it, all of them have."""
        longest, worst, used = 0, None, 0
        for use in uses:
            level = self._level(use)
            if level <= (use.allowed - use.amount) * (1 if use.unit == PLACES else PARTS):
                continue
            wait_ms = wait(use, level)
            if wait_ms > longest:
                longest, worst, used = wait_ms, use, level
        return limited(worst, shown(worst, used), longest) if worst is not None else None

    def take(self, uses: Iterable[Use]) -> None:
        """Count a call that was let in."""
        for use in uses:
            self._set(use, self._level(use) + use.amount * (1 if use.unit == PLACES else PARTS))

    def give_back(self, uses: Iterable[Use], tokens: int | None) -> None:
        """A call is over: its places are free, and of tokens it has used so many. None = nobody knows."""
        for use in uses:
            if use.unit == PLACES:
                self._set(use, max(0, self._level(use) - use.amount))
            elif use.unit == TOKENS and tokens is not None and tokens != use.amount:
                self._set(use, max(0, self._level(use) + (tokens - use.amount) * PARTS))

    def _level(self, use: Use) -> int:
        """A clock that was set back costs nobody more than a moment: nothing leaks, and what is counted is of now."""
        level, at_ms, _ = self.of.get((use.scope, use.unit), (0, 0, 0))
        if use.unit == PLACES:
            return level
        return max(0, level - max(0, self.now_ms - at_ms) * use.allowed)

    def _set(self, use: Use, level: int) -> None:
        key = (use.scope, use.unit)
        lasts_ms = (PLACES_KEPT_MS if level else 0) if use.unit == PLACES else -(-level // use.allowed)
        self.of[key] = (level, self.now_ms, self.now_ms + lasts_ms)
        self.changed.add(key)


def parts(use: Use) -> int:
    """Of one of its unit."""
    return 1 if use.unit == PLACES else PARTS


def shown(use: Use, level: int) -> int:
    """A level in the limit's own unit, rounded up."""
    return -(-level // parts(use))


def wait(use: Use, level: int) -> int:
    """Milliseconds until there is room for this call; 0 = there is, ``NEVER`` = there never will be."""
    if use.amount > use.allowed:
        return NEVER
    over = level + (use.amount - use.allowed) * parts(use)
    if over <= 0:
        return 0
    return PLACE_RETRY_MS if use.unit == PLACES else -(-over // use.allowed)


class OwnLimits:
    """Limits of one process, while the store is away and calls go on within what each keeps for itself: a part of every limit."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._levels: dict[Key, Level] = {}
        self._calls: dict[str, tuple[Use, ...]] = {}

    def take(self, call_id: str, uses: Sequence[Use], processes: int) -> Refusal | None:
        """Let a call in, or not."""
        if call_id in self._calls:
            return None
        own = tuple([replace(use, allowed=max(1, use.allowed // processes)) for use in uses])
        levels = self._now()
        refusal = levels.in_the_way(own)
        if refusal is None and own:
            levels.take(own)
            self._calls[call_id] = own
        return refusal

    def give_back(self, call_id: str, tokens: int | None) -> None:
        """A call is over, whoever let it in."""
        uses = self._calls.pop(call_id, None)
        if uses is not None:
            self._now().give_back(uses, tokens)

    def forget(self) -> None:
        """The store answers again; calls that were let in here end here."""
        self._levels = {key: level for key, level in self._levels.items() if key[1] == PLACES and level[0]}

    def _now(self) -> Levels:
        now_ms = int(self._clock() * 1000)
        if len(self._levels) > MAX_OWN:
            self._levels = {key: level for key, level in self._levels.items() if level[2] > now_ms}
        return Levels(now_ms, self._levels)
