"""The way between the tables in the file and a Page.

Owns every statement that a batch runs. A batch costs the same handful of statements whether it holds one operation or two
hundred: all rows are fetched by one statement that returns JSON, and written by statements of many rows. That matters
because sqlite3 gives up the GIL at each step of a statement, and under a busy event loop a thread waits up to 5 ms
(``sys.getswitchinterval``) to get it back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import Any

import orjson

from gateway.accounts import Notice, Use
from gateway.store import SPEND_COUNTS, Spend
from gateway.store.books import Operation
from gateway.store.kept import Kept
from gateway.store.limits import Levels
from gateway.store.page import Booked, Granted, Key, Line, Page, Part, Threshold

ROWS = (64, 32, 16, *range(8, 0, -1))
"""Of one INSERT. Few sizes, so that each statement is found prepared in sqlite3's cache of 128."""
MAX_REMEMBERED = 4096
"""Accounts of calls whose text is kept: writing it again costs 4,000 instructions, looking it up 1,000 (measured)."""

_CALLS = """
    SELECT (SELECT json_group_array(json_array(call_id, amount, owner, granted_at, json(parts), json(uses)))
            FROM json_each(?1) AS asked CROSS JOIN holds ON call_id = asked.value),
           (SELECT json_group_array(json_array(call_id, cost, outcome, json(accounts), json(spend)))
            FROM json_each(?1) AS asked CROSS JOIN records ON call_id = asked.value)
"""
_BALANCES = """
    SELECT json_group_array(json_array(a.scope, a."window", a.spent, a.held, a.ends_at))
    FROM json_each(?) AS asked CROSS JOIN accounts AS a
    ON a.scope = json_extract(asked.value, '$[0]') AND a."window" = json_extract(asked.value, '$[1]')
"""
_LEVELS = f"""
    SELECT ({_BALANCES}), (
    SELECT json_group_array(json_array(l.scope, l.unit, l.level, l.at_ms, l.until_ms)) FROM json_each(?) AS asked
    CROSS JOIN limits AS l ON l.scope = json_extract(asked.value, '$[0]') AND l.unit = json_extract(asked.value, '$[1]'))
"""  # noqa: S608 - made of what stands here
_PUT_LEVELS = (
    "INSERT INTO limits (scope, unit, level, at_ms, until_ms) VALUES ",
    " ON CONFLICT DO UPDATE SET level = excluded.level, at_ms = excluded.at_ms, until_ms = excluded.until_ms",
)
_PUT_ACCOUNTS = (
    'INSERT INTO accounts (scope, "window", spent, held, ends_at) VALUES ',
    " ON CONFLICT DO UPDATE SET spent = excluded.spent, held = excluded.held",
)
_PROLONG_ACCOUNTS = (_PUT_ACCOUNTS[0], f"{_PUT_ACCOUNTS[1]}, ends_at = excluded.ends_at")
"""Apart, because a statement that names ``ends_at`` writes its index anew for every row: a tenth of a reserve that is booked alone."""
_PUT_HOLDS = (
    "INSERT OR REPLACE INTO holds (call_id, amount, owner, granted_at, parts, uses) VALUES ",
    "",
    "(?,?,?,?,?,nullif(?,''))",
)
"""What mostly is NULL is given as an empty text: for None, sqlite3 looks for an adapter each time (2,500 instructions)."""
_PUT_RECORDS = (
    "INSERT INTO records (call_id, cost, outcome, accounts, started_at, keys, text, spend) VALUES ",
    (
        " ON CONFLICT (call_id) DO UPDATE SET cost = excluded.cost, outcome = excluded.outcome,"
        " accounts = excluded.accounts, started_at = excluded.started_at, keys = excluded.keys, text = excluded.text,"
        " spend = excluded.spend"
    ),
    "(?,?,?,?,?,?,?,nullif(?,''))",
)
_PUT_SPEND = (
    f"INSERT INTO spend (hour, dims, {', '.join(SPEND_COUNTS)}) VALUES ",  # noqa: S608 - names from this program
    f" ON CONFLICT DO UPDATE SET {', '.join(f'{count} = {count} + excluded.{count}' for count in SPEND_COUNTS)}",
)
_NOTICES = """
    SELECT json_group_array(json_array(budget, percent, "limit", forgiven)) FROM notices WHERE scope = ? AND "window" = ?
"""
_PUT_NOTICES = (
    'INSERT OR IGNORE INTO notices (scope, "window", budget, percent, "limit", forgiven, spent, owner) VALUES ',
    "",
)
_PUT_TALLIES = (
    "INSERT INTO tallies (bucket, target, calls, missed) VALUES ",
    " ON CONFLICT DO UPDATE SET calls = calls + excluded.calls, missed = missed + excluded.missed",
)
_DROP_HOLDS = "DELETE FROM holds WHERE call_id IN (SELECT value FROM json_each(?))"
_STRIKE_RECORDS = "DELETE FROM records WHERE call_id IN (SELECT value FROM json_each(?))"


def load(
    connection: sqlite3.Connection, operations: Sequence[Operation], now: float, owner: str, kept: Kept | None = None
) -> Page:
    """All that these operations can touch: their calls, their accounts, and the accounts that their calls stand on. What is ``kept``
    is not read again, and the page changes it.
    """
    page = Page(now, owner) if kept is None else Page(now, owner, kept.lines, kept.holds, told=kept.told)
    page.read_told = partial(_told, connection)
    unknown: list[str] = []
    uses: list[Use] = []
    for operation in operations:
        hold = page.holds.get(operation.call_id)
        if hold is None:
            unknown.append(operation.call_id)
        else:
            uses += hold.uses
        uses += operation.uses
    granted, booked = _calls(connection, unknown)
    page.records = {row[0]: _record_of(*row) for row in booked}
    needed = {(scope, window) for row in granted for scope, window, *_ in row[4]}
    needed.update(*[operation.accounts for operation in operations], *[each.accounts for each in page.records.values()])
    limited = {(use.scope, use.unit) for use in uses}
    limited.update((scope, unit) for row in granted if row[5] for scope, unit, *_ in row[5])
    _load_accounts(connection, page, needed.difference(page.lines), limited)
    page.holds.update({row[0]: _hold_of(page, *row) for row in granted})
    return page


def _calls(connection: sqlite3.Connection, call_ids: Sequence[str]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Rows of holds, and of records."""
    if not call_ids:
        return (), ()
    granted, booked = connection.execute(_CALLS, (_json(call_ids),)).fetchone()
    return _parse(granted), _parse(booked)


def _record_of(call_id: str, cost: int, outcome: str, accounts: Sequence[tuple[str, str]], added: Any) -> Booked:
    spend = Spend(added[0], added[1], tuple(added[2])) if added else None
    return Booked(call_id, cost, outcome, tuple([(scope, window) for scope, window in accounts]), spend=spend)


def _hold_of(page: Page, call_id: str, amount: int, owner: str, granted_at: float, parts: Any, uses: Any) -> Granted:
    made = [Part((scope, window), part, budget) for scope, window, part, budget in parts]
    used = tuple([Use(*each) for each in uses]) if uses else ()
    return Granted(call_id, amount, owner, granted_at, [(part, page.lines[part.account]) for part in made], used)


def _load_accounts(
    connection: sqlite3.Connection, page: Page, accounts: set[Key], limits: set[tuple[str, str]]
) -> None:
    """Their lines, and how full these limits are."""
    balances, levels = "[]", "[]"
    if limits:
        balances, levels = connection.execute(_LEVELS, (_names(accounts), _json(list(limits)))).fetchone()
    elif accounts:
        (balances,) = connection.execute(_BALANCES, (_names(accounts),)).fetchone()
    page.lines.update({account: Line(*account) for account in accounts})
    page.lines.update({(scope, window): Line(scope, window, *rest) for scope, window, *rest in _parse(balances)})
    page.limits = Levels(int(page.now * 1000), {(scope, unit): tuple(level) for scope, unit, *level in _parse(levels)})


def _told(connection: sqlite3.Connection, account: Key) -> set[Threshold]:
    """The thresholds of an account that have been crossed."""
    (told,) = connection.execute(_NOTICES, tuple(account)).fetchone()
    return set(map(tuple, _parse(told)))


def _names(accounts: Iterable[Key]) -> str:
    """As JSON, for those that a table can hold: SQLite's text functions end at a NUL, and two accounts could become one."""
    if any("\0" in name for account in accounts for name in account):
        raise ValueError("the name of an account holds a NUL")
    return _json([*map(tuple, accounts)])


def save(connection: sqlite3.Connection, page: Page) -> None:
    """Write what has changed."""
    _put(connection, _PUT_ACCOUNTS, [_account_row(line) for line in page.changed_lines - page.prolonged])
    _put(connection, _PROLONG_ACCOUNTS, [_account_row(line) for line in page.prolonged])
    _put(connection, _PUT_HOLDS, [_hold_row(page.holds[call]) for call in page.changed_holds if call in page.holds])
    _put(connection, _PUT_RECORDS, [_record_row(page.records[c]) for c in page.changed_records if c in page.records])
    _put(connection, _PUT_SPEND, _spend_rows(page.spend))
    _put(connection, _PUT_NOTICES, [_notice_row(page, notice) for notice in page.crossed])
    _put(connection, _PUT_TALLIES, page.tallies)
    _put(connection, _PUT_LEVELS, [(*key, *page.limits.of[key]) for key in page.limits.changed])
    _mark_heard(connection, page.heard)
    for statement, gone in (
        (_DROP_HOLDS, [call for call in page.changed_holds if call not in page.holds]),
        (_STRIKE_RECORDS, [call for call in page.changed_records if call not in page.records]),
    ):
        if gone:
            connection.execute(statement, (_json(gone),))


def _account_row(line: Line) -> tuple[Any, ...]:
    return (line.scope, line.window, line.spent, line.held, line.ends_at)


def _hold_row(hold: Granted) -> tuple[Any, ...]:
    parts = _json([(line.scope, line.window, part.amount_nanousd, part.budget) for part, line in hold.parts])
    uses = _json([(use.scope, use.unit, use.amount, use.allowed, use.limit) for use in hold.uses]) if hold.uses else ""
    return (hold.call_id, hold.amount_nanousd, hold.owner, hold.granted_at, parts, uses)


def _record_row(booked: Booked) -> tuple[Any, ...]:
    accounts = _accounts(booked.accounts)
    spend = _json((booked.spend.hour, booked.spend.dims, booked.spend.counts)) if booked.spend is not None else ""
    keys, text = _record_texts(booked)
    return (booked.call_id, booked.cost_nanousd, booked.outcome, accounts, booked.started_at, keys, text, spend)


def _record_texts(booked: Booked) -> tuple[str, str | None]:
    """What the record is looked for by, and all of it; where nobody has said the former, all of it is both."""
    record = booked.record.decode()
    if not booked.correlation_id:
        return record, None
    keys = {"correlation_id": booked.correlation_id}
    if booked.awaits:
        keys["awaits"] = booked.awaits
    return _json(keys), record


@lru_cache(maxsize=MAX_REMEMBERED)
def _accounts(accounts: tuple[Key, ...]) -> str:
    return _json([*map(tuple, dict.fromkeys(accounts))])


def _spend_rows(spend: Mapping[tuple[str, str], Sequence[tuple[int, ...]]]) -> list[tuple[Any, ...]]:
    """The sums, as far as every one of a row knows its counts."""
    sums = [(key, tuple(map(sum, zip(*counts, strict=False)))) for key, counts in spend.items()]
    return [(*key, *counts, *(None,) * (len(SPEND_COUNTS) - len(counts))) for key, counts in sums if any(counts)]


def _notice_row(page: Page, notice: Notice) -> tuple[Any, ...]:
    return (
        *notice.account,
        notice.budget,
        notice.percent,
        notice.limit_nanousd,
        notice.forgiven_nanousd,
        notice.spent_nanousd,
        page.owner,
    )


def _mark_heard(connection: sqlite3.Connection, notices: Sequence[Notice]) -> None:
    for notice in notices:
        connection.execute(
            'UPDATE notices SET told = 1 WHERE scope = ? AND "window" = ? AND budget = ? AND percent = ?'
            ' AND "limit" = ? AND forgiven = ?',
            (
                *notice.account,
                notice.budget,
                notice.percent,
                notice.limit_nanousd,
                notice.forgiven_nanousd,
            ),
        )


def _put(connection: sqlite3.Connection, statement: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """INSERT rows, as many at once as possible. ``statement`` is what stands before and behind them, and the marks of one row where
    they are not one for each column.
    """
    start = 0
    while start < len(rows):
        left = len(rows) - start
        count = next(size for size in ROWS if size <= left)
        some = rows[start : start + count]
        start += count
        connection.execute(_insert(statement, count, len(some[0])), list(chain.from_iterable(some)))


@lru_cache(maxsize=128)
def _insert(statement: tuple[str, ...], rows: int, columns: int) -> str:
    before, behind, *marks = statement
    row = marks[0] if marks else "(" + ",".join("?" * columns) + ")"
    return before + ",".join([row] * rows) + behind


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _parse(text: str) -> list[Any]:
    rows: list[Any] = orjson.loads(text)
    return rows
