"""One page of the books: the balances, holds and records that a batch touches, and what of them has changed.

Owns the shapes of what stands on a page and the ways to change it; what an operation means is in ``books``, how a page is read
and written in the store's tables. No SQL, no thread, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

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


@dataclass(slots=True, eq=False)
class Line:
    """One account: what is spent and held of it, in nano-dollars, and when its window ends (Unix seconds, 0 = never)."""

    scope: str
    window: str
    spent: int = 0
    held: int = 0
    ends_at: int = 0


@value
class Part:
    """A granted claim that was read from the books."""

    account: Key
    amount_nanousd: int
    budget: str


Asked = Sequence[tuple[Claim, Line]]
"""Claims, each with its account."""
Parts = Sequence[tuple[Claim | Part, Line]]
"""Claims that were granted, each with its account."""
Threshold = tuple[str, int, int, int]
"""(budget, percent, limit, forgiven)."""


def _nothing(account: Key) -> set[Threshold]:
    """Of an account that is only on the page."""
    return set()


@value
class Granted:
    """A hold as the books keep it. ``amount`` is what it costs if it lapses; ``owner`` is the process that answers for it,
    ``granted_at`` Unix seconds. ``uses`` are those that end with it, or are corrected then.
    """

    call_id: str
    amount_nanousd: int
    owner: str
    granted_at: float
    parts: Parts
    uses: tuple[Use, ...] = ()


@value
class Booked:
    """A settled call as the books keep it. ``record`` is empty where it was loaded only to see what was charged; ``spend`` is
    what it added to the sums, where that may have to be taken back. For the rest see ``Settlement``.
    """

    call_id: str
    cost_nanousd: int
    outcome: str
    accounts: tuple[Key, ...]
    started_at: str = ""
    record: bytes = b""
    spend: Spend | None = None
    correlation_id: str = ""
    awaits: str = ""


@dataclass(slots=True)
class Page:
    """The accounts, holds and records that one batch touches. Every account of an operation has its line; an absent hold or record
    means none. The ``changed_`` sets say what to write.
    """

    now: float
    owner: str
    lines: dict[Key, Line] = field(default_factory=dict)
    holds: dict[str, Granted] = field(default_factory=dict)
    records: dict[str, Booked] = field(default_factory=dict)
    changed_lines: set[Line] = field(default_factory=set)
    prolonged: set[Line] = field(default_factory=set)
    """Those of them whose window ends later than the books have it."""
    changed_holds: set[str] = field(default_factory=set)
    changed_records: set[str] = field(default_factory=set)
    told: dict[Key, set[Threshold]] = field(default_factory=dict)
    """Thresholds that have been crossed before, of the accounts of which that was ever asked: most are far from any."""
    read_told: Callable[[Key], set[Threshold]] = _nothing
    """What the books know of others."""
    crossed: list[Notice] = field(default_factory=list)
    heard: list[Notice] = field(default_factory=list)
    spend: dict[tuple[str, str], list[tuple[int, ...]]] = field(default_factory=dict)
    """What each call of the batch adds to the sums, by hour and dims."""
    tallies: list[Tally] = field(default_factory=list)
    """What it adds to how well targets are met."""
    limits: Levels = field(default_factory=lambda: Levels(0))

    def set_aside(self, asked: Asked) -> None:
        """Hold all that is claimed, where there is room for it."""
        for claim, line in asked:
            line.held += claim.amount_nanousd
            if claim.resets_at > line.ends_at:
                line.ends_at = claim.resets_at
                self.prolonged.add(line)
            self.changed_lines.add(line)

    def charge(self, accounts: Sequence[Key], nanousd: int) -> None:
        """Add to what is spent of each of these accounts, or to none with a Failure. Less than nothing takes a charge back."""
        of, fits = self.lines, True
        lines = {of[account] for account in accounts}
        for line in lines:
            spent = line.spent = line.spent + nanousd
            if spent > MAX_BALANCE_NANOUSD:
                fits = False
        if not fits:
            for line in lines:
                line.spent -= nanousd
            raise too_large()
        self.changed_lines |= lines

    def spent(self, account: Key) -> int:
        """Of an account; nothing of one that the batch does not touch."""
        line = self.lines.get(account)
        return line.spent if line is not None else 0

    def keep(self, hold: Granted) -> None:
        """Write a hold down."""
        self.holds[hold.call_id] = hold
        self.changed_holds.add(hold.call_id)

    def drop(self, call_id: str, tokens: int | None = None) -> None:
        """Strike a hold, if there is one, and give back what it has of accounts and limits; of tokens the call has used so many."""
        hold = self.holds.pop(call_id, None)
        if hold is None:
            return
        changed = self.changed_lines
        for part, line in hold.parts:
            line.held -= part.amount_nanousd
            changed.add(line)
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
            self.spend.setdefault((spend.hour, spend.dims), []).append(spend.counts)

    def take_back(self, lost: Booked | None) -> None:
        """Undo what a call was charged when it was lost, though it was done by an earlier batch."""
        if lost is None:
            return
        self.charge(lost.accounts, -lost.cost_nanousd)
        if lost.spend is not None:
            self.add(replace(lost.spend, counts=tuple([-count for count in lost.spend.counts])))

    def strike(self, call_id: str) -> None:
        """Take a record out."""
        if self.records.pop(call_id, None) is not None:
            self.changed_records.add(call_id)

    def cross(self, claim: Claim, percent: int) -> None:
        """Note that a threshold is crossed, the first time."""
        account, stated, forgiven = claim.account, claim.stated_nanousd, claim.forgiven_nanousd
        told = self.told.get(account)
        if told is None:
            told = self.told[account] = self.read_told(account)
        threshold = (claim.budget, percent, stated, forgiven)
        if threshold not in told:
            told.add(threshold)
            spent = max(0, self.spent(account) - forgiven)
            self.crossed.append(Notice(claim.account, claim.budget, percent, stated, spent, forgiven))
