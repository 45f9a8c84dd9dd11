"""The books of a SQLite file, opened for reading only: what audits and reports go through, while a gateway runs or not.

Records come in the order of their start, a page at a time, so that a long look holds up no writer and keeps nothing in memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateway.accounts import Balance
from gateway.call import CORRECTED, from_json
from gateway.errors import Failure, Kind, Whose
from gateway.store import Spend, queries, sums
from gateway.store.faults import as_failure, patiently
from gateway.store.tables import UPGRADES, connect, schema_version

PAGE_ROWS = 1000
PATIENCE_S = 5.0
_RECORDS = """
    SELECT started_at, call_id, record FROM records
    WHERE (started_at, call_id) > (?, ?) AND started_at < ? ORDER BY started_at, call_id LIMIT ?
"""
_SETTLED = "SELECT rowid, record FROM records WHERE rowid > ? ORDER BY rowid LIMIT ?"
_COUNT = "SELECT count(*) FROM records WHERE started_at >= ? AND started_at < ?"
LAST = "9999"


class Archive:
    """A context manager. Failure(STORE_UNAVAILABLE) for what is no file of this version."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection

    def __enter__(self) -> Self:
        if not Path(self._path).is_file():
            raise Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, "There is no such store.")
        try:
            self._connection = patiently(lambda: connect(self._path, "normal", write=False), PATIENCE_S)
            known = schema_version(self._connection)
        except sqlite3.Error as error:
            raise as_failure(error) from None
        if known != len(UPGRADES):
            self._connection.close()
            other = "a later" if known > len(UPGRADES) else "an earlier"
            raise Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, f"The store was written by {other} version of Tollgate.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def count(self, since: str = "", until: str = LAST) -> int:
        """How many records there are between two moments (RFC 3339, the second one exclusive)."""
        return int(self._connection.execute(_COUNT, (since, until)).fetchone()[0])

    def records(self, since: str = "", until: str = LAST) -> Iterator[dict[str, Any]]:
        """They themselves, oldest first."""
        after = (since, "")
        while True:
            page = self._connection.execute(_RECORDS, (*after, until, PAGE_ROWS)).fetchall()
            for *_, record in page:
                yield from_json(record)
            if len(page) < PAGE_ROWS:
                return
            after = page[-1][:2]

    def record(self, call_id: str) -> dict[str, Any] | None:
        """One of them."""
        return queries.find(self._connection, call_id)

    def newest(self, correlation_id: str = "") -> Iterator[dict[str, Any]]:
        """All of them, or those of one correlation id, newest first."""
        before, page = "", [{"call_id": ""}]
        while page:
            page = queries.recent(self._connection, PAGE_ROWS, before, correlation_id)
            yield from page
            before = page[-1]["call_id"] if page else ""

    def settled(self, after: int | None) -> tuple[list[dict[str, Any]], int]:
        """Those that were booked after a mark, in that order, and the next mark; None: nothing, and the mark of now."""
        if after is None:
            return [], self._connection.execute("SELECT coalesce(max(rowid), 0) FROM records").fetchone()[0]
        rows = self._connection.execute(_SETTLED, (after, PAGE_ROWS)).fetchall()
        return [from_json(record) for _, record in rows], rows[-1][0] if rows else after

    def corrections(self) -> dict[str, list[dict[str, Any]]]:
        """All records that correct another one, by its call id, in the order in which they were booked."""
        found: dict[str, list[dict[str, Any]]] = {}
        for (text,) in self._connection.execute(
            "SELECT record FROM records WHERE outcome = ? ORDER BY rowid", (CORRECTED,)
        ):
            record = from_json(text)
            found.setdefault(record["corrects"], []).append(record)
        return found

    def book(self, version: str) -> bytes | None:
        """The packed price book of a version; None when it was not kept."""
        row = self._connection.execute("SELECT packed FROM books WHERE version = ?", (version,)).fetchone()
        return row[0] if row is not None else None

    def differences(self) -> list[Balance]:
        """See ``queries.differences``."""
        return queries.differences(self._connection)

    def spend(self, since: str, until: str) -> list[Spend]:
        """See ``sums.spend``."""
        return sums.spend(self._connection, since, until)

    def spend_span(self) -> tuple[str, str] | None:
        """See ``sums.span``."""
        return sums.span(self._connection)

    def spend_differences(self) -> list[Spend]:
        """See ``sums.differences``."""
        return sums.differences(self._connection)
