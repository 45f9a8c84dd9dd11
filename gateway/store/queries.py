"""What can be asked of the books without changing them. Plain functions over a connection that only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from gateway.accounts import Account, Balance
from gateway.call import from_json
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


def balances(connection: sqlite3.Connection, accounts: Sequence[Account]) -> list[Balance]:
    """In the order asked for; zeros for an account that is not in the books."""
    found = []
    for account in accounts:
        row = connection.execute(
            'SELECT spent, held FROM accounts WHERE scope = ? AND "window" = ?', (account.scope, account.window)
        ).fetchone()
        found.append(Balance(account, *(row or (0, 0))))
    return found


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
