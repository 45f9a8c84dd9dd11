"""The rules of the books: what reserve, settle, release and a lapsed lease mean, as arithmetic on a page.

Owns the rules and nothing else: no SQL, no thread, no clock. A store loads the part of its tables that a batch of operations
touches into a ``Page``, applies the operations in the order in which they were asked for, and writes what changed, all inside
one transaction. Laws: each operation checks everything before it changes anything, so that one that fails leaves the page as
it was; spent is always the sum of the records, held the sum of the holds, and spend by the hour the sum of the records too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gateway.accounts import REQUESTS, Account, Claim, Hold, Notice, Use
from gateway.call import Receipt, as_json
from gateway.errors import Kind, Refusal
from gateway.store import Settlement
from gateway.store.answers import (
    check_amount,
    check_cost,
    granted,
    granted_before,
    holds_nothing,
    is_settled,
    past_limits,
)
from gateway.store.lost import LOST, lost_record
from gateway.store.page import Booked, Granted, Key, Page, Part
from gateway.store.rollups import spend_of
from gateway.store.words import refusal
from gateway.tallies import Tally
from gateway.value import value


@value
class Reserve:
    """All claims and uses or none. Asked again, it grants the same hold; a call that has been settled is closed (Failure)."""

    call_id: str
    claims: tuple[Claim, ...]
    mark_nanousd: int | None = None
    uses: tuple[Use, ...] = ()

    @property
    def watched(self) -> Iterable[Claim]:
        """The claims whose thresholds it may cross."""
        return self.claims

    @property
    def accounts(self) -> Iterable[Key]:
        return _keys([claim.account for claim in self.claims])

    def apply(self, page: Page) -> Hold | Refusal:
        if self.call_id in page.records:
            raise is_settled()
        before = page.holds.get(self.call_id)
        if before is not None:
            parts_before = [(Account(*part.account), part.amount_nanousd, part.budget) for part in before.parts]
            return granted_before(self.call_id, parts_before, self.claims)
        for claim in self.claims:
            check_amount(claim.amount_nanousd)
        in_the_way = _in_the_way(page, self.claims)
        if in_the_way is not None:
            return _refused(page, *in_the_way)
        limited = page.limits.in_the_way(self.uses) if self.uses else None
        if limited is not None:
            return limited
        parts = tuple([Part(claim.account, claim.amount_nanousd, claim.budget) for claim in self.claims])
        page.move([(account, 0, amount) for account, amount, _ in parts])
        for claim in self.claims:
            if claim.resets_at:
                page.ends[claim.account] = claim.resets_at
        amount = max([amount for _, amount, _ in parts], default=0)
        mark = amount if self.mark_nanousd is None else self.mark_nanousd
        page.limits.take(self.uses)
        ending = tuple([use for use in self.uses if use.unit != REQUESTS])
        page.keep(Granted(self.call_id, mark, page.owner, page.now, parts, ending))
        return granted(self.call_id, amount, self.claims, _balances(page, self.claims))


@value
class Extend:
    """The parts of a hold grow to the amounts of these claims, all of them or none. A call without a hold has none to grow."""

    call_id: str
    claims: tuple[Claim, ...]
    mark_nanousd: int | None = None
    uses: tuple[Use, ...] = ()

    @property
    def accounts(self) -> Iterable[Key]:
        return _keys([claim.account for claim in self.claims])

    @property
    def watched(self) -> Iterable[Claim]:
        """See ``Reserve``."""
        return self.claims

    def apply(self, page: Page) -> Hold | Refusal:
        hold = page.holds.get(self.call_id)
        if hold is None:
            raise holds_nothing()
        held: dict[Key, Part] = {}
        for part in hold.parts:
            before = held.get(part.account)
            held[part.account] = part._replace(
                amount_nanousd=part.amount_nanousd + (before.amount_nanousd if before else 0)
            )
        more = []
        for claim in self.claims:
            check_amount(claim.amount_nanousd)
            so_far = held.get(claim.account)
            missing = claim.amount_nanousd - (so_far.amount_nanousd if so_far else 0)
            if missing > 0:
                more.append(replace(claim, amount_nanousd=missing))
        mark = hold.amount_nanousd if self.mark_nanousd is None else max(hold.amount_nanousd, self.mark_nanousd)
        in_the_way = _in_the_way(page, more)
        if in_the_way is not None:
            page.keep(replace(hold, amount_nanousd=mark))
            return _refused(page, *in_the_way)
        page.move([(claim.account, 0, claim.amount_nanousd) for claim in more])
        for claim in more:
            account = claim.account
            grown = held.get(account) or Part(account, 0, claim.budget)
            held[account] = grown._replace(amount_nanousd=grown.amount_nanousd + claim.amount_nanousd)
        amount = max([part.amount_nanousd for part in held.values()], default=0)
        if self.mark_nanousd is None:
            mark = max(mark, amount)
        page.keep(replace(hold, amount_nanousd=mark, parts=tuple(held.values())))
        return granted(self.call_id, amount, self.claims, _balances(page, self.claims))


@value
class Settle:
    """The cost instead of the hold, once; a call that was charged as lost is corrected."""

    settlement: Settlement
    uses: tuple[Use, ...] = ()

    @property
    def call_id(self) -> str:
        return self.settlement.call_id

    @property
    def accounts(self) -> Iterable[Key]:
        return _keys(self.settlement.accounts)

    @property
    def watched(self) -> Iterable[Claim]:
        """See ``Reserve``."""
        return self.settlement.limits

    def apply(self, page: Page) -> Receipt:
        settlement = self.settlement
        call_id, cost = settlement.call_id, settlement.cost_nanousd
        before = page.records.get(call_id)
        if before is not None and before.outcome != LOST:
            return Receipt(call_id, before.cost_nanousd, again=True)
        check_cost(settlement)
        accounts = tuple(dict.fromkeys(settlement.accounts))
        page.move(_returned(page, call_id) + [(account, cost, 0) for account in accounts])
        page.drop(call_id, settlement.tokens)
        page.book(Booked(call_id, cost, settlement.outcome, accounts, settlement.started_at, settlement.record))
        page.take_back(before.spend if before is not None else None)
        page.add(settlement.spend)
        _note_crossings(page, settlement.limits)
        spent = [spent for spent, _ in _balances(page, settlement.limits)]
        return Receipt(call_id, cost, False, past_limits(settlement.limits, spent, cost))


@value
class Release:
    """The hold goes back, nothing is charged; what was charged as lost is taken back. A settled call stays as it is."""

    call_id: str
    accounts: tuple[Key, ...] = ()
    watched: tuple[Claim, ...] = ()
    uses: tuple[Use, ...] = ()

    def apply(self, page: Page) -> None:
        before = page.records.get(self.call_id)
        if before is not None and before.outcome != LOST:
            return
        page.move(_returned(page, self.call_id))
        page.drop(self.call_id)
        page.strike(self.call_id)
        page.take_back(before.spend if before is not None else None)


@value
class Lapse:
    """The owner of a hold is gone: the hold is charged, to all its accounts alike, and recorded as lost.

    The provider most likely bills the call, so it is never free; the largest of the call's amounts is what it could be. ``by``
    are the dimensions of the sums that it adds to.
    """

    call_id: str
    by: tuple[str, ...] = ()
    accounts: tuple[Key, ...] = ()
    watched: tuple[Claim, ...] = ()
    uses: tuple[Use, ...] = ()

    def apply(self, page: Page) -> Granted | None:
        hold = page.holds.get(self.call_id)
        if hold is None:
            return None
        accounts = tuple(dict.fromkeys(part.account for part in hold.parts))
        cost = hold.amount_nanousd
        budgets = tuple(part.budget for part in hold.parts if part.budget)
        record = lost_record(hold.call_id, hold.granted_at, cost, accounts, budgets)
        page.move([*_returned(page, self.call_id), *((account, cost, 0) for account in accounts)])
        page.drop(self.call_id)
        spend = spend_of(record, self.by)
        page.book(Booked(self.call_id, cost, LOST, accounts, record.started_at, as_json(record), spend))
        page.add(spend)
        return hold


@value
class Heard:
    """Thresholds that were crossed have been told to whoever listens: nobody else needs to."""

    notices: tuple[Notice, ...]
    call_id: str = ""
    accounts: tuple[Key, ...] = ()
    watched: tuple[Claim, ...] = ()
    uses: tuple[Use, ...] = ()

    def apply(self, page: Page) -> None:
        page.heard.extend(self.notices)


@value
class Count:
    """How well targets are met: added to what there is."""

    tallies: tuple[Tally, ...]
    call_id: str = ""
    accounts: tuple[Key, ...] = ()
    watched: tuple[Claim, ...] = ()
    uses: tuple[Use, ...] = ()

    def apply(self, page: Page) -> None:
        page.tallies.extend(self.tallies)


Operation = Reserve | Extend | Settle | Release | Lapse | Heard | Count


def _returned(page: Page, call_id: str) -> list[tuple[Key, int, int]]:
    """The moves that undo what stands on a call's name: its hold, and what it was charged when it was lost."""
    moves: list[tuple[Key, int, int]] = []
    hold, lost = page.holds.get(call_id), page.records.get(call_id)
    if hold is not None:
        moves += [(account, 0, -amount) for account, amount, _ in hold.parts]
    if lost is not None:
        moves += [(account, -lost.cost_nanousd, 0) for account in lost.accounts]
    return moves


_InTheWay = tuple[Kind, Claim, int, int, int]
"""(why, claim, needed, spent, held)."""


def _in_the_way(page: Page, claims: Sequence[Claim]) -> _InTheWay | None:
    """The claim that has no room: one that will not fit before its reset, else one that only waits for other holds."""
    waiting: _InTheWay | None = None
    asked: dict[Key, int] = {}
    balance_of = page.balances.get
    for claim in claims:
        account, limit = claim.account, claim.limit_nanousd
        needed = claim.amount_nanousd
        if account in asked:
            needed += asked[account]
        asked[account] = needed
        if limit is None:
            continue
        spent, held = balance_of(account, (0, 0))
        counted = claim.counted(spent)
        if counted + held + needed <= limit:
            continue
        if counted + needed > limit:
            return (Kind.BUDGET_EXCEEDED, claim, needed, spent, held)
        waiting = waiting or (Kind.BUDGET_HELD, claim, needed, spent, held)
    return waiting


def _refused(page: Page, kind: Kind, claim: Claim, needed: int, spent: int, held: int) -> Refusal:
    """100 percent is also the first refusal for want of room: with holds, spent can end one hold short for ever."""
    if kind is Kind.BUDGET_EXCEEDED and 100 in claim.notify_at:
        page.cross(claim, 100)
    return refusal(kind, claim, needed, spent, held)


def _note_crossings(page: Page, claims: Sequence[Claim]) -> None:
    """The thresholds that the last charge has crossed."""
    for claim in claims:
        for percent in claim.notify_at:
            spent = page.balances.get(claim.account, (0, 0))[0] - claim.forgiven_nanousd
            if spent * 100 >= claim.stated_nanousd * percent:
                page.cross(claim, percent)


def _balances(page: Page, claims: Sequence[Claim]) -> list[tuple[int, int]]:
    balance_of = page.balances.get
    return [balance_of(claim.account, (0, 0)) for claim in claims]


def _keys(accounts: Sequence[Account]) -> Sequence[Account]:
    """Those that a table can hold: SQLite's text functions end at a NUL, and two accounts could become one."""
    for scope, window in accounts:
        if "\0" in scope or "\0" in window:
            raise ValueError("the name of an account holds a NUL")
    return accounts
