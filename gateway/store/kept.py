"""What a writer still knows of the books from its own last transactions: balances of accounts, and holds of calls on their way.

Law: what stands here is what stands in the file. Others who share it may change it, but not within a write transaction, and not
without a change of ``PRAGMA data_version`` (sqlite.org/pragma.html#pragma_data_version); that spares the statements that would read
it again, half of the time of a small batch. What writes with the same connection, or fails, has to ``forget``.
"""

from __future__ import annotations

import sqlite3

from gateway.store.page import Granted, Key, Line, Threshold

MAX_KEPT = 10_000
"""Accounts, some 3 MB. Beyond that all are forgotten: those in use are read again at once."""


class Kept:
    """Lines by account, holds by call id, thresholds that were crossed by account: a hold that is kept has the lines of its accounts
    kept too. A batch works on these very objects.
    """

    __slots__ = ("_version", "holds", "lines", "told")

    def __init__(self) -> None:
        self.lines: dict[Key, Line] = {}
        self.holds: dict[str, Granted] = {}
        self.told: dict[Key, set[Threshold]] = {}
        self._version: int | None = None

    def look(self, connection: sqlite3.Connection) -> None:
        """Inside a write transaction, before anything is taken from here: has anybody else written?"""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version or len(self.lines) > MAX_KEPT:
            self.forget()
            self._version = version

    def forget(self) -> None:
        """Nothing of it is sure any more."""
        self.lines.clear()
        self.holds.clear()
        self.told.clear()
