"""Several keys of a provider for one upstream: whose turn it is, and which are set aside because the provider said no.

Turns are taken by smooth weighted round robin (as nginx does it): in every round of as many calls as all weights together, each
key has as many as its weight, spread over the round. What an answer says of its key counts for the calls after it; the call
itself is not sent again. Law: there is always a key. Where all are set aside, the one whose time is up first is used, because
whether a call is refused is the provider's to say.

A 401 sets a key aside at once; a 403 may be about one model or one prompt, so that it takes three in a row; a 429 does for as long
as the provider says, and doubling from a second where it does not. Costs 0.3 us a call with two keys, 0.8 with ten.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from gateway.value import value
from gateway.wire.headers import first

if TYPE_CHECKING:
    from gateway.call import Headers

REJECTED_S = 300.0
"""How long a key stays aside that the provider does not take."""
LONGEST_S = 300.0
"""However long a provider asks to wait: after that one call finds out whether it is still so."""
FIRST_S = 1.0
"""After a 429 that does not say how long; twice as long after each one that follows it."""
FORBIDDEN_IN_A_ROW = 3
REJECTED, RATE_LIMITED = "rejected", "rate_limited"
UNAUTHORIZED, FORBIDDEN, TOO_MANY = 401, 403, 429
RESETS = ((b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests"), (b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens"))  # fmt: skip
_NUMBER = re.compile(rb"[0-9]{1,12}(?:\.[0-9]{0,9})?")
_DURATION = re.compile(rb"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m(?!s))?(?:([0-9]{1,6}(?:\.[0-9]{1,9})?)s)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)ms)?")  # fmt: skip
_SECONDS = (86_400.0, 3600.0, 60.0, 1.0, 0.001)


@value
class Credential:
    """One key: what it is called, the header field that carries it, and its share of the calls."""

    name: str
    header: tuple[bytes, bytes] = field(repr=False)
    weight: int = 1


@value
class SetAside:
    """What became of a key: ``reason`` is ``rejected`` or ``rate_limited``."""

    key: str
    reason: str
    status: int
    seconds: float


@dataclass(slots=True)
class Standing:
    """What the provider has lately said of a key. It outlives a reload that leaves the key as it is."""

    until: float = 0.0
    """On the ring's clock; 0 = it takes its turns."""
    reason: str = ""
    in_a_row: int = 0
    """Refusals of that kind since the last call that went through."""


@dataclass(slots=True)
class Turn:
    """A key in its ring."""

    key: Credential
    standing: Standing
    current: int = 0
    """As in nginx: grows by the weight with each call, and falls by the sum of all weights with each that it gets."""


class Keyring:
    """The keys of one upstream. Not for several threads."""

    __slots__ = ("clock", "turns")
    turns: list[Turn]

    def __init__(
        self,
        keys: Sequence[Credential],
        before: Keyring | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At least one key. ``before`` is the ring of the config before: what it knows of the same keys stays known."""
        self.clock: Callable[[], float] = before.clock if before is not None else clock
        known = {turn.key.header: turn.standing for turn in before.turns} if before is not None else {}
        self.turns = [Turn(key, known.get(key.header) or Standing()) for key in keys]

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(turn.key.name for turn in self.turns)}>"

    def take(self, *, leading: bool = False) -> Turn:
        """The key of the next call. ``leading``: the first of the list, whatever its standing, for what lives in one account."""
        if leading:
            return self.turns[0]
        best: Turn | None = None
        weights, came_back = 0, False
        for turn in self.turns:
            if turn.standing.until:
                if turn.standing.until > self.clock():
                    continue
                turn.standing.until, came_back = 0.0, True
            weight = turn.key.weight
            weights += weight
            turn.current += weight
            if best is None or turn.current > best.current:
                best = turn
        if came_back:
            self._begin_round()
            return self.take()
        if best is None:
            return min(self.turns, key=lambda turn: turn.standing.until)
        best.current -= weights
        return best

    def answered(self, turn: Turn, status: int, headers: Headers, *, leading: bool = False) -> SetAside | None:
        """Learn from an answer (status 0: there was none). What it says, if it sets the key aside. A ``leading`` call may be of
        a kind that the key has no right to, or that has a limit of its own: that says less of the others.
        """
        standing = turn.standing
        if status not in (UNAUTHORIZED, FORBIDDEN, TOO_MANY):
            if standing.in_a_row and 200 <= status < 500:
                standing.in_a_row = 0
            return None
        if leading and status == TOO_MANY:
            return None
        now = self.clock()
        reason = RATE_LIMITED if status == TOO_MANY else REJECTED
        asked_s = wait_s(headers, time.time()) if status == TOO_MANY else None
        if standing.until > now:  # calls that were on their way together say it once
            if asked_s is not None and standing.reason == RATE_LIMITED:
                standing.until = max(standing.until, now + asked_s)
            elif status == UNAUTHORIZED and not leading and standing.reason == RATE_LIMITED:
                standing.reason, standing.until = reason, now + REJECTED_S
            return None
        standing.in_a_row = standing.in_a_row + 1 if standing.reason == reason else 1
        standing.reason = reason
        if reason == REJECTED and (status == FORBIDDEN or leading) and standing.in_a_row < FORBIDDEN_IN_A_ROW:
            return None
        seconds = REJECTED_S if reason == REJECTED else _pause_s(asked_s, standing.in_a_row)
        standing.until = now + seconds
        self._begin_round()
        return SetAside(turn.key.name, reason, status, seconds)

    def told(self) -> list[tuple[str, int, str, float]]:
        """Of each key: name, weight, state (``ready`` or why it is set aside), and for how many seconds more."""
        now = self.clock()
        return [
            (turn.key.name, turn.key.weight, turn.standing.reason, turn.standing.until - now)
            if turn.standing.until > now
            else (turn.key.name, turn.key.weight, "ready", 0.0)
            for turn in self.turns
        ]

    def _begin_round(self) -> None:
        """The keys that take turns are others than before."""
        for turn in self.turns:
            turn.current = 0


def _pause_s(asked_s: float | None, in_a_row: int) -> float:
    return asked_s if asked_s is not None else min(FIRST_S * 2.0 ** min(in_a_row - 1, 16), LONGEST_S)


def wait_s(headers: Headers, now: float) -> float | None:
    """For how long a 429 asks to be left alone, at most ``LONGEST_S``; None where it does not say. ``now`` in Unix seconds.

    In the order in which the official SDKs read it: ``retry-after-ms``, ``retry-after`` (seconds, fractions allowed, or an HTTP
    date); then OpenAI's ``x-ratelimit-reset-*`` of the limits of which nothing remains (durations such as 6m0s).
    """
    found = 0.0
    told_ms, told = first(headers, b"retry-after-ms"), first(headers, b"retry-after")
    if told_ms is not None and _NUMBER.fullmatch(told_ms.strip()):
        found = float(told_ms) / 1000
    if not found and told is not None:
        found = float(told) if _NUMBER.fullmatch(told.strip()) else _until_date(told, now)
    if not found:
        for remaining, reset in RESETS:
            if (first(headers, remaining) or b"").strip() == b"0":
                found = max(found, _duration(first(headers, reset) or b""))
    return min(found, LONGEST_S) if found > 0 else None


def _until_date(text: bytes, now: float) -> float:
    try:
        return parsedate_to_datetime(text.decode("latin-1")).timestamp() - now
    except (ValueError, OverflowError, OSError):
        return 0.0


def _duration(text: bytes) -> float:
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return 0.0
    return sum(float(part) * length for part, length in zip(match.groups(), _SECONDS, strict=True) if part)
