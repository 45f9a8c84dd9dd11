"""A call that outgrows its hold: how far is it, when is more asked for, and how much?

Quiet: amounts (nano-dollars) and moments (monotonic nanoseconds) are given. Laws: what is asked for is never below what is held
and never above the most that the call can cost; after every answer the next check point lies ahead of what has been used, so
that a refusal is not followed by another one before something more was used.
"""

from __future__ import annotations

import sys

from pricing.money import FEMTO_PER_NANO

LEAST_TOKENS = 256
"""The smallest slice that is set aside: fewer would only be asked for more often."""
AHEAD_S = 5
"""Otherwise what the stream brings in so many seconds, at its own pace."""
LEAST_PACE_NS = 1_000_000_000
"""A pace is not told from less than a second: an answer that was written beforehand comes all at once, and would ask for all
that it could ever cost."""
BYTES_PER_TOKEN = 4
"""Of UTF-8, guessed while a text is being written; what it costs is counted when it is whole."""
NEVER = sys.maxsize


class Outgrown:
    """How far a call has come with what is held for it. ``look_at`` is the next check point: when so much is used."""

    __slots__ = ("_most", "_since_ns", "_waits", "_written", "held", "look_at")

    def __init__(self, held: int, most: int, used: int, now_ns: int) -> None:
        """``used`` is what the call costs before anything is written; half of the rest is the first check point."""
        self.held = held
        self.look_at = used + max(0, held - used) // 2
        self._most = most
        self._written = 0
        self._since_ns = now_ns
        self._waits = False

    def is_due(self, used: int, *, billed: bool) -> bool:
        """Whether a check point was passed. A bill (``billed``) is one, unless the last answer was no."""
        return used >= self.look_at or (billed and not self._waits)

    def slice(self, written: int, least: int, now_ns: int) -> int:
        """How much is to be held beyond what is used. ``written`` is the part of it whose pace counts."""
        elapsed_ns = max(LEAST_PACE_NS, now_ns - self._since_ns)
        paced = max(0, written - self._written) * AHEAD_S * 1_000_000_000 // elapsed_ns
        self._written, self._since_ns = written, now_ns
        return max(least, paced, 1)

    def wish(self, used: int, ahead: int) -> int | None:
        """The total to ask for; None where what is held is enough for this slice, or for all that may come."""
        if self.held >= self._most:
            self.look_at = NEVER
            return None
        if used + ahead <= self.held:
            self.look_at = self.held - ahead // 2
            return None
        return min(used + ahead, self._most)

    def at_most(self, nanousd: int) -> int:
        """The amount, or the most that the call can cost."""
        return min(nanousd, self._most)

    def granted(self, total: int, used: int) -> None:
        """So much is held now; half of what lies ahead is the next check point."""
        self.held = max(self.held, total)
        self._waits = False
        self.look_at = used + max(0, self.held - used) // 2

    def put_off(self, used: int, ahead: int) -> None:
        """Ask again when another slice was used."""
        self.look_at = used + max(1, ahead)
        self._waits = True

    def come_back(self, used: int, least: int) -> None:
        """Ask again soon, and the sooner the less is left: room may come."""
        self.look_at = min(self.held, used + max(1, least // 8, (self.held - used) // 2))
        self._waits = True

    def use_up(self) -> None:
        """No room will come: what is held may still be used."""
        self.look_at = self.held
        self._waits = True

    def is_used_up(self, used: int) -> bool:
        """Whether nothing of what is held is left."""
        return used >= self.held


class Written:
    """What an answer has cost while it is being written: by its text, and by what the provider tells on the way."""

    __slots__ = ("_beyond", "_femto", "_told")

    def __init__(self, input_nanousd: int, output_femto: int) -> None:
        """The likely cost of the input, and of a token of output in femto-dollars."""
        self._told = input_nanousd
        self._beyond = 0
        self._femto = output_femto

    def tell(self, nanousd: int, tokens: int) -> None:
        """The provider says what it used so far, so many tokens of output in it."""
        self._told = nanousd
        self._beyond = tokens

    def used(self, text_bytes: int) -> tuple[int, int]:
        """(nano-dollars used, nano-dollars of it for what was written)."""
        tokens = -(-text_bytes // BYTES_PER_TOKEN)
        more = max(0, tokens - self._beyond)
        return self._told + self.cost(more), self.cost(self._beyond + more)

    def cost(self, tokens: int) -> int:
        """Nano-dollars of so many tokens of output, rounded up."""
        return -(-tokens * self._femto // FEMTO_PER_NANO)

    def bytes_until(self, nanousd: int) -> int:
        """At how many bytes of text so much is used."""
        if not self._femto:
            return NEVER
        return max(0, (nanousd - self._told) * FEMTO_PER_NANO // self._femto + self._beyond) * BYTES_PER_TOKEN


class Responses:
    """The responses of a session: the next one most likely costs no more than the largest so far."""

    __slots__ = ("_before", "billed", "largest")

    def __init__(self, least: int) -> None:
        self.largest = least
        self.billed = False
        """A response was billed since somebody set this to False."""
        self._before = 0

    def note(self, used: int, *, finished: bool) -> None:
        """What the session has cost so far, and whether that is the bill of responses that are whole."""
        self.largest = max(self.largest, used - self._before)
        if finished and used > self._before:
            self._before = used
            self.billed = True
