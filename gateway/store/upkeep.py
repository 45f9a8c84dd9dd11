"""What keeps the books right while nobody asks: leases, lost calls, retention, sums that are condensed.

A lease belongs to a process, not to a hold: each open store writes one row into ``owners`` and moves its ``lease_until`` on
three times per lease. A hold whose owner has no valid row is lost, and whoever comes by charges it. The clock is the
machine's: all who share the file run on one machine (write-ahead logs do not work across a network), so they agree. If
that clock is set forward by more than a lease, living holds are charged as lost; each late settlement corrects its own.
"""

from __future__ import annotations

import sqlite3
from dataclasses import field

from gateway.accounts import Account, Notice
from gateway.store import sums
from gateway.store.books import Lapse
from gateway.store.lost import rfc3339
from gateway.store.page import Granted
from gateway.store.pages import load, save
from gateway.store.rollups import Rollups
from gateway.store.tables import roll_back
from gateway.tallies import KEPT_S
from gateway.value import value

STEP_ROWS = 256
"""Rows that one step charges or deletes: about 5 ms, so that no call waits long behind it."""
ACCOUNT_KEPT_S = 35 * 86400
"""How long an account stays after its window has ended, if nothing is held on it and its records are gone."""


@value
class Tenure:
    """One open store: ``owner`` is its own for as long as it is open, ``name`` is what its process is called.

    Names are unique among the processes that run at one time; so when a store opens, what an earlier one of the same
    name left behind is known to be dead. Times in seconds.
    """

    owner: str
    name: str
    lease_s: float
    retention_s: float
    rollups: Rollups = field(default_factory=Rollups)


@value
class Found:
    """What one step found: the holds that it charged as lost, thresholds that a dead process had no time to tell of, and
    whether there is more to do.
    """

    lost: tuple[Granted, ...]
    untold: tuple[Notice, ...]
    more: bool


def begin_tenure(connection: sqlite3.Connection, tenure: Tenure) -> None:
    """Take over from a dead process of the same name: its leases end now."""
    connection.execute("DELETE FROM owners WHERE name = ? AND owner <> ?", (tenure.name, tenure.owner))


def end_tenure(connection: sqlite3.Connection, tenure: Tenure) -> None:
    """Nobody answers any more for what this store still holds."""
    connection.execute("DELETE FROM owners WHERE owner = ?", (tenure.owner,))


def step(connection: sqlite3.Connection, tenure: Tenure, now: float) -> Found:
    """One transaction: renew the own lease, charge lapsed holds, condense sums, delete what is older than retention."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        _renew(connection, tenure, now)
        untold = _inherit_notices(connection, tenure, now)
        lost = _charge_lapsed(connection, now, tenure.rollups.by)
        deleted = _delete_records(connection, rfc3339(max(0.0, now - tenure.retention_s)))
        deleted = max(deleted, _delete_accounts(connection, now - ACCOUNT_KEPT_S))
        deleted = max(deleted, sums.condense(connection, _day(now - tenure.rollups.hours_s), STEP_ROWS))
        deleted = max(deleted, sums.delete_days(connection, _day(now - tenure.rollups.days_s), STEP_ROWS))
        deleted = max(deleted, _delete_tallies(connection, int(now - KEPT_S)))
        deleted = max(deleted, _delete_limits(connection, int(now * 1000)))
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return Found(tuple(lost), tuple(untold), more=max(len(lost), deleted) >= STEP_ROWS)


def _renew(connection: sqlite3.Connection, tenure: Tenure, now: float) -> None:
    connection.execute(
        "INSERT INTO owners (owner, name, lease_until) VALUES (?, ?, ?)"
        " ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until",
        (tenure.owner, tenure.name, now + tenure.lease_s),
    )


def _inherit_notices(connection: sqlite3.Connection, tenure: Tenure, now: float) -> list[Notice]:
    rows = connection.execute(
        "UPDATE notices SET owner = ? WHERE told = 0 AND owner NOT IN (SELECT owner FROM owners WHERE lease_until >= ?)"
        ' RETURNING scope, "window", budget, percent, "limit", spent, forgiven',
        (tenure.owner, now),
    ).fetchall()
    return [Notice(Account(scope, window), *rest) for scope, window, *rest in rows]


def _charge_lapsed(connection: sqlite3.Connection, now: float, by: tuple[str, ...]) -> list[Granted]:
    rows = connection.execute(
        "SELECT call_id FROM holds WHERE owner NOT IN (SELECT owner FROM owners WHERE lease_until >= ?) LIMIT ?",
        (now, STEP_ROWS),
    ).fetchall()
    if len(rows) < STEP_ROWS:
        connection.execute("DELETE FROM owners WHERE lease_until < ?", (now,))
    if not rows:
        return []
    lapses = [Lapse(call_id, by) for (call_id,) in rows]
    page = load(connection, lapses, now, "")
    lost = [lapse.apply(page) for lapse in lapses]
    save(connection, page)
    return [hold for hold in lost if hold is not None]


def _delete_records(connection: sqlite3.Connection, before: str) -> int:
    """The oldest records go; what they charged stays in the accounts, as ``archived``."""
    oldest = "SELECT rowid FROM records WHERE started_at < ? ORDER BY started_at, call_id LIMIT ?"
    if connection.execute(oldest, (before, 1)).fetchone() is None:
        return 0
    connection.execute(
        "UPDATE accounts SET archived = archived + old.cost FROM ("  # noqa: S608 - both parts are written in this file
        " SELECT json_extract(a.value, '$[0]') AS scope, json_extract(a.value, '$[1]') AS \"window\", sum(r.cost) AS cost"
        f" FROM records AS r, json_each(r.accounts) AS a WHERE r.rowid IN ({oldest}) GROUP BY 1, 2"
        ') AS old WHERE accounts.scope = old.scope AND accounts."window" = old."window"',
        (before, STEP_ROWS),
    )
    sums.mark_incomplete(connection, before)
    return connection.execute(
        f"DELETE FROM records WHERE rowid IN ({oldest})",  # noqa: S608 - as above
        (before, STEP_ROWS),
    ).rowcount


def _delete_tallies(connection: sqlite3.Connection, before: int) -> int:
    return connection.execute(
        "DELETE FROM tallies WHERE (bucket, target) IN (SELECT bucket, target FROM tallies WHERE bucket < ? LIMIT ?)",
        (before, STEP_ROWS),
    ).rowcount


def _delete_limits(connection: sqlite3.Connection, now_ms: int) -> int:
    """Buckets that have run empty."""
    return connection.execute(
        "DELETE FROM limits WHERE (scope, unit) IN (SELECT scope, unit FROM limits WHERE until_ms < ? LIMIT ?)",
        (now_ms, STEP_ROWS),
    ).rowcount


def _day(at: float) -> str:
    """The day of a moment: what is of earlier days is older."""
    return rfc3339(max(0.0, at))[:10]


def _delete_accounts(connection: sqlite3.Connection, ended_before: float) -> int:
    gone = connection.execute(
        'DELETE FROM accounts WHERE (scope, "window") IN (SELECT scope, "window" FROM accounts'
        " WHERE ends_at > 0 AND ends_at < ? AND held = 0 AND spent = archived LIMIT ?)"
        ' RETURNING scope, "window"',
        (ended_before, STEP_ROWS),
    ).fetchall()
    connection.executemany('DELETE FROM notices WHERE scope = ? AND "window" = ?', gone)
    return len(gone)
