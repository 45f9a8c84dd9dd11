"""The tables in the file: their schema, its upgrades, and connections to it. What a batch reads and writes of them is in ``pages``."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable

from gateway.errors import Failure, Kind, Whose

MIN_SQLITE = (3, 37, 0)
"""STRICT tables (2021-11-27): a sum that leaves int64 is an error there, and no silent float."""

MAX_LOG_PAGES = 16_384
"""64 MB of write-ahead log: then the writer itself moves what is left of it, once, and the log starts at its beginning."""

UPGRADES: tuple[str, ...] = (
    """
    CREATE TABLE accounts (
        scope TEXT NOT NULL, "window" TEXT NOT NULL, spent INTEGER NOT NULL, held INTEGER NOT NULL,
        ends_at INTEGER NOT NULL DEFAULT 0, archived INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (scope, "window")
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX accounts_by_end ON accounts (ends_at);
    CREATE TABLE owners (
        owner TEXT PRIMARY KEY, name TEXT NOT NULL, lease_until REAL NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE holds (
        call_id TEXT PRIMARY KEY, amount INTEGER NOT NULL, owner TEXT NOT NULL, granted_at REAL NOT NULL,
        parts TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE records (
        call_id TEXT NOT NULL UNIQUE, cost INTEGER NOT NULL, outcome TEXT NOT NULL, accounts TEXT NOT NULL,
        started_at TEXT NOT NULL, record TEXT NOT NULL,
        correlation_id TEXT GENERATED ALWAYS AS (json_extract(record, '$.correlation_id')) VIRTUAL
    ) STRICT;
    CREATE INDEX records_by_start ON records (started_at, call_id);
    CREATE INDEX records_by_correlation ON records (correlation_id);
    """,
    """
    CREATE TABLE books (version TEXT PRIMARY KEY, packed BLOB NOT NULL) STRICT, WITHOUT ROWID
    """,
    """
    ALTER TABLE records ADD COLUMN awaits TEXT GENERATED ALWAYS AS (json_extract(record, '$.awaits')) VIRTUAL;
    CREATE INDEX records_by_awaited ON records (awaits) WHERE awaits <> ''
    """,
    """
    CREATE TABLE notices (
        scope TEXT NOT NULL, "window" TEXT NOT NULL, budget TEXT NOT NULL, percent INTEGER NOT NULL,
        "limit" INTEGER NOT NULL, spent INTEGER NOT NULL, owner TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (scope, "window", budget, percent)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE spend (
        hour TEXT NOT NULL, dims TEXT NOT NULL, calls INTEGER NOT NULL, failed INTEGER NOT NULL, refused INTEGER NOT NULL,
        input INTEGER NOT NULL, cached_input INTEGER NOT NULL, output INTEGER NOT NULL, cost_nanousd INTEGER NOT NULL,
        PRIMARY KEY (hour, dims)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX spend_by_hour ON spend (hour) WHERE length(hour) = 13;
    CREATE TABLE complete (since TEXT NOT NULL) STRICT;
    INSERT INTO complete SELECT coalesce(max(started_at), '') FROM records;
    ALTER TABLE records ADD COLUMN spend TEXT
    """,
    """
    CREATE TABLE tallies (
        bucket INTEGER NOT NULL, target TEXT NOT NULL, calls INTEGER NOT NULL, missed INTEGER NOT NULL,
        PRIMARY KEY (bucket, target)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE entries (
        kind TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, body TEXT, PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX entries_by_version ON entries (version);
    CREATE TABLE changes (
        revision INTEGER PRIMARY KEY, at TEXT NOT NULL, by TEXT NOT NULL, action TEXT NOT NULL, kind TEXT NOT NULL,
        name TEXT NOT NULL, before TEXT, after TEXT, reason TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE limits (
        scope TEXT NOT NULL, unit TEXT NOT NULL, level INTEGER NOT NULL, at_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL,
        PRIMARY KEY (scope, unit)
    ) STRICT, WITHOUT ROWID;
    ALTER TABLE holds ADD COLUMN uses TEXT
    """,
    """
    ALTER TABLE notices RENAME TO old_notices;
    CREATE TABLE notices (
        scope TEXT NOT NULL, "window" TEXT NOT NULL, budget TEXT NOT NULL, percent INTEGER NOT NULL,
        "limit" INTEGER NOT NULL, forgiven INTEGER NOT NULL, spent INTEGER NOT NULL, owner TEXT NOT NULL,
        told INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (scope, "window", budget, percent, "limit", forgiven)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO notices (scope, "window", budget, percent, "limit", forgiven, spent, owner, told)
    SELECT scope, "window", budget, percent, "limit", 0, spent, owner, told FROM old_notices;
    DROP TABLE old_notices
    """,
    """
    ALTER TABLE spend ADD COLUMN estimated INTEGER;
    ALTER TABLE spend ADD COLUMN unpriced INTEGER;
    CREATE INDEX accounts_by_window ON accounts ("window")
    """,
    """
    ALTER TABLE records RENAME COLUMN record TO keys;
    ALTER TABLE records ADD COLUMN text TEXT;
    ALTER TABLE records ADD COLUMN record TEXT GENERATED ALWAYS AS (coalesce(text, keys)) VIRTUAL
    """,
)
"""Step n takes a file from schema version n to n + 1 (``PRAGMA user_version``). Steps are added, never changed.

``archived`` is what the records that retention has deleted had charged: spent = archived + the records, always.
``complete.since`` is the moment from which on every record and all sums are there: a file of an earlier version begins its sums
with the upgrade. ``records.spend`` is what a lost call added to the sums, which may have to be taken back. ``spend.estimated``
and what follows it are NULL in rows of earlier versions, and stay so when something is added: not known, and never half known.
``records.keys`` is what a record is looked for by, as JSON, and ``text`` all of it: SQLite parses what it derives columns from, and
all of it took 27,000 instructions a call. Rows of earlier versions have all of it in ``keys``; ``record`` is either's, for whoever reads.
``limits`` are as ``store.limits`` counts them, ``holds.uses`` what ends with a hold; both may be emptied, and no money is touched.
"""


def connect(path: str, durability: str, *, write: bool) -> sqlite3.Connection:
    """A connection in autocommit that never waits for a lock by itself: sqlite's own waiting sleeps in steps that
    reached 230 ms with two writers, against 12 ms for short ones of our own.

    WAL with ``synchronous=NORMAL`` survives the death of the process, FULL (an fsync each commit) also that of the power.
    A file that this makes is for its owner alone: records have names of people in them. One that is there keeps its mode.
    """
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        raise Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, f"The store needs SQLite {MIN_SQLITE[0]}.{MIN_SQLITE[1]}.")
    if write and path != ":memory:":
        _begin_file(path)
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        if write:
            connection.execute(f"PRAGMA synchronous={'FULL' if durability == 'full' else 'NORMAL'}")
            connection.execute("PRAGMA journal_size_limit=67108864")
            connection.execute(f"PRAGMA wal_autocheckpoint={MAX_LOG_PAGES}")
        else:
            connection.execute("PRAGMA query_only=1")
    except BaseException:
        connection.close()
        raise
    return connection


def _begin_file(path: str) -> None:
    """Where there is none; sqlite gives the files beside it (-wal, -shm) the same mode. One that is there is not opened here: closing
    it would take from this process the locks that sqlite holds (fcntl(2)). What is in the way sqlite says better.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(os.path.realpath(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def move_log(connection: sqlite3.Connection) -> None:
    """Move what the write-ahead log holds into the file, as far as that goes without making a writer wait."""
    with contextlib.suppress(sqlite3.Error):  # another process does it, or the disk is full: the next time is soon
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def prepare(connection: sqlite3.Connection) -> None:
    """Bring the file to this version's schema. Failure for a file that a later version has written."""
    if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
        raise sqlite3.OperationalError("the file system cannot hold a write-ahead log")
    version = schema_version(connection)
    if version > len(UPGRADES):
        raise Failure(
            Kind.STORE_UNAVAILABLE, Whose.OURS, "The store's file was written by a later version of Tollgate."
        )
    if version == len(UPGRADES):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in range(schema_version(connection), len(UPGRADES)):  # read again: another process may have been first
            for statement in UPGRADES[step].split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(UPGRADES)}")
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def schema_version(connection: sqlite3.Connection) -> int:
    """``PRAGMA user_version``: how many of the UPGRADES the file has seen."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def keep_book(path: str, version: str, pack: Callable[[], bytes]) -> None:
    """Put a price book beside the records that name it. On a connection of its own: it happens once a version."""
    with contextlib.closing(connect(path, "normal", write=True)) as connection:
        if not connection.execute("SELECT 1 FROM books WHERE version = ?", (version,)).fetchone():
            connection.execute("INSERT OR IGNORE INTO books (version, packed) VALUES (?, ?)", (version, pack()))


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction without a trace. Some errors (a full disk) have already ended it."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
