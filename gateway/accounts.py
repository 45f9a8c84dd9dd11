"""Accounts, claims and holds: the words in which calls and stores talk about room.

A limit and a budget are the same thing to a call: one scope, counted in one unit. A call makes claims on accounts of money and
uses of limits; the store grants all of them or none. Amounts are integers: nano-dollars for money. Accounts are kept for ever and
must be right; limits (requests and tokens of the last minute, calls in flight) may be forgotten, so they are kept apart.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.value import value


class Account(NamedTuple):
    """One scope in one window: ``team:search`` in ``day:2026-11-20``. Two numbers live under it: spent and held. A tuple, because the
    books look accounts up some twenty times a call, and the hash of a dataclass is computed in Python each time (10 us; 3).
    """

    scope: str
    window: str

    def __str__(self) -> str:
        return f"{self.scope}/{self.window}"


def account_of(text: str) -> Account:
    """The account that was written as ``text``. No window has a slash in its name."""
    scope, _, window = text.rpartition("/")
    return Account(scope, window)


@value
class Claim:
    """So much of one account, asked for by one call.

    ``limit`` is None for an account that only counts (spend is recorded whether or not somebody limits it); ``shadow`` is a
    limit that refuses nothing and is only told of. ``budget`` is the name under which the limit stands in the config,
    ``resets_at`` the end of the window (Unix seconds; 0 = never). ``notify_at`` are percents of the limit whose crossing is
    told once. ``cut``: a call that outgrows its hold and finds no room here is cut. ``lost_estimate``: a call whose process
    dies costs what it had likely used, where all its limits say so. ``grows``: more is set aside here when a running call
    outgrows its hold. ``forgiven``: a reset has added so much, what was spent before it, to the limit of this account; it stands in
    ``limit`` and ``shadow`` already.
    """

    account: Account
    amount_nanousd: int
    limit_nanousd: int | None = None
    budget: str = ""
    window: str = ""
    resets_at: int = 0
    shadow_nanousd: int | None = None
    notify_at: tuple[int, ...] = ()
    cut: bool = False
    lost_estimate: bool = False
    grows: bool = False
    forgiven_nanousd: int = 0

    def of(self, amount_nanousd: int) -> Claim:
        """The same of another amount. ``dataclasses.replace`` takes ten times as long, and a growing stream asks for it again and again."""
        return Claim(
            self.account, amount_nanousd, self.limit_nanousd, self.budget, self.window, self.resets_at, self.shadow_nanousd,
            self.notify_at, self.cut, self.lost_estimate, self.grows, self.forgiven_nanousd,
        )  # fmt: skip

    @property
    def watched_nanousd(self) -> int:
        """The limit, in force or looking on; 0 where there is none."""
        return self.limit_nanousd if self.limit_nanousd is not None else self.shadow_nanousd or 0

    @property
    def stated_nanousd(self) -> int:
        """The same as the operator wrote it, without what was forgiven: what people are told."""
        return max(0, self.watched_nanousd - self.forgiven_nanousd)

    def counted(self, spent_nanousd: int) -> int:
        """What of an account's spend stands against the limit: never less than what was forgiven. That can be more than was spent,
        when a charge is taken back after a reset (a lost call that is settled after all): then the room is the limit as it was
        stated, as everybody is told, and not more.
        """
        forgiven = self.forgiven_nanousd
        return max(forgiven, spent_nanousd)


@value
class Use:
    """So much of one limit, asked for by one call: a request, the tokens that it likely takes, a place among the calls in flight.

    ``unit`` is the key of the config (``UNITS``), ``allowed`` what it says there, ``limit`` the name of the entry.
    """

    scope: str
    unit: str
    amount: int
    allowed: int
    limit: str


REQUESTS, TOKENS, PLACES = UNITS = ("requests_per_minute", "tokens_per_minute", "concurrent")


@value
class Hold:
    """Claims that were granted. The amount stays set aside until it is settled, released, or its lease lapses."""

    call_id: str
    amount_nanousd: int
    claims: tuple[Claim, ...]
    least_left_nanousd: int | None = None
    """What the tightest limit still has beyond this hold when it was granted; None when nothing is limited."""
    would_refuse: tuple[str, ...] = ()
    """Budgets in shadow mode that had no room for it."""


@value
class Balance:
    """What the store knows of one account."""

    account: Account
    spent_nanousd: int
    held_nanousd: int


@value
class Notice:
    """A threshold of a budget that was crossed: told once for each account, budget and percent, whoever crosses it; once more after
    the limit was changed or what was spent forgiven. ``limit`` is as it was stated, ``spent`` without what was forgiven.
    """

    account: Account
    budget: str
    percent: int
    limit_nanousd: int
    spent_nanousd: int
    forgiven_nanousd: int = 0
