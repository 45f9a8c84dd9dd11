"""One page of the books: the balances, holds and records that a batch touches, and what of them has changed.

Owns the shapes of what stands on a page and the ways to change it; what an operation means is in ``books``, how a page is read
and written in the store's tables. No SQL, no thread, no clock.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.accounts import Claim, Notice, Use
from gateway.store import Spend
from gateway.store.answers import too_large
from gateway.store.limits import Levels
from gateway.tallies import Tally
from gateway.value import value

MAX_BALANCE_NANOUSD = 1 << 62
"""An account past this fails closed: SQLite would go on in floating point at 2^63."""


Key = tuple[str, str]
"""An account as the tables key it: (scope, window). An ``Account`` is one."""


class Part(NamedTuple):
    """One granted claim: so much of one account."""

    account: Key
    amount_nanousd: int
    budget: str


@value
class Granted:
    """A hold as the books keep it. ``amount`` is what it costs if it lapses; ``owner`` is the process that answers for it,
    ``granted_at`` Unix seconds. ``uses`` are those that end with it, or are corrected then.
    """

    call_id: str
    amount_nanousd: int
    owner: str
    granted_at: float
    parts: tuple[Part, ...]
    uses: tuple[Use, ...] = ()


@value
class Booked:
    """A settled call as the books keep it. ``record`` is empty where it was loaded only to see what was charged; ``spend`` is
    what it added to the sums, where that may have to be taken back.
    """

    call_id: str
    cost_nanousd: int
    outcome: str
    accounts: tuple[Key, ...]
    started_at: str = ""
    record: bytes = b""
    spend: Spend | None = None


@dataclass(slots=True)
class Page:
    """The balances, holds and records that one batch touches; absent means zero, none, none.

    ``ends`` is when the window of an account ends (Unix seconds, 0 = never). The ``changed_`` sets say what to write.
    """

    now: float
    owner: str
    balances: dict[Key, tuple[int, int]] = field(default_factory=dict)
    ends: dict[Key, int] = field(default_factory=dict)
    holds: dict[str, Granted] = field(default_factory=dict)
    records: dict[str, Booked] = field(default_factory=dict)
    changed_accounts: set[Key] = field(default_factory=set)
    changed_holds: set[str] = field(default_factory=set)
    changed_records: set[str] = field(default_factory=set)
    told: set[tuple[Key, str, int, int, int]] = field(default_factory=set)
    """Thresholds (account, budget, percent, limit, forgiven) that have been crossed before."""
    crossed: list[Notice] = field(default_factory=list)
    heard: list[Notice] = field(default_factory=list)
    spend: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    """What the batch adds to the sums, by hour and dims."""
    tallies: list[Tally] = field(default_factory=list)
    """What it adds to how well targets are met."""
    limits: Levels = field(default_factory=lambda: Levels(0))

    def move(self, moves: Iterable[tuple[Key, int, int]]) -> None:
        """Add (spent, held) to accounts: all of them, or none with a Failure."""
        balances: dict[Key, tuple[int, int]] = {}
        before_of = self.balances.get
        for account, spent, held in moves:
            spent_before, held_before = balances.get(account) or before_of(account, (0, 0))
            spent_after, held_after = balances[account] = (spent_before + spent, held_before + held)
            if spent_after > MAX_BALANCE_NANOUSD or held_after > MAX_BALANCE_NANOUSD:
                raise too_large()
        self.balances.update(balances)
        self.changed_accounts.update(balances)

    def keep(self, hold: Granted) -> None:
        """Write a hold down."""
        self.holds[hold.call_id] = hold
        self.changed_holds.add(hold.call_id)

    def drop(self, call_id: str, tokens: int | None = None) -> None:
        """Strike a hold, if there is one, and give back what it has of limits; of tokens the call has used so many."""
        hold = self.holds.pop(call_id, None)
        if hold is not None:
            self.changed_holds.add(call_id)
            if hold.uses:
                self.limits.give_back(hold.uses, tokens)

    def book(self, booked: Booked) -> None:
        """Write a record down, in place of an earlier one of the same call."""
        self.records[booked.call_id] = booked
        self.changed_records.add(booked.call_id)

    def add(self, spend: Spend | None) -> None:
        """Add what a call adds to the sums."""
        if spend is not None:
            self._count(spend, 1)

    def take_back(self, spend: Spend | None) -> None:
        """Undo ``add``, though it was done by an earlier batch."""
        if spend is not None:
            self._count(spend, -1)

    def _count(self, spend: Spend, times: int) -> None:
        key = (spend.hour, spend.dims)
        before = self.spend.get(key)
        added = spend.counts if times == 1 else tuple([times * count for count in spend.counts])
        self.spend[key] = tuple(map(operator.add, before, added)) if before is not None else added

    def strike(self, call_id: str) -> None:
        """Take a record out."""
        if self.records.pop(call_id, None) is not None:
            self.changed_records.add(call_id)

    def cross(self, claim: Claim, percent: int) -> None:
        """Note that a threshold is crossed, the first time."""
        account, stated, forgiven = claim.account, claim.stated_nanousd, claim.forgiven_nanousd
        threshold = (account, claim.budget, percent, stated, forgiven)
        if threshold not in self.told:
            self.told.add(threshold)
            spent = max(0, self.balances.get(account, (0, 0))[0] - forgiven)
            self.crossed.append(Notice(claim.account, claim.budget, percent, stated, spent, forgiven))
