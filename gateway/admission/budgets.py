"""Which claims does a call make? Its facts + bounds + the moment -> claims, most specific first.

Owns the rules by which budgets apply; knows no store, no price and no clock. Laws:

- ``team:NAME`` replaces ``team:*`` of the same window for that team (the same for every kind and combination), so an exception
  can also be larger than the rule. A ``shadow`` budget replaces nothing: to try a limit out must not switch another one off.
- Leaving the header out is no way around: a caller without a name counts as ``-`` under ``team:*`` and ``user:*``.
- One account is claimed once: budgets on the same scope and window merge to the largest amount and the lowest limit.
- A claim is never below one nano-dollar, so that an exhausted budget also refuses what cannot be priced.
- What the caller itself asks for (``x-tollgate-budget``) is one more budget on its own scope: it only tightens.
- What was forgiven of an account (a reset) is added to every limit on it, for the window that it speaks of.
- Spend by team is always counted, one account per team and UTC day, whether or not somebody limits it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from itertools import chain
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.accounts import Account, Claim
from gateway.admission.scopes import ALONE, EVERY, Facts, Scope, facts_of, names_of, parse_scope, specificity
from gateway.admission.windows import Calendar, Window
from gateway.call import Caller
from gateway.value import value

WINDOWS = ("hour", "day", "week", "month", "total")
MAX_LIMIT_NANOUSD = 1 << 53
"""9 million dollars an account: the largest integer that every store counts exactly (Lua's numbers are doubles)."""
REMEMBERED_CALLERS = 4096
WISH = "x-tollgate-budget"
"""The name of a budget that the caller asked for."""

MODES = ("shadow", "soft", "hard", "strict")
"""From the one that stands back for all others to the one that sets aside the most."""
OF_CALLER = {"agent": "agent", "key": "key_name", "tag": "tags"}
"""Kinds of scopes and what stands for them in a Caller, beside team and user."""
OF_WAY = frozenset(("model", "provider", "upstream"))
NOWHERE = Facts()
GROWING = frozenset(("hard", "strict"))
"""Where a call that outgrows its hold needs room for more. A strict hold is the most that its call can cost, so that there it
only happens to what has no bound (realtime sessions). What nobody limits keeps its first hold: that stops nobody."""


@value
class Budget:
    """One line of ``budgets:``. ``scope`` is as ``scopes`` reads it; ``week_start`` is 0 for Monday.

    ``strict`` sets aside what the call can cost at the most, ``hard`` what it will likely cost, ``soft`` one nano-dollar
    (it looks only at what has been spent); ``shadow`` counts and refuses nothing. ``notify_at``: percents of the limit. ``cut``: a
    stream that outgrows its hold and finds no room is cut. ``lost_estimate``: a call whose process dies costs what it had
    likely used, not its hold. ValueError for what no budget can be.
    """

    name: str
    scope: str
    limit_nanousd: int
    window: str
    mode: str = "hard"
    timezone: str = "UTC"
    week_start: int = 0
    notify_at: tuple[int, ...] = ()
    cut: bool = False
    lost_estimate: bool = False
    parsed: Scope = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parsed", parse_scope(self.scope))
        if self.window not in WINDOWS:
            raise ValueError(f"not a window: {self.window!r}")
        if self.mode not in MODES:
            raise ValueError(f"not a mode: {self.mode!r}")
        if not 0 <= self.limit_nanousd <= MAX_LIMIT_NANOUSD:
            raise ValueError("a limit lies between 0 and 9 million dollars")


@value
class Standing:
    """A budget at a moment. Of one account: ``scope`` is its scope. Of ``many``: a GLOB of theirs (``Scope.pattern``), and ``without``
    are those for which a budget of their own stands in its place.
    """

    budget: Budget
    window: Window
    scope: str
    many: bool
    without: tuple[str, ...] = ()


class _Row:
    """A claim without its amount and its window: what is the same for every call of a caller."""

    __slots__ = (
        "_line", "budget", "calendar", "cut", "limit", "lost_estimate", "mode", "notify_at", "scope", "shadow", "window",
    )  # fmt: skip

    def __init__(self, scope: str, calendar: Calendar, mode: str, limit: int | None, budget: str) -> None:
        self.scope = scope
        self.calendar = calendar
        self.mode = mode
        self.limit = limit if mode != "shadow" else None
        self.shadow = limit if mode == "shadow" else None
        self.budget = budget
        self.notify_at: tuple[int, ...] = ()
        self.cut = self.lost_estimate = False
        self.window = calendar.window
        self._line: _Line | None = None

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What makes it one account with another: scope, window, zone, the first day of its week."""
        zone = self.calendar.zone.key if self.window != "total" else ""
        return (self.scope, self.window, zone, self.calendar.week_start if self.window == "week" else 0)

    def copy(self) -> _Row:
        """One that can be tightened."""
        row = _Row(self.scope, self.calendar, self.mode, self.limit, self.budget)
        row.shadow, row.notify_at, row.cut, row.lost_estimate = (
            self.shadow,
            self.notify_at,
            self.cut,
            self.lost_estimate,
        )
        return row

    def merge(self, other: _Row) -> None:
        """Take in another budget on the same account. What only counts (shadow) leaves the amount to what limits."""
        if other.limit is not None and (self.limit is None or other.limit < self.limit):
            self.limit, self.budget = other.limit, other.budget
            self.notify_at, self.cut, self.lost_estimate = other.notify_at, other.cut, other.lost_estimate
        if self.limit is not None:
            self.shadow = None
        elif other.shadow is not None and (self.shadow is None or other.shadow < self.shadow):
            self.shadow, self.budget, self.notify_at = other.shadow, other.budget, other.notify_at
        self.mode = max(self.mode, other.mode, key=MODES.index)

    def at(self, now: float, forgiven: Mapping[str, int]) -> _Line:
        """Its part of every claim in the window in which ``now`` lies."""
        known = self._line
        if known is not None and known.start <= now < known.end:
            return known
        name, start, end = self.calendar.at(now)
        account = Account(self.scope, name)
        more = forgiven.get(str(account), 0) if forgiven else 0
        terms = (
            self.limit + more if self.limit is not None else None,
            self.budget,
            self.window,
            end if self.window != "total" else 0,
            self.shadow + more if self.shadow is not None else None,
            self.notify_at,
            self.cut,
            self.lost_estimate,
            self.mode in GROWING and self.limit is not None,
            more,
        )
        self._line = _Line(start, end, account, MODES.index(self.mode), terms)
        return self._line


_Terms = tuple[int | None, str, str, int, int | None, tuple[int, ...], bool, bool, bool, int]
"""The fields of a Claim that follow its amount."""


class _Line(NamedTuple):
    """A row in one window."""

    start: int
    end: int
    account: Account
    mode: int
    terms: _Terms


class _Met:
    """What the calls of a caller meet: its rows, and what is the same of their claims until one of the windows is over."""

    __slots__ = ("_end", "_lines", "_start", "rows")

    def __init__(self, rows: Iterable[_Row]) -> None:
        self.rows = tuple(rows)
        self._start = self._end = 0
        self._lines: list[tuple[Account, int, _Terms]] = []

    def claims(
        self, now: float, likely_nanousd: int, most_nanousd: int, forgiven: Mapping[str, int]
    ) -> tuple[Claim, ...]:
        """Those of one call."""
        if not self._start <= now < self._end:
            self._turn(now, forgiven)
        likely = likely_nanousd or 1
        amounts = (likely, 1, likely, most_nanousd or 1)  # in the order of MODES
        return tuple([Claim(account, amounts[mode], *terms) for account, mode, terms in self._lines])

    def _turn(self, now: float, forgiven: Mapping[str, int]) -> None:
        lines = [row.at(now, forgiven) for row in self.rows]
        self._start, self._end = max(line.start for line in lines), min(line.end for line in lines)
        self._lines = [(line.account, line.mode, line.terms) for line in lines]


_Rows = dict[tuple[str, str, str, int], _Row]
_Scoped = tuple[int, Scope, Budget]
"""A budget, and where it stands among the others."""


class Ledger:
    """Budgets, compiled: the rows of a caller are put together once, and a call only fills in amounts. Budgets on one name are found
    by it, so that ten thousand of them cost a new caller no more than ten.
    """

    def __init__(self, budgets: Iterable[Budget], forgiven: Mapping[str, int] = MappingProxyType({})) -> None:
        """``forgiven``: nano-dollars by account (``team:search/day:2026-11-21``) that its limits are larger by. Goes through the
        budgets once.
        """
        self._forgiven = dict(forgiven)
        self._ceilings: list[_Scoped] = []
        self._requests: list[_Scoped] = []
        self._general: list[_Scoped] = []
        self._named: dict[str, list[_Scoped]] = {}
        self._calendars: dict[tuple[str, str, int], Calendar] = {}
        kinds: set[str] = set()
        count = 0
        for count, budget in enumerate(budgets, 1):
            self._calendar(budget.window, budget.timezone, budget.week_start)
            self._sort_in((count, budget.parsed, budget), kinds)
        self.count = count
        self._of_caller: Callable[[Caller], object] = attrgetter(
            "team", "user", *(field for kind, field in OF_CALLER.items() if kind in kinds)
        )
        """What of a caller decides which of them a call meets; and of its way."""
        of_way = sorted(kinds & OF_WAY)
        self._of_way: Callable[[Facts], object] | None = attrgetter(*of_way) if of_way else None
        self.asks_more = bool(of_way or self._requests or self._ceilings)
        """Whether any budget goes by more than who asks."""
        for window in WINDOWS:
            self._calendar(window, "UTC", 0)
        self._met: dict[object, _Met] = {}

    def claims(
        self, caller: Caller, now: float, likely_nanousd: int, most_nanousd: int, facts: Facts | None = None
    ) -> tuple[Claim, ...]:
        """The claims of one call at ``now`` (Unix seconds): users before teams before global, short windows first. ``facts``
        beyond the caller's own: model, provider, upstream.
        """
        key = self._of_caller(caller)
        if self._of_way is not None:
            key = (key, self._of_way(facts or NOWHERE))
        met = self._met.get(key)
        if met is None:
            if len(self._met) >= REMEMBERED_CALLERS:
                self._met.clear()  # callers are named by headers: forgetting all costs 20 us each, keeping all the memory
            met = self._met[key] = self._compile(facts_of(caller, facts))
        if self._requests or caller.limits:
            met = self._with_more(met.rows, caller, facts_of(caller, facts))
        return met.claims(now, likely_nanousd, most_nanousd, self._forgiven)

    def over_ceiling(
        self, caller: Caller, likely_nanousd: int, most_nanousd: int, facts: Facts | None = None
    ) -> tuple[Claim, int] | None:
        """The ceiling of a single call that this one would not keep, and what it needs; None when there is none."""
        if not self._ceilings and not caller.limits:
            return None
        facts = facts_of(caller, facts)
        met = [
            (budget.limit_nanousd, budget.mode, budget.name) for _, scope, budget in self._ceilings if scope.of(facts)
        ]
        met += [(limit, "hard", WISH) for limit, window, _ in caller.limits if window == "call"]
        for limit, mode, name in sorted(met):
            needed = most_nanousd if mode == "strict" else likely_nanousd
            if mode in ("strict", "hard") and needed > limit:
                return Claim(Account("call", "call"), needed, limit, name, "call"), needed
        return None

    def limits(self, now: float) -> Iterator[Claim]:
        """What is limited at ``now``: the accounts of the callers seen lately, and those of named budgets. Claims of nothing, in no
        order; a few microseconds each, so that whoever wants them all takes them in slices.
        """
        seen = set()
        of_callers = [met.rows for met in self._met.values()]
        for known in chain(of_callers, map(self._of_one_name, [self._general, *self._named.values()])):
            for row in known:
                if row.limit is not None and row.key not in seen:
                    seen.add(row.key)
                    line = row.at(now, self._forgiven)
                    yield Claim(line.account, 1, *line.terms)

    def standings(self, now: float) -> Iterator[Standing]:
        """Every budget that has accounts of its own: not those of a single request or call. First those of one account, then those
        of many.
        """
        own: dict[str, list[str]] = {}
        for _, scope, budget in chain(self._general, *self._named.values()):
            if not scope.is_general:
                name = account_scope(scope)
                if budget.mode != "shadow":
                    own.setdefault(budget.window, []).append(name)
                yield Standing(budget, self._window(budget, now), name, many=False)
        for _, scope, budget in self._general:
            if scope.is_general:
                without = own.get(budget.window, []) if budget.mode != "shadow" else []
                yield Standing(budget, self._window(budget, now), scope.pattern, many=True, without=tuple(without))

    def forgiven(self, account: Account) -> int:
        """Nano-dollars of an account that do not count any more."""
        return self._forgiven.get(str(account), 0)

    def _window(self, budget: Budget, now: float) -> Window:
        return self._calendar(budget.window, budget.timezone, budget.week_start).at(now)

    def _of_one_name(self, budgets: Iterable[_Scoped]) -> Iterable[_Row]:
        """The rows of budgets that each limit one account; those on the same account are one."""
        rows: _Rows = {}
        for _, scope, budget in self._in_order(budgets):
            if budget.mode != "shadow" and not scope.is_general:
                _add(rows, self._row(account_scope(scope), budget))
        return rows.values()

    def _sort_in(self, scoped: _Scoped, kinds: set[str]) -> None:
        scope = scoped[1]
        if "call" in scope.kinds:
            self._ceilings.append(scoped)
        elif "request" in scope.kinds:
            self._requests.append(scoped)
        else:
            kinds |= scope.kinds
            name = scope.only_name
            if name is None:
                self._general.append(scoped)
            else:
                self._named.setdefault(name, []).append(scoped)

    @staticmethod
    def _in_order(found: Iterable[_Scoped]) -> list[_Scoped]:
        return sorted(found, key=itemgetter(0))

    def _row(self, scope: str, budget: Budget) -> _Row:
        calendar = self._calendar(budget.window, budget.timezone, budget.week_start)
        row = _Row(scope, calendar, budget.mode, budget.limit_nanousd, budget.name)
        row.notify_at, row.cut, row.lost_estimate = budget.notify_at, budget.cut, budget.lost_estimate
        return row

    def _compile(self, facts: Facts) -> _Met:
        """What a caller meets, without those of its request and its own wishes."""
        near = [each for name in names_of(facts) for each in self._named.get(name, ())]
        every = self._in_order([*self._general, *near])
        found = [(text, scope, budget) for _, scope, budget in every if (text := scope.of(facts)) is not None]
        named = {(text, each.window) for text, scope, each in found if not scope.is_general and each.mode != "shadow"}
        rows: _Rows = {}
        for text, scope, budget in found:
            if not (scope.is_general and budget.mode != "shadow" and (text, budget.window) in named):
                _add(rows, self._row(text, budget))
        _add(rows, _Row(EVERY["team"].of(facts) or "", self._calendar("day", "UTC", 0), "shadow", None, ""))
        return _Met(sorted(rows.values(), key=_specificity))

    def _with_more(self, rows: Iterable[_Row], caller: Caller, facts: Facts) -> _Met:
        """What holds for this request alone, and what the caller wishes."""
        every: _Rows = {row.key: row.copy() for row in rows}
        for _, scope, budget in self._requests:
            text = scope.of(facts)
            if text is not None:
                _add(every, self._row(text, budget))
        for limit, window, kind in caller.limits:
            if window != "call":
                scope_of_caller = EVERY[kind].of(facts) or ""
                _add(every, _Row(scope_of_caller, self._calendar(window, "UTC", 0), "hard", limit, WISH))
        return _Met(sorted(every.values(), key=_specificity))

    def _calendar(self, window: str, timezone: str, week_start: int) -> Calendar:
        """One calendar per window and zone. Zones are read here while the ledger is built, not while calls are served."""
        key = (window, timezone, week_start)
        calendar = self._calendars.get(key)
        if calendar is None:
            calendar = self._calendars[key] = Calendar(window, ZoneInfo(timezone), week_start)
        return calendar


def account_scope(scope: Scope) -> str:
    """The scope of the one account that a scope without ``*`` stands for."""
    return "+".join(
        part.written or (part.kind if part.kind in ALONE else part.label + part.name) for part in scope.parts
    )


def _add(rows: _Rows, row: _Row) -> None:
    present = rows.setdefault(row.key, row)
    if present is not row:
        present.merge(row)


def _specificity(row: _Row) -> tuple[int, int]:
    return specificity(row.scope), WINDOWS.index(row.window)
