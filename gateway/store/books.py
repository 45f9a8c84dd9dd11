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
    MAX_AMOUNT_NANOUSD,
    check_amount,
    check_cost,
    granted,
    granted_before,
    holds_nothing,
    is_settled,
    past_limits,
    too_large,
)
from gateway.store.lost import LOST, lost_record
from gateway.store.page import MAX_BALANCE_NANOUSD, Asked, Booked, Granted, Key, Line, Page, Part
from gateway.store.rollups import spend_of
from gateway.store.words import refusal
from gateway.tallies import Tally
from gateway.value import value

PLAINLY_HELD_NANOUSD = MAX_BALANCE_NANOUSD - MAX_AMOUNT_NANOUSD
"""Of an account of which no more is held there is room for any claim, as far as counting goes."""
WITHOUT_LIMIT = 1 << 200
"""More room than any limit leaves."""
EVERY_PERCENT = 1 << 64
"""More than any threshold."""


@value
class Reserve:
    """All claims and uses or none. Asked again, it grants the same hold; a call that has been settled is closed (Failure)."""

    call_id: str
    claims: tuple[Claim, ...]
    mark_nanousd: int | None = None
    uses: tuple[Use, ...] = ()

    @property
    def accounts(self) -> Iterable[Key]:
        return [claim.account for claim in self.claims]

    def apply(self, page: Page) -> Hold | Refusal:
        call_id, claims = self.call_id, self.claims
        if call_id in page.records:
            raise is_settled()
        before = page.holds.get(call_id)
        if before is not None:
            parts_before = [(Account(*part.account), part.amount_nanousd, part.budget) for part, _ in before.parts]
            return granted_before(call_id, parts_before, claims)
        lines = page.lines
        asked = [(claim, lines[claim.account]) for claim in claims]
        hold = _plainly(call_id, claims, asked)
        in_the_way = _in_the_way(asked) if hold is None else None
        if in_the_way is not None:
            return _refused(page, *in_the_way)
        limited = page.limits.in_the_way(self.uses) if self.uses else None
        if limited is not None:
            return limited
        page.set_aside(asked)
        if hold is None:
            hold = _granted(call_id, max([claim.amount_nanousd for claim in claims], default=0), claims, asked)
        mark = hold.amount_nanousd if self.mark_nanousd is None else self.mark_nanousd
        page.keep(Granted(call_id, mark, page.owner, page.now, asked, _taken(page, self.uses)))
        return hold


@value
class Extend:
    """The parts of a hold grow to the amounts of these claims, all of them or none. A call without a hold has none to grow."""

    call_id: str
    claims: tuple[Claim, ...]
    mark_nanousd: int | None = None
    uses: tuple[Use, ...] = ()

    @property
    def accounts(self) -> Iterable[Key]:
        return [claim.account for claim in self.claims]

    def apply(self, page: Page) -> Hold | Refusal:
        hold = page.holds.get(self.call_id)
        if hold is None:
            raise holds_nothing()
        held: dict[Line, Part] = {}
        for part, line in hold.parts:
            _grow(held, part, line)
        asked = [(claim, page.lines[claim.account]) for claim in self.claims]
        more = []
        for claim, line in asked:
            check_amount(claim.amount_nanousd)
            so_far = held.get(line)
            missing = claim.amount_nanousd - (so_far.amount_nanousd if so_far else 0)
            if missing > 0:
                more.append((claim.of(missing), line))
        mark = hold.amount_nanousd if self.mark_nanousd is None else max(hold.amount_nanousd, self.mark_nanousd)
        in_the_way = _in_the_way(more)
        if in_the_way is not None:
            page.keep(replace(hold, amount_nanousd=mark))
            return _refused(page, *in_the_way)
        page.set_aside(more)
        for claim, line in more:
            _grow(held, claim, line)
        amount = max([part.amount_nanousd for part in held.values()], default=0)
        if self.mark_nanousd is None:
            mark = max(mark, amount)
        page.keep(replace(hold, amount_nanousd=mark, parts=[(part, line) for line, part in held.items()]))
        return _granted(self.call_id, amount, self.claims, asked)


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
        return self.settlement.accounts

    def apply(self, page: Page) -> Receipt:
        settlement = self.settlement
        call_id, cost = settlement.call_id, settlement.cost_nanousd
        before = page.records.get(call_id)
        if before is not None and before.outcome != LOST:
            return Receipt(call_id, before.cost_nanousd, again=True)
        check_cost(settlement)
        accounts = settlement.accounts
        page.charge(accounts, cost)
        page.take_back(before)
        page.drop(call_id, settlement.tokens)
        page.book(
            Booked(
                call_id, cost, settlement.outcome, accounts, settlement.started_at, settlement.record, None,
                settlement.correlation_id, settlement.awaits,
            )
        )  # fmt: skip
        page.add(settlement.spend)
        return Receipt(call_id, cost, False, _passed(page, settlement.limits, cost))


@value
class Release:
    """The hold goes back, nothing is charged; what was charged as lost is taken back. A settled call stays as it is."""

    call_id: str
    accounts: tuple[Key, ...] = ()
    uses: tuple[Use, ...] = ()

    def apply(self, page: Page) -> None:
        before = page.records.get(self.call_id)
        if before is not None and before.outcome != LOST:
            return
        page.take_back(before)
        page.drop(self.call_id)
        page.strike(self.call_id)


@value
class Lapse:
    """The owner of a hold is gone: the hold is charged, to all its accounts alike, and recorded as lost.

    The provider most likely bills the call, so it is never free; the largest of the call's amounts is what it could be. ``by``
    are the dimensions of the sums that it adds to.
    """

    call_id: str
    by: tuple[str, ...] = ()
    accounts: tuple[Key, ...] = ()
    uses: tuple[Use, ...] = ()

    def apply(self, page: Page) -> Granted | None:
        hold = page.holds.get(self.call_id)
        if hold is None:
            return None
        accounts = tuple(dict.fromkeys(part.account for part, _ in hold.parts))
        cost = hold.amount_nanousd
        budgets = tuple(part.budget for part, _ in hold.parts if part.budget)
        record = lost_record(hold.call_id, hold.granted_at, cost, accounts, budgets)
        page.charge(accounts, cost)
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
    uses: tuple[Use, ...] = ()

    def apply(self, page: Page) -> None:
        page.heard.extend(self.notices)


@value
class Count:
    """How well targets are met: added to what there is."""

    tallies: tuple[Tally, ...]
    call_id: str = ""
    accounts: tuple[Key, ...] = ()
    uses: tuple[Use, ...] = ()

    def apply(self, page: Page) -> None:
        page.tallies.extend(self.tallies)


Operation = Reserve | Extend | Settle | Release | Lapse | Heard | Count


def _taken(page: Page, uses: Sequence[Use]) -> tuple[Use, ...]:
    """Count what a call uses of limits; what of that ends with its hold."""
    if not uses:
        return ()
    page.limits.take(uses)
    return tuple([use for use in uses if use.unit != REQUESTS])


def _grow(held: dict[Line, Part], more: Part | Claim, line: Line) -> None:
    """Add to what is held of an account."""
    before = held.get(line)
    budget, amount = (more.budget, 0) if before is None else (before.budget, before.amount_nanousd)
    held[line] = Part(more.account, amount + more.amount_nanousd, budget)


def _granted(call_id: str, amount_nanousd: int, claims: Sequence[Claim], asked: Asked) -> Hold:
    """What is told of a hold that was set aside."""
    return granted(call_id, amount_nanousd, claims, [(claim, line.spent, line.held) for claim, line in asked])


def _plainly(call_id: str, claims: tuple[Claim, ...], asked: Asked) -> Hold | None:
    """The hold of a call whose claims, each on an account of its own, are all far from their limits: one look at each tells. None where
    ``_in_the_way`` has to find out whether there is room, and ``_granted`` what to tell.
    """
    amount = largest = 0
    least = WITHOUT_LIMIT
    for claim, line in asked:
        if claim.amount_nanousd != amount:  # most claims of a call are on the same amount
            amount = claim.amount_nanousd
            if not 0 <= amount <= MAX_AMOUNT_NANOUSD:
                return None
            largest = max(largest, amount)
        limit, held = claim.limit_nanousd, line.held
        if held > PLAINLY_HELD_NANOUSD:
            return None
        if limit is not None:
            spent = line.spent
            room = limit - spent - held
            if room < amount or spent < claim.forgiven_nanousd:
                return None
            if room < least:  # noqa: PLR1730 - calling min() costs 1,000 instructions a claim
                least = room
        elif claim.shadow_nanousd is not None:
            return None
    if len({line for _, line in asked}) < len(asked):
        return None
    return Hold(call_id, largest, claims, least - largest if least < WITHOUT_LIMIT else None)


_InTheWay = tuple[Kind, Claim, int, int, int]
"""(why, claim, needed, spent, held)."""


def _in_the_way(claims: Asked) -> _InTheWay | None:
    """The claim that has no room: one that will not fit before its reset, else one that only waits for other holds. ValueError for
    an amount that no claim can have, Failure where an account could not be counted any more.
    """
    waiting: _InTheWay | None = None
    asked: dict[Line, int] = {}
    for claim, line in claims:
        needed, limit = claim.amount_nanousd, claim.limit_nanousd
        if not 0 <= needed <= MAX_AMOUNT_NANOUSD:
            check_amount(needed)
        if line in asked:
            needed += asked[line]
        asked[line] = needed
        spent, held = line.spent, line.held
        if held + needed > MAX_BALANCE_NANOUSD:
            raise too_large()
        if limit is None:
            continue
        counted = spent if spent >= claim.forgiven_nanousd else claim.counted(spent)
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


def _passed(page: Page, claims: Sequence[Claim], cost_nanousd: int) -> tuple[tuple[Claim, int], ...]:
    """The limits that the last charge went past, with what of it lies beyond; and note the thresholds that it has crossed."""
    past, of = [], page.lines
    for claim in claims:
        line, limit = of.get(claim.account), claim.limit_nanousd
        spent = line.spent if line is not None else 0
        if limit is not None and spent > limit:
            past.append((claim, spent))
        if claim.notify_at:
            reached = _reached(claim, spent)
            for percent in claim.notify_at:
                if percent <= reached:
                    page.cross(claim, percent)
    return past_limits(past, cost_nanousd) if past else ()


def _reached(claim: Claim, spent_nanousd: int) -> int:
    """Whole percents of the limit, as it was stated, that are spent: one division in place of a product for each threshold. Every
    threshold of a limit of nothing is reached, unless a charge was taken back after a reset.
    """
    forgiven, limit = claim.forgiven_nanousd, claim.limit_nanousd
    spent = spent_nanousd - forgiven
    stated = (limit if limit is not None else claim.shadow_nanousd or 0) - forgiven
    if stated > 0:
        return spent * 100 // stated
    return EVERY_PERCENT if spent >= 0 else -1
