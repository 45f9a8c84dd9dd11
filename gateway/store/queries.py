"""What can be asked of the books without changing them. Plain functions over a connection that only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import orjson

from gateway.accounts import Account, Balance
from gateway.call import from_json
from gateway.store import Which
from gateway.tallies import Tally

_DIFFERENCES = """
    SELECT scope, "window", sum(spent), sum(held) FROM (
        SELECT scope, "window", spent - archived AS spent, held AS held FROM accounts
        UNION ALL
        SELECT json_extract(a.value, '$[0]'), json_extract(a.value, '$[1]'), -cost, 0
        FROM records, json_each(records.accounts) AS a
        UNION ALL
        SELECT json_extract(p.value, '$[0]'), json_extract(p.value, '$[1]'), 0, -json_extract(p.value, '$[2]')
        FROM holds, json_each(holds.parts) AS p
    ) GROUP BY scope, "window" HAVING sum(spent) <> 0 OR sum(held) <> 0
"""

_BALANCES = """
    SELECT json_group_array(json_array(coalesce(a.spent, 0), coalesce(a.held, 0))) FROM json_each(?) AS asked
    LEFT JOIN accounts AS a ON a.scope = json_extract(asked.value, '$[0]') AND a."window" = json_extract(asked.value, '$[1]')
"""


def balances(connection: sqlite3.Connection, accounts: Sequence[Account]) -> list[Balance]:
    """In the order asked for; zeros for an account that is not in the books."""
    asked = orjson.dumps([(account.scope, account.window) for account in accounts]).decode()
    (text,) = connection.execute(_BALANCES, (asked,)).fetchone()
    return [Balance(account, *pair) for account, pair in zip(accounts, orjson.loads(text), strict=True)]


def accounts(connection: sqlite3.Connection, which: Which) -> list[Balance]:
    """A page of those of a window. One row comes back, as JSON: each row more would ask for the GIL again."""
    used = "a.spent + a.held"
    if which.by_use:
        order, bound = f"{used} DESC, a.scope", f"(?7 IS NULL OR {used} < ?7 OR ({used} = ?7 AND a.scope > ?6))"
    else:
        order, bound = "a.scope", "?7 IS NULL AND a.scope > ?6"
    (text,) = connection.execute(
        "SELECT json_group_array(json_array(scope, spent, held)) FROM (SELECT a.scope, a.spent, a.held"  # noqa: S608
        # the names alone are read in order, out of the index; each balance is a look into the table
        ' FROM accounts AS named CROSS JOIN accounts AS a ON a.scope = named.scope AND a."window" = named."window"'
        ' WHERE named."window" = ?1 AND named.scope GLOB ?2 AND NOT named.scope GLOB ?3'
        " AND named.scope NOT IN (SELECT value FROM json_each(?4)) AND (?5 = '' OR instr(lower(named.scope), ?5))"
        f" AND {bound} ORDER BY {order} LIMIT ?8)",
        (
            which.window,
            which.pattern,
            "+".join("*" * (which.pattern.count("+") + 2)),
            orjson.dumps(which.without).decode(),
            which.search.lower(),
            which.after,
            which.most_used,
            which.limit,
        ),
    ).fetchone()
    return [Balance(Account(scope, which.window), spent, held) for scope, spent, held in orjson.loads(text)]


def find(connection: sqlite3.Connection, call_id: str) -> dict[str, Any] | None:
    """The record of one call."""
    row = connection.execute("SELECT record FROM records WHERE call_id = ?", (call_id,)).fetchone()
    return _record(row) if row else None


def recent(connection: sqlite3.Connection, limit: int, before: str, correlation_id: str) -> list[dict[str, Any]]:
    """Newest first. ``before`` is a call id; one that retention has deleted is the end of the list."""
    conditions, values = ["1"], []
    if correlation_id:
        conditions.append("correlation_id = ?")
        values.append(correlation_id)
    if before:
        conditions.append("(started_at, call_id) < (SELECT started_at, call_id FROM records WHERE call_id = ?)")
        values.append(before)
    rows = connection.execute(
        f"SELECT record FROM records WHERE {' AND '.join(conditions)}"  # noqa: S608 - the conditions are written above
        " ORDER BY started_at DESC, call_id DESC LIMIT ?",
        (*values, limit),
    )
    return [_record(row) for row in rows]


def awaiting(connection: sqlite3.Connection, provider: str, key: str) -> dict[str, Any] | None:
    """The record of the call that awaits an answer of this name."""
    rows = connection.execute("SELECT record FROM records WHERE awaits = ? AND awaits <> ''", (key,))
    return next((record for record in map(_record, rows) if record["provider"] == provider), None)


def holds(connection: sqlite3.Connection) -> int:
    """How many calls hold something."""
    return int(connection.execute("SELECT count(*) FROM holds").fetchone()[0])


def tallies(connection: sqlite3.Connection, since: int, until: int) -> list[Tally]:
    """How well targets were met, in the buckets in between."""
    rows = connection.execute(
        "SELECT bucket, target, calls, missed FROM tallies WHERE bucket >= ? AND bucket < ? ORDER BY bucket, target",
        (since, until),
    )
    return [Tally(*row) for row in rows]


def differences(connection: sqlite3.Connection) -> list[Balance]:
    """Accounts whose balance is not the sum of what stands behind it: records (and deleted ones) for spent, holds for
    held. The figures are what the account has beyond that sum. None is right; anything else is a bug or a damaged file.
    """
    rows = connection.execute(_DIFFERENCES).fetchall()
    return [Balance(Account(scope, window), spent, held) for scope, window, spent, held in rows]


def _record(row: tuple[str]) -> dict[str, Any]:
    return from_json(row[0])
