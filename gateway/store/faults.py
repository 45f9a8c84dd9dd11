"""SQLite's errors as failures of the store: the only place that names them, so that nobody above has to.

The message says what is wrong and what to do, for a client as much as for a log; it holds no path and no value.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from gateway.errors import Failure, Kind, Whose

T = TypeVar("T")

FAULTS: tuple[tuple[str, str, bool], ...] = (
    ("SQLITE_BUSY", "is locked by another process", True),
    ("SQLITE_LOCKED", "is locked by another connection", True),
    ("SQLITE_FULL", "has no space left on its disk", True),
    ("SQLITE_IOERR", "cannot be read or written: its disk reports an error", True),
    ("SQLITE_READONLY", "may not be written: the file or its folder is read-only", False),
    ("SQLITE_CANTOPEN", "cannot be opened: the folder does not exist or may not be used", False),
    ("SQLITE_CORRUPT", "is damaged", False),
    ("SQLITE_NOTADB", "is not a database", False),
)
"""Start of SQLite's error name, what it means here, and whether trying again makes sense (sqlite.org/rescode.html)."""

LOCKS = ("SQLITE_BUSY", "SQLITE_LOCKED")
SHORT_WAIT_S = (0.0001, 0.0004)
"""Two writers that wait like this meet a worst case of 12 ms; with ``busy_timeout`` it was 230 ms (measured)."""


def as_failure(error: sqlite3.Error) -> Failure:
    """The same, in the words of the house."""
    name = getattr(error, "sqlite_errorname", "") or ""
    for start, meaning, may_retry in FAULTS:
        if name.startswith(start):
            return Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, f"The store {meaning}.", may_retry=may_retry)
    return Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, "The store cannot do what was asked of it.")


def is_lock(error: Exception) -> bool:
    """Somebody else is writing: a matter of waiting."""
    return (getattr(error, "sqlite_errorname", "") or "").startswith(LOCKS)


def patiently(action: Callable[[], T], patience_s: float) -> T:
    """Try until no lock is in the way, for so many seconds; blocks the thread, so never on the event loop."""
    give_up = time.monotonic() + patience_s
    while True:
        try:
            return action()
        except sqlite3.Error as error:
            if not is_lock(error) or time.monotonic() >= give_up:
                raise
        time.sleep(random.uniform(*SHORT_WAIT_S))  # noqa: S311 - to fall out of step with the other, not a secret
