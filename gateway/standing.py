"""How budgets stand: a page of them with their balances, by use or by name; of a wildcard every account that the store has.

Asks the ledger in force and the store; changes nothing. A page costs the same however many accounts there are: the store is asked
for what comes after a place in the order, never for all.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson

from gateway.accounts import Account, Balance
from gateway.admission.budgets import Ledger, Standing
from gateway.errors import Failure, Kind, Whose
from gateway.store import Store, Which
from gateway.value import value
from pricing.money import format_usd

WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
AT_ONCE = 200
LEAST_ELAPSED_S = 60
"""Before that the pace of a window is chance."""
FINE = 10**36
"""Two shares of limits of at most 2^53 are equal in so many parts only when they are equal; a Fraction takes ten times as long."""
TOLD_AT_ONCE = 50
"""Rows that are written before the loop is let go: 0.5 ms."""
LAST = "\U0010ffff"
"""Behind every scope."""


@value
class Place:
    """A place in the order of budgets: that of a row of an earlier page."""

    used: int
    limit: int
    budget: str
    scope: str

    def written(self) -> str:
        """As a cursor."""
        text = orjson.dumps([self.used, self.limit, self.budget, self.scope])
        return base64.urlsafe_b64encode(text).decode().rstrip("=")


def place_of(cursor: str) -> Place | None:
    """What ``Place.written`` gave; None for none. Failure for anything else."""
    if not cursor:
        return None
    try:
        used, limit, budget, scope = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, binascii.Error):
        raise _cannot() from None
    whole = isinstance(used, int) and isinstance(limit, int) and isinstance(budget, str) and isinstance(scope, str)
    if not whole or limit < 1:
        raise _cannot()
    return Place(used, limit, budget, scope)


@value
class _Row:
    """``forgiven``: nano-dollars of what was spent that do not count any more."""

    standing: Standing
    balance: Balance
    forgiven: int = 0

    @property
    def spent(self) -> int:
        """What counts against the limit."""
        return max(0, self.balance.spent_nanousd - self.forgiven)

    @property
    def place(self) -> Place:
        """Of many, the store's order is the order: by all that was spent, forgiven or not."""
        spent = self.balance.spent_nanousd if self.standing.many else self.spent
        used = spent + self.balance.held_nanousd
        budget = self.standing.budget
        return Place(used, max(1, budget.limit_nanousd), budget.name, self.balance.account.scope)


def _order(sort: str) -> Callable[[Place], tuple[Any, ...]]:
    if sort == "name":
        return lambda place: (place.budget, place.scope)
    return lambda place: (-(place.used * FINE // place.limit), place.budget, place.scope)


class Standings:
    """Answers about budgets."""

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        about: Callable[[str], Mapping[str, Any]],
        store: Store,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``about`` tells where a budget is from, by its name: source, version, reason, changed_by, changed_at."""
        self._ledger = ledger
        self._about = about
        self._store = store
        self._clock = clock

    async def page(self, limit: int, cursor: str = "", search: str = "", sort: str = "used") -> dict[str, Any]:
        """So many budgets after a place. Failure for a cursor that is none."""
        after, order, now = place_of(cursor), _order(sort), self._clock()
        rows: list[_Row] = []
        ledger = self._ledger()
        standings = ledger.standings(now)
        while some := list(islice(standings, AT_ONCE)):
            rows += await self._of_one(ledger, [each for each in some if not each.many], search.lower())
            for each in some:
                if each.many:
                    rows += await self._of_many(ledger, each, limit + 1, after, search.lower(), sort)
        found = sorted(
            (row for row in rows if after is None or order(row.place) > order(after)), key=lambda row: order(row.place)
        )
        more = len(found) > limit
        told: list[dict[str, Any]] = []
        while len(told) < min(limit, len(found)):
            await asyncio.sleep(0)
            told += [
                _told(row, now, self._about(row.standing.budget.name))
                for row in found[len(told) : min(limit, len(told) + TOLD_AT_ONCE)]
            ]
        return {"budgets": told, "next": found[limit - 1].place.written() if more else None}

    async def _of_one(self, ledger: Ledger, standings: Sequence[Standing], search: str) -> list[_Row]:
        wanted = [each for each in standings if search in each.budget.name.lower() or search in each.scope.lower()]
        if not wanted:
            return []
        balances = await self._store.read([Account(each.scope, each.window.name) for each in wanted])
        return [
            _Row(each, balance, ledger.forgiven(balance.account))
            for each, balance in zip(wanted, balances, strict=True)
        ]

    async def _of_many(
        self, ledger: Ledger, standing: Standing, limit: int, after: Place | None, search: str, sort: str
    ) -> list[_Row]:
        is_named = search in standing.budget.name.lower()
        most_used, scope = None, ""
        if after is not None:
            bound = _after(standing, after, sort)
            if bound is None:
                return []
            most_used, scope = bound
        which = Which(
            window=standing.window.name,
            pattern=standing.scope,
            limit=limit,
            without=standing.without,
            search="" if is_named else search,
            by_use=sort == "used",
            most_used=most_used,
            after=scope,
        )
        found = await self._store.accounts(which)
        return [_Row(standing, balance, ledger.forgiven(balance.account)) for balance in found]


def _after(standing: Standing, after: Place, sort: str) -> tuple[int | None, str] | None:
    """(most used, after which scope) of the accounts of a budget that come after a place; None when none do."""
    name = standing.budget.name
    if sort == "name":
        return None if name < after.budget else (None, after.scope if name == after.budget else "")
    most, rest = divmod(after.used * max(1, standing.budget.limit_nanousd), after.limit)
    if rest or name > after.budget:
        return most + 1, LAST
    return most, after.scope if name == after.budget else LAST


def _told(row: _Row, now: float, about: Mapping[str, Any]) -> dict[str, Any]:
    budget, window, balance = row.standing.budget, row.standing.window, row.balance
    limit, spent, held = budget.limit_nanousd, row.spent, balance.held_nanousd
    left = max(0, limit - spent - held)
    return {
        "budget": budget.name,
        "budget_scope": budget.scope,
        "scope": balance.account.scope,
        "window": budget.window,
        "window_id": balance.account.window,
        "timezone": budget.timezone,
        "week_start": WEEK[budget.week_start],
        "mode": budget.mode,
        "limit_nanousd": limit,
        "spent_nanousd": spent,
        "held_nanousd": held,
        "remaining_nanousd": left,
        "limit_usd": format_usd(limit),
        "spent_usd": format_usd(spent),
        "held_usd": format_usd(held),
        "remaining_usd": format_usd(left),
        "used_ratio": round((spent + held) / limit, 6) if limit else 1.0,
        "exhausts_at": _moment(_exhausted_at(row, now)),
        "resets_at": _moment(window.end if budget.window != "total" else None),
        "forgiven_nanousd": row.forgiven,
        "forgiven_usd": format_usd(row.forgiven),
        **about,
    }


def _exhausted_at(row: _Row, now: float) -> int | None:
    """When nothing is left, if the rest of the window goes on as it did so far; None when it is not used up by then, or is already.
    A window without a beginning has no pace.
    """
    window, spent = row.standing.window, row.spent
    elapsed, left = int(now) - window.start, row.standing.budget.limit_nanousd - spent
    if not window.start or elapsed < LEAST_ELAPSED_S or spent <= 0 or left <= 0:
        return None
    at = int(now) + left * elapsed // spent
    return at if at < window.end else None


def _moment(unix_s: int | None) -> str | None:
    return datetime.fromtimestamp(unix_s, UTC).isoformat() if unix_s is not None else None


def _cannot() -> Failure:
    return Failure(Kind.MALFORMED_REQUEST, Whose.FRONT, "cursor is not one that an answer gave as next.")
