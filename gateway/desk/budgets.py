"""Budgets at run time: set, raised, lowered, taken away, and reset. What is sent is checked as the config's own budgets are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from gateway import given
from gateway.accounts import Account, Balance
from gateway.admission.budgets import MAX_LIMIT_NANOUSD, account_scope
from gateway.admission.scopes import parse_scope
from gateway.admission.windows import Window, window_at
from gateway.canonical import shown
from gateway.changes import Change, Denied
from gateway.decided import BUDGET, RESET, Decided, settings_of
from gateway.desk import Asked, Desk, change, masked, now_text
from gateway.kinds import NAMED_THING, near
from gateway.loading import budget_name
from gateway.settings import WEEK_STARTS, Budget, Settings
from pricing.money import format_usd

Row = dict[str, Any]
FORGOTTEN_AT_ONCE = 50
SINGLE = {"call", "request"}
"""What has no account that stays."""
BALANCE = (
    *(f"{name}_{unit}" for name in ("spent", "held", "remaining", "forgiven") for unit in ("nanousd", "usd")),
    "window_id",
    "resets_at",
)


class BudgetDesk:
    """What can be done with budgets."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def rows(self) -> list[Row]:
        """The definition of every budget: those that were decided, and the config's that are not replaced."""
        decided = await self._desk.current()
        names = {**self._of_config(), **decided.budgets}
        return [self._row(decided, name) for name in names]

    async def accounts(self, scopes: Sequence[str] = ()) -> list[Row]:
        """Every account that stands by itself, with what is spent, held and left of it; of budgets that are one for each, the line
        alone, and the accounts of ``scopes``.
        """
        decided = await self._desk.current()
        found: list[tuple[Row, Account, int]] = []
        lines: list[Row] = []
        for row in [self._row(decided, name) for name in {**self._of_config(), **decided.budgets}]:
            budget, own = self._budget(decided, row["budget"]), parse_scope(row["scope"])
            wanted = [each for each in scopes if _fits(budget, each)] if own.is_general else [row["scope"]]
            if own.is_general or own.kinds & SINGLE:
                lines.append(row | dict.fromkeys(BALANCE))
            window = _window(budget)
            for each in () if own.kinds & SINGLE else wanted:
                account = Account(_account_scope(budget, each), window.name)
                found.append((row, account, window.end if budget.window != "total" else 0))
        balances = await self._desk.store.read([account for _, account, _ in found])
        return lines + [
            row
            | {"scope": account.scope}
            | _balance(row["limit_nanousd"], balance, self._forgiven(decided, account), ends)
            for (row, account, ends), balance in zip(found, balances, strict=True)
        ]

    async def row(self, name: str) -> Row:
        """One of them. Denied (absent)."""
        return self._row(await self._desk.current(), name)

    async def set(self, asked: Asked, name: str, wanted: Mapping[str, Any]) -> tuple[Row, bool]:
        """Make a budget, or change what is sent of it; whether it is new to the store. One of the config is copied, with what is sent
        in the place of its own, and the copy holds from then on.
        """
        name = given.one(NAMED_THING, name, "name")
        if wanted.get("name") not in (None, name):
            raise given.unfit(("name", "is another one than in the path"))
        is_new = False

        def make(decided: Decided) -> list[Change]:
            nonlocal is_new
            decision = decided.budgets.get(name)
            asked.check(decision.version if decision is not None else None)
            is_new = decision is None
            whole = self._fields(decided, name) | {field: value for field, value in wanted.items() if field != "name"}
            body = body_of_budget(asked, whole | {"name": name})
            version = decision.version if decision is not None else None
            before = told_of_config(self._desk.settings(), name)
            return [change(asked, "budget.set", BUDGET, name, body, version, before)]

        decided = await self._desk.decide(make)
        return self._row(decided, name), is_new

    async def unset(self, asked: Asked, name: str) -> Row | None:
        """Take what was decided away. The row of the config's budget that holds again, if there is one."""

        def make(decided: Decided) -> list[Change]:
            decision = decided.budgets.get(name)
            if decision is None:
                if name in self._of_config():
                    raise Denied("conflict", "this budget stands in the config and nowhere else: change it there")
                raise self._absent(decided, name)
            asked.check(decision.version)
            return [change(asked, "budget.unset", BUDGET, name, None, decision.version)]

        decided = await self._desk.decide(make)
        return self._row(decided, name) if name in self._of_config() else None

    async def reset(self, asked: Asked, name: str, scope: str = "") -> Row:
        """What was spent so far in the running window does not count any more. Counters and records stay as they are."""
        budget = self._budget(await self._desk.current(), name)
        window = _window(budget)
        account = Account(_account_scope(budget, scope), window.name)
        target = str(account)
        if len(target) > 256:
            raise given.unfit(("scope", "is too long to be reset"))
        (balance,) = await self._desk.store.read((account,))
        forgiven = max(0, balance.spent_nanousd)
        if forgiven + budget.limit_nanousd > MAX_LIMIT_NANOUSD:
            raise Denied("conflict", "so much has been spent that a reset would go beyond what is counted exactly")
        ends = window.end if budget.window != "total" else 0
        body = {
            "forgiven_nanousd": forgiven,
            "budget": name,
            "ends_at": ends,
            "by": asked.by,
            "at": now_text(),
            "reason": masked(asked.reason),
        }

        def make(decided: Decided) -> list[Change]:
            known, budget = decided.resets.get(target), decided.budgets.get(name)
            asked.check(budget.version if budget is not None else None)
            made = [change(asked, "budget.reset", RESET, target, body, known.version if known is not None else None)]
            return made + _forget(decided, target)

        decided = await self._desk.decide(make)
        row = self._row(decided, name)
        told = _balance(row["limit_nanousd"], balance, self._forgiven(decided, account), ends)
        return row | {"account": target, "scope": account.scope} | told

    # -- what there is ------------------------------------------------------------------------------------------------

    def _of_config(self) -> dict[str, Budget]:
        return of_config(self._desk.settings())

    def _fields(self, decided: Decided, name: str) -> Row:
        """What is known of a budget, as it would be written; nothing of one that is not there."""
        if name in decided.budgets:
            known = {field for field, _ in given.declared(Budget)}
            return {field: value for field, value in decided.budgets[name].body.items() if field in known}
        found = self._of_config().get(name)
        return shown(found) if found is not None else {}

    def _budget(self, decided: Decided, name: str) -> Budget:
        fields = self._fields(decided, name)
        if not fields:
            raise self._absent(decided, name)
        return settings_of(Budget, fields)

    @staticmethod
    def _forgiven(decided: Decided, account: Account) -> int:
        found = decided.resets.get(str(account))
        return int(found.means) if found is not None else 0

    def _absent(self, decided: Decided, name: str) -> Denied:
        return Denied("absent", f"there is no such budget{near(name, {**self._of_config(), **decided.budgets})}")

    def _row(self, decided: Decided, name: str) -> Row:
        fields = shown(self._budget(decided, name))
        fields.pop("name")
        limit = self._budget(decided, name).limit_nanousd
        return {
            "budget": name,
            **fields,
            "limit_nanousd": limit,
            **decided.about_budget(name),
        }


def _window(budget: Budget) -> Window:
    """The one that runs."""
    return window_at(budget.window, ZoneInfo(budget.timezone), time.time(), WEEK_STARTS[budget.week_start])


def _balance(limit_nanousd: int, balance: Balance, forgiven_nanousd: int, ends: int) -> Row:
    """As ``GET /api/v1/budgets`` tells it: what was forgiven stands by itself."""
    spent = max(0, balance.spent_nanousd - forgiven_nanousd)
    amounts = {
        "spent": spent,
        "held": balance.held_nanousd,
        "remaining": max(0, limit_nanousd - spent - balance.held_nanousd),
        "forgiven": forgiven_nanousd,
    }
    return {
        "window_id": balance.account.window,
        **{f"{name}_nanousd": amount for name, amount in amounts.items()},
        **{f"{name}_usd": format_usd(amount) for name, amount in amounts.items()},
        "resets_at": datetime.fromtimestamp(ends, UTC).isoformat() if ends else None,
    }


def _fits(budget: Budget, scope: str) -> bool:
    try:
        return bool(_account_scope(budget, scope))
    except Denied:
        return False


def of_config(settings: Settings) -> dict[str, Budget]:
    """The budgets that stand there, by name."""
    return {budget_name(each): each for each in settings.budgets}


def told_of_config(settings: Settings, name: str) -> Row | None:
    """What the config says of a budget, as the log tells it; None where it does not know it."""
    found = of_config(settings).get(name)
    return shown(found) | {"name": name} if found is not None else None


def body_of_budget(asked: Asked, whole: Mapping[str, Any]) -> Row:
    """The body of an entry: all fields of the block, checked. Denied with all that is wrong."""
    return shown(given.block(Budget, whole)) | {"by": asked.by, "at": now_text(), "reason": masked(asked.reason)}


def _account_scope(budget: Budget, wanted: str) -> str:
    """The scope of the account that is meant: a budget for each of many has to be told which."""
    own = parse_scope(budget.scope)
    if own.kinds & SINGLE:
        raise Denied("conflict", "a limit on single calls or requests has nothing to reset")
    if not own.is_general:
        if wanted and wanted not in (budget.scope, account_scope(own)):
            raise given.unfit(("scope", f"is not that of the budget: {budget.scope}"))
        return account_scope(own)
    if not wanted:
        raise given.unfit(("scope", f"is needed: this budget is one for each of {budget.scope}, so say which"))
    try:
        meant = parse_scope(wanted)
    except ValueError as error:
        raise given.unfit(("scope", str(error))) from None
    pairs = list(zip(own.parts, meant.parts, strict=False))
    alike = len(own.parts) == len(meant.parts) and all(
        (one.kind, one.tag) == (other.kind, other.tag) and one.name in ("*", other.name) for one, other in pairs
    )
    if meant.is_general or not alike:
        raise given.unfit(("scope", f"is none that this budget limits: {budget.scope}"))
    return account_scope(meant)


def _forget(decided: Decided, but: str) -> list[Change]:
    """Resets of windows that are over."""
    now = time.time()
    over = [
        (name, each)
        for name, each in decided.resets.items()
        if name != but and each.body.get("ends_at") and each.body["ends_at"] < now
    ]
    by = Asked("tollgate", "its window is over")
    return [change(by, "budget.reset", RESET, name, None, each.version) for name, each in over[:FORGOTTEN_AT_ONCE]]
