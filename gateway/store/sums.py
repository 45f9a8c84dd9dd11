"""The sums of spend in the file: read, condensed from hours to days, deleted, held against the records.

Owns the statements over the table ``spend``, but for the one by which a batch adds to it (``tables``). A row is one hour
("2026-11-21T05") or one day ("2026-11-21") of one combination of dimensions. Whoever reads never looks at a record.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from gateway.call import from_json
from gateway.store import SPEND_COUNTS, Spend
from gateway.store.rollups import beyond_records

_COUNTS = ", ".join(SPEND_COUNTS)
_SUMS = ", ".join(f"CASE WHEN count({count}) = count(*) THEN sum({count}) END" for count in SPEND_COUNTS)
"""One part that does not know a count makes a sum that does not know it."""
_READ = f"SELECT hour, dims, {_COUNTS} FROM spend WHERE hour >= ? AND hour < ? ORDER BY hour, dims"  # noqa: S608
_OLD_HOURS = "FROM spend WHERE length(hour) = 13 AND hour < ? ORDER BY hour, dims LIMIT ?"
_CONDENSE = (
    f"INSERT INTO spend (hour, dims, {_COUNTS}) SELECT substr(hour, 1, 10), dims,"  # noqa: S608 - names from this program
    f" {_SUMS}"
    f" FROM (SELECT * {_OLD_HOURS}) WHERE true GROUP BY 1, 2"
    f" ON CONFLICT DO UPDATE SET {', '.join(f'{count} = {count} + excluded.{count}' for count in SPEND_COUNTS)}"
)
_DROP_HOURS = f"DELETE FROM spend WHERE (hour, dims) IN (SELECT hour, dims {_OLD_HOURS})"  # noqa: S608
_DROP_DAYS = (
    "DELETE FROM spend WHERE (hour, dims) IN (SELECT hour, dims FROM spend WHERE hour < ? ORDER BY hour, dims LIMIT ?)"
)
_DAYS = """
    SELECT DISTINCT substr(hour, 1, 10) FROM spend WHERE hour >= substr(?1, 1, 10)
    UNION SELECT DISTINCT substr(started_at, 1, 10) FROM records WHERE started_at >= ?1
"""
_RECORDS = "SELECT record FROM records WHERE started_at >= ? AND started_at < ? AND substr(started_at, 1, 10) = ?"
_AFTER = "~"
"""Behind a day, it sorts after all moments of that day."""


def spend(connection: sqlite3.Connection, since: str, until: str) -> list[Spend]:
    """Rows of the hours and days from ``since`` to before ``until``, in their order."""
    rows = connection.execute(_READ, (since, until))
    return [Spend(hour, dims, tuple([count for count in counts if count is not None])) for hour, dims, *counts in rows]


def span(connection: sqlite3.Connection) -> tuple[str, str] | None:
    """The first and the last hour or day of which there are sums; None when there are none."""
    first, last = connection.execute("SELECT min(hour), max(hour) FROM spend").fetchone()
    return (first, last) if first is not None else None


def condense(connection: sqlite3.Connection, before: str, rows: int) -> int:
    """So many rows of hours before this day become rows of their days. Returns how many it took."""
    if connection.execute(f"SELECT 1 {_OLD_HOURS}", (before, 1)).fetchone() is None:
        return 0
    connection.execute(_CONDENSE, (before, rows))
    return connection.execute(_DROP_HOURS, (before, rows)).rowcount


def delete_days(connection: sqlite3.Connection, before: str, rows: int) -> int:
    """So many rows before this day go. Returns how many did."""
    gone = connection.execute(_DROP_DAYS, (before, rows)).rowcount
    if gone:
        mark_incomplete(connection, before)
    return gone


def mark_incomplete(connection: sqlite3.Connection, before: str) -> None:
    """Of what began before this moment, records or sums have been deleted: neither can be held against the other."""
    connection.execute("UPDATE complete SET since = ?1 WHERE since < ?1", (before,))


def differences(connection: sqlite3.Connection) -> list[Spend]:
    """By how much sums differ from the records behind them, for the hours (condensed: days) whose records are all still kept.

    None is right; anything else is a bug or a damaged file. Each day is looked at in one transaction of its own, so that what a
    running gateway books in between is on both sides or on none.
    """
    (since,) = connection.execute("SELECT since FROM complete").fetchone()
    found: list[Spend] = []
    for (day,) in connection.execute(_DAYS, (since,)).fetchall():
        connection.execute("BEGIN")
        try:
            found += _differences_of(connection, day, since)
        finally:
            connection.execute("COMMIT")
    return found


def _differences_of(connection: sqlite3.Connection, day: str, since: str) -> Iterator[Spend]:
    sums = [each for each in spend(connection, day, day + _AFTER) if each.hour[:10] == day]
    condensed = any(each.hour == day for each in sums)
    rows = connection.execute(_RECORDS, (day, day + _AFTER, day))
    found = beyond_records(sums, (from_json(text) for (text,) in rows), lambda hour: day if condensed else hour)
    return (each for each in found if each.hour >= since)
