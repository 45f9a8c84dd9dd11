"""What operators decide while the gateway runs, in the file: entries and the log of their changes.

Plain functions over a connection. It happens now and then, so that it has transactions of its own beside the writer's batches.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence

from gateway.changes import Change, Changed, Conflict, Entry
from gateway.store.tables import connect, roll_back

_REVISION = "SELECT coalesce(max(revision), 0) FROM changes"
_ONE = "SELECT version, body FROM entries WHERE kind = ? AND name = ?"
_PUT = (
    "INSERT INTO entries (kind, name, version, body) VALUES (?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET version = excluded.version, body = excluded.body"
)
_LOG = "INSERT INTO changes (revision, at, by, action, kind, name, before, after, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SINCE = "SELECT kind, name, version, body FROM entries WHERE version > ? ORDER BY version"
_CHANGES = (
    "SELECT revision, at, by, action, kind, name, before, after, reason FROM changes"
    " WHERE revision < ? ORDER BY revision DESC LIMIT ?"
)
LAST = 2**62


def change(path: str, durability: str, changes: Sequence[Change]) -> list[Entry] | Conflict:
    """All of them or none, on a connection of its own."""
    with contextlib.closing(connect(path, durability, write=True)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            made = _make(connection, changes)
            connection.execute("ROLLBACK" if isinstance(made, Conflict) else "COMMIT")
        except BaseException:
            roll_back(connection)
            raise
        return made


def _make(connection: sqlite3.Connection, changes: Sequence[Change]) -> list[Entry] | Conflict:
    made: list[Entry] = []
    at = revision(connection)
    for number, each in enumerate(changes, at + 1):
        version, before = connection.execute(_ONE, (each.kind, each.name)).fetchone() or (0, None)
        there = version if before is not None else 0
        if each.expected is not None and each.expected != there:
            return Conflict(each.kind, each.name, there)
        after = _text(each.body)
        before = before if before is not None else _text(each.before)
        connection.execute(_PUT, (each.kind, each.name, number, after))
        told = (number, each.at, each.by, each.action, each.kind, each.name, before, after, each.reason)
        connection.execute(_LOG, told)
        made.append(Entry(each.kind, each.name, number, each.body))
    return made


def revision(connection: sqlite3.Connection) -> int:
    """The revision of the newest change; 0 before the first one."""
    return int(connection.execute(_REVISION).fetchone()[0])


def since(connection: sqlite3.Connection, version: int) -> list[Entry]:
    """Entries that changed after a revision, in that order; those that were taken away too."""
    rows = connection.execute(_SINCE, (version,))
    return [Entry(kind, name, at, _bytes(body)) for kind, name, at, body in rows]


def log(connection: sqlite3.Connection, limit: int, before: int) -> list[Changed]:
    """The newest changes before a revision (0: of all), newest first."""
    rows = connection.execute(_CHANGES, (before or LAST, limit))
    return [
        Changed(number, at, by, action, kind, name, _bytes(old), _bytes(new), reason)
        for number, at, by, action, kind, name, old, new, reason in rows
    ]


def _text(body: bytes | None) -> str | None:
    return body.decode() if body is not None else None


def _bytes(text: str | None) -> bytes | None:
    return text.encode() if text is not None else None
