"""Which claims does a call make? Caller + bounds + the moment -> claims, most specific first.

Owns the rules by which budgets apply; knows no store, no price and no clock. Laws:

- ``team:NAME`` replaces ``team:*`` of the same window for that team (the same for users), so an exception can also be
  larger than the rule. A ``shadow`` budget replaces nothing: to try a limit out must not switch another one off.
- Leaving the header out is no way around: a caller without a name counts as ``-`` under ``team:*`` and ``user:*``.
- One account is claimed once: budgets on the same scope and window merge to the largest amount and the lowest limit.
- A claim is never below one nano-dollar, so that an exhausted budget also refuses what cannot be priced.
- Spend by team is always counted, one account per team and UTC day, whether or not somebody limits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from gateway.accounts import Account, Claim
from gateway.admission.windows import Calendar
from gateway.call import Caller

WINDOWS = ("hour", "day", "week", "month", "total")
MAX_LIMIT_NANOUSD = 1 << 53
"""9 million dollars an account: the largest integer that every store counts exactly (Lua's numbers are doubles)."""
REMEMBERED_CALLERS = 4096
NOBODY = "-"

MODES = ("shadow", "soft", "hard", "strict")
"""From the one that stands back for all others to the one that sets aside the most."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One line of ``budgets:``. ``scope`` is global, team:NAME, team:*, user:NAME or user:*.

    ``strict`` sets aside what the call can cost at the most, ``hard`` what it will likely cost, ``soft`` one nano-dollar
    (it looks only at what has been spent); ``shadow`` counts and refuses nothing. ValueError for what no budget can be.
    """

    name: str
    scope: str
    limit_nanousd: int
    window: str
    mode: str = "hard"
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        kind, colon, name = self.scope.partition(":")
        if self.scope != "global" and not (kind in ("team", "user") and colon and name):
            raise ValueError(f"not a scope: {self.scope!r}")
        if self.window not in WINDOWS:
            raise ValueError(f"not a window: {self.window!r}")
        if self.mode not in MODES:
            raise ValueError(f"not a mode: {self.mode!r}")
        if not 0 <= self.limit_nanousd <= MAX_LIMIT_NANOUSD:
            raise ValueError("a limit lies between 0 and 9 million dollars")


class _Row:
    """A claim without its amount: what is the same for every call of a caller while the window lasts."""

    __slots__ = ("account", "budget", "calendar", "end", "limit", "mode", "scope", "start")

    def __init__(self, scope: str, calendar: Calendar, mode: str, limit: int | None, budget: str) -> None:
        self.scope = scope
        self.calendar = calendar
        self.mode = mode
        self.limit = limit
        self.budget = budget
        self.start = self.end = 0
        self.account = Account(scope, "")

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it one account with another: scope, window, zone."""
        window = self.calendar.window
        return (self.scope, window, self.calendar.zone.key if window != "total" else "")

    def claim(self, now: float, likely_nanousd: int, most_nanousd: int) -> Claim:
        """The claim of one call."""
        if not self.start <= now < self.end:
            name, self.start, self.end = self.calendar.at(now)
            self.account = Account(self.scope, name)
        amount = most_nanousd if self.mode == "strict" else 1 if self.mode == "soft" else likely_nanousd
        kind = self.calendar.window
        resets_at = self.end if kind != "total" else 0
        return Claim(self.account, max(1, amount), self.limit, self.budget, kind, resets_at)

    def merge(self, other: _Row) -> None:
        """Take in another budget on the same account. What only counts (shadow) leaves the amount to what limits."""
        self.mode = max(self.mode, other.mode, key=MODES.index)
        if other.limit is not None and (self.limit is None or other.limit < self.limit):
            self.limit, self.budget = other.limit, other.budget


class Ledger:
    """Budgets, compiled: the rows of a caller are put together once, and a call only fills in amounts."""

    def __init__(self, budgets: Sequence[Budget]) -> None:
        self.budgets = tuple(budgets)
        self._named = [budget for budget in budgets if not budget.scope.endswith(":*")]
        self._general = [budget for budget in budgets if budget.scope.endswith(":*")]
        self._calendars: dict[tuple[str, str], Calendar] = {}
        for budget in budgets:
            self._calendar(budget.window, budget.timezone)
        self._calendar("day", "UTC")
        self._rows: dict[tuple[str, str], tuple[_Row, ...]] = {}

    def claims(self, caller: Caller, now: float, likely_nanousd: int, most_nanousd: int) -> tuple[Claim, ...]:
        """The claims of one call at ``now`` (Unix seconds): users before teams before global, short windows first."""
        key = (caller.team, caller.user)
        rows = self._rows.get(key)
        if rows is None:
            if len(self._rows) >= REMEMBERED_CALLERS:
                self._rows.clear()  # callers are named by headers: forgetting all costs 20 us each, keeping all the memory
            rows = self._rows[key] = self._compile(caller)
        return tuple([row.claim(now, likely_nanousd, most_nanousd) for row in rows])

    def limits(self, now: float) -> list[Claim]:
        """What is limited at ``now``: the accounts of named budgets, and those of the callers seen since the start that
        wildcards limit. Claims of nothing, in no order.
        """
        rows: dict[tuple[str, str, str], _Row] = {}
        for budget in self._named:
            if budget.mode != "shadow":
                _add(rows, self._row_of(budget))
        for known in self._rows.values():
            rows.update((row.key, row) for row in known if row.limit is not None)
        return [row.claim(now, 0, 0) for row in rows.values()]

    def _row_of(self, budget: Budget) -> _Row:
        calendar = self._calendar(budget.window, budget.timezone)
        return _Row(budget.scope, calendar, budget.mode, budget.limit_nanousd, budget.name)

    def _compile(self, caller: Caller) -> tuple[_Row, ...]:
        rows: dict[tuple[str, str, str], _Row] = {}
        found = [*self._scoped("user", caller.user), *self._scoped("team", caller.team)]
        found += [("global", budget) for budget in self._named if budget.scope == "global"]
        for scope, budget in found:
            limit = budget.limit_nanousd if budget.mode != "shadow" else None
            calendar = self._calendar(budget.window, budget.timezone)
            _add(rows, _Row(scope, calendar, budget.mode, limit, budget.name))
        _add(rows, _Row(f"team:{caller.team or NOBODY}", self._calendar("day", "UTC"), "shadow", None, ""))
        return tuple(sorted(rows.values(), key=_specificity))

    def _scoped(self, kind: str, name: str) -> list[tuple[str, Budget]]:
        """The budgets of one team or user, with the scope that they are booked under."""
        scope = f"{kind}:{name or NOBODY}"
        named = [budget for budget in self._named if budget.scope == scope]
        replaced = {budget.window for budget in named if budget.mode != "shadow"}
        general = [
            budget
            for budget in self._general
            if budget.scope.startswith(kind) and (budget.mode == "shadow" or budget.window not in replaced)
        ]
        return [(scope, budget) for budget in (*named, *general)]

    def _calendar(self, window: str, timezone: str) -> Calendar:
        """One calendar per window and zone. Zones are read here while the ledger is built, not while calls are served."""
        key = (window, timezone)
        calendar = self._calendars.get(key)
        if calendar is None:
            calendar = self._calendars[key] = Calendar(window, ZoneInfo(timezone))
        return calendar


def _add(rows: dict[tuple[str, str, str], _Row], row: _Row) -> None:
    present = rows.setdefault(row.key, row)
    if present is not row:
        present.merge(row)


def _specificity(row: _Row) -> tuple[int, int]:
    kind = row.scope.partition(":")[0]
    return ("user", "team", "global").index(kind), WINDOWS.index(row.calendar.window)
