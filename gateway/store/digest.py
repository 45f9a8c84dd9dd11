"""Sums of spend by one dimension, put together in SQL: for a page that asks again and again of what hardly changes.

``Parts`` keeps what was read of each hour or day, by value, in a temporary database that spills to disk; a ``Digest`` is what they
come to over some span, beside the same of the span before. All of it happens inside SQLite, where no statement holds the GIL: a
million rows added up in Python would stop calls for milliseconds at a time.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import orjson

from gateway.store import SPEND_COUNTS
from gateway.value import value

MAX_VALUES = 50_000
"""Of one dimension that are told apart; those beyond, the cheapest, are only in the totals."""
MAX_DIMENSIONS = 6
"""Or combinations of some, whose parts are kept; those that were not asked for the longest go."""
MAX_UNITS = 400
"""Hours and days of one dimension that are kept beyond those that are asked for: the longest question has some 90."""
READ_AGAIN_S = 900.0
"""What was read so long ago is read again whatever the books say of it, the last two hours each time: a lost call that was put right
in place leaves no other trace."""
AGAIN_AT_ONCE = 2
HOUR_CHARS = 13
COST = SPEND_COUNTS.index("cost_nanousd")
SLICE_ROWS = 200
"""Some 0.5 ms of Python."""
MAX_WRITTEN_ROWS = 50_000
"""Rows of reports that are kept as text, some 15 MB."""
Counts = tuple[int, ...]
Write = Callable[[str, str | None, Sequence[int]], bytes]
"""Gets a period, a value (of several dimensions a JSON array) and its counts; gives the row as JSON."""

_COUNTS = ", ".join(SPEND_COUNTS)
_BEFORE = ", ".join(f"before_{count}" for count in SPEND_COUNTS)
_MAKE = f"""
    CREATE TABLE part (by TEXT NOT NULL, unit TEXT NOT NULL, value TEXT, {_COUNTS});
    CREATE INDEX part_by_unit ON part (by, unit);
    CREATE TABLE total (by TEXT NOT NULL, unit TEXT NOT NULL, {_COUNTS}, PRIMARY KEY (by, unit)) WITHOUT ROWID;
    CREATE TABLE read (by TEXT, unit TEXT, mark INTEGER, at REAL, PRIMARY KEY (by, unit)) WITHOUT ROWID;
    CREATE TABLE span (unit TEXT PRIMARY KEY, is_now INTEGER) WITHOUT ROWID;
    CREATE TABLE staged (dims TEXT PRIMARY KEY, counts TEXT) WITHOUT ROWID;
"""
_FROM_BOOKS = (
    "INSERT INTO part SELECT ?1, ?2, {} AS named, "  # noqa: S608 - names from this program, as below
    + ", ".join(f"coalesce(sum({count}), 0)" for count in SPEND_COUNTS)
    + " FROM books.spend WHERE hour >= ?2 AND hour < ?2 || '~' GROUP BY named"
)
_STAGE = "INSERT OR REPLACE INTO staged SELECT json_extract(value, '$[0]'), '[' || json_extract(value, '$[1]') || ']' FROM json_each(?)"
_FROM_STAGED = (
    "INSERT INTO part SELECT ?1, ?2, {} AS named, "  # noqa: S608
    + ", ".join(f"coalesce(sum(json_extract(counts, '$[{at}]')), 0)" for at in range(len(SPEND_COUNTS)))
    + " FROM staged GROUP BY named"
)
_EVERY = (
    "CREATE TABLE answer.top AS SELECT value, lower(value) AS lowered, "  # noqa: S608
    + ", ".join(f"sum(CASE WHEN is_now THEN {count} ELSE 0 END) AS {count}" for count in SPEND_COUNTS)
    + ", "
    + ", ".join(f"sum(CASE WHEN is_now THEN 0 ELSE {count} END) AS before_{count}" for count in SPEND_COUNTS)
    + " FROM span CROSS JOIN part ON part.by = ? AND part.unit = span.unit GROUP BY value ORDER BY cost_nanousd DESC, value"
)
_SERIES = (
    f"CREATE TABLE answer.series AS SELECT span.unit, is_now, {_COUNTS} FROM span"  # noqa: S608
    " CROSS JOIN total ON total.by = ? AND total.unit = span.unit"
)
_TOTAL = (
    "INSERT INTO total SELECT ?1, ?2, "  # noqa: S608
    + ", ".join(f"sum({count})" for count in SPEND_COUNTS)
    + " FROM part WHERE by = ?1 AND unit = ?2 HAVING count(*)"
)
_TOTAL_OF = (
    "SELECT json_array("  # noqa: S608
    + ", ".join(f"coalesce(sum({count}), 0)" for count in SPEND_COUNTS)
    + ") FROM total WHERE by = ? AND unit IN (SELECT value FROM json_each(?))"
)
_FOUND_ROWS = (
    "CREATE TABLE found AS SELECT value, "  # noqa: S608
    + ", ".join(f"sum({count}) AS {count}" for count in SPEND_COUNTS)
    + " FROM part WHERE by = ? AND unit IN (SELECT value FROM json_each(?)) GROUP BY value HAVING "
    + " OR ".join(f"sum({count}) <> 0" for count in SPEND_COUNTS)
    + " ORDER BY cost_nanousd DESC, coalesce(value, '') LIMIT ?"
)
_SLICE = (
    f"SELECT json_group_array(json_array(value, {_COUNTS})) FROM"  # noqa: S608
    " (SELECT * FROM found WHERE rowid > ? AND rowid <= ? ORDER BY rowid)"
)
_IS_THERE = " OR ".join(f"{count} <> 0" for count in SPEND_COUNTS)
_WHOLE = f"CREATE TABLE answer.whole AS SELECT count(*) AS number FROM answer.top WHERE {_IS_THERE}"  # noqa: S608
_CUT = "DELETE FROM answer.top WHERE rowid > ?"
_FOUND = f"FROM top WHERE ({_IS_THERE}) AND (?1 = '' OR instr(lowered, ?1))"
_ROWS = (
    f"SELECT json_group_array(json_array(value, {_COUNTS}, {_BEFORE})) FROM"  # noqa: S608
    f" (SELECT * {_FOUND} ORDER BY cost_nanousd DESC, value LIMIT ?2)"
)
_ALL_FOUND = f"SELECT json_array(count(*), {{}}) {_FOUND}".format(
    ", ".join(f"coalesce(sum({count}), 0)" for count in SPEND_COUNTS)
)
_ALL_SERIES = f"SELECT json_group_array(json_array(unit, is_now, {_COUNTS})) FROM (SELECT * FROM series ORDER BY unit)"  # noqa: S608


@value
class Top:
    """The dearest of a digest: (value, counts, counts before), the value None where it is not known. ``values`` and ``found`` are the
    number and the sums of all that were found, those beyond the limit too.
    """

    rows: list[tuple[str | None, Counts, Counts]]
    values: int
    found: Counts


@value
class Report:
    """Rows as the text of a JSON array without its brackets, the sums of all, and whether there are more rows than these."""

    rows: bytes
    total: Counts
    more: bool


class Digest:
    """Sums by one dimension over a span and the one before. Asking it takes some milliseconds: not on an event loop."""

    def __init__(self, packed: bytes) -> None:
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.deserialize(packed)
        (text,) = self._connection.execute(_ALL_SERIES).fetchone()
        rows = [(unit, bool(is_now), tuple(counts)) for unit, is_now, *counts in orjson.loads(text)]
        self.series: Mapping[str, Counts] = {unit: counts for unit, is_now, counts in rows if is_now}
        """Of each hour or day of the span of which there is something."""
        self.totals = _sum(counts for _, is_now, counts in rows if is_now)
        self.before = _sum(counts for _, is_now, counts in rows if not is_now)

    def top(self, limit: int, search: str = "") -> Top:
        """The dearest values that hold this text, whatever the case of its (ASCII) letters."""
        wanted = search.lower()
        (text,) = self._connection.execute(_ROWS, (wanted, limit)).fetchone()
        size = len(SPEND_COUNTS)
        rows = [(name, tuple(counts[:size]), tuple(counts[size:])) for name, *counts in orjson.loads(text)]
        (whole,) = self._connection.execute(_ALL_FOUND, (wanted,)).fetchone()
        values, *found = orjson.loads(whole)
        if not wanted:
            (values,) = self._connection.execute("SELECT number FROM whole").fetchone()
            found = list(self.totals)
        return Top(rows, values, tuple(found))


class Parts:
    """What was read so far, of which dimension, hour and day. One thread at a time. ``books``: the file whose sums ``read`` reads."""

    def __init__(self, books: str = "") -> None:
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.executescript(_MAKE)
        if books:
            self._connection.execute("ATTACH ? AS books", (books,))
        self._asked: list[str] = []
        self._last_row: int | None = None
        self._written: OrderedDict[tuple[str, str], tuple[tuple[object, ...], tuple[list[bytes], bool]]] = OrderedDict()

    def close(self) -> None:
        """What was read is gone."""
        self._connection.close()

    def interrupt(self) -> None:
        """End what runs in another thread, with an sqlite3.OperationalError there."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.interrupt()

    def wanted(self, by: str, units: Mapping[str, int]) -> list[str]:
        """Those of these hours and days (each with its mark: any number that changes with it) that have to be read, and a few that
        were read long ago.
        """
        self._asked = [*(name for name in self._asked if name != by), by]
        for gone in self._asked[:-MAX_DIMENSIONS]:
            self._forget(gone)
        self._asked = self._asked[-MAX_DIMENSIONS:]
        known = {
            unit: (mark, at)
            for unit, mark, at in self._connection.execute("SELECT unit, mark, at FROM read WHERE by = ?", (by,))
        }
        if len(known) > MAX_UNITS:
            self._forget(by, [unit for unit in known if unit not in units])
        old_before = time.monotonic() - READ_AGAIN_S
        old = [unit for unit in units if unit in known and known[unit][1] < old_before]
        again = sorted(old, key=lambda unit: known[unit][1])[:AGAIN_AT_ONCE]
        newest = sorted(unit for unit in units if len(unit) == HOUR_CHARS and unit <= _this_hour())[-2:]
        again += newest
        return [unit for unit, mark in units.items() if unit not in known or known[unit][0] != mark or unit in again]

    def touched(self) -> None:
        """Forget the hours and days that records of the file were added to since the last time."""
        last = self._connection.execute("SELECT max(rowid) FROM books.records").fetchone()[0] or 0
        if self._last_row is None or last < self._last_row:
            self._connection.execute("DELETE FROM read")
        elif last > self._last_row:
            self._connection.execute(
                "DELETE FROM read WHERE unit IN (SELECT substr(started_at, 1, 10) FROM books.records WHERE rowid > ?1"
                " UNION SELECT substr(started_at, 1, 13) FROM books.records WHERE rowid > ?1)",
                (self._last_row,),
            )
        self._last_row = last

    def read(self, by: str, unit: str, mark: int = 0) -> None:
        """Read an hour or a day out of the file."""
        with self._replacing(by, unit, mark):
            self._connection.execute(_FROM_BOOKS.format(_value_of(by)), (by, unit))

    def stage(self, rows: Sequence[tuple[str, str]]) -> None:
        """Sums of the hour or day that ``take`` comes for: (dims, counts with commas). What is there twice counts once."""
        self._connection.execute(_STAGE, (orjson.dumps(rows).decode(),))

    def take(self, by: str, unit: str, mark: int) -> None:
        """What was staged is this hour or day."""
        with self._replacing(by, unit, mark):
            self._connection.execute(_FROM_STAGED.format(_value_of(by)), (by, unit))
        self._connection.execute("DELETE FROM staged")

    def digest(self, by: str, now: Sequence[str], before: Sequence[str]) -> Digest:
        """All of it together."""
        connection = self._connection
        connection.execute("DELETE FROM span")
        rows = [*((unit, 0) for unit in before), *((unit, 1) for unit in now)]
        connection.execute(
            "INSERT OR REPLACE INTO span SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)",
            (_json(rows),),
        )
        connection.execute("ATTACH ':memory:' AS answer")
        try:
            connection.execute(_EVERY, (by,))
            connection.execute(_WHOLE)
            connection.execute(_CUT, (MAX_VALUES,))
            connection.execute(_SERIES, (by,))
            return Digest(connection.serialize(name="answer"))
        finally:
            connection.execute("DETACH answer")

    def report(self, by: str, periods: Mapping[str, Sequence[str]], most: int, write: Write) -> Report:
        """The dearest values of each period, as JSON; see ``Store.report``."""
        texts: list[bytes] = []
        left, more = most, False
        for period, units in periods.items():
            found = self._rows(by, period, units, most, write) if left else None
            if found is None:
                more = more or self._has_rows(by, units)
                continue
            rows, is_cut = found
            more = more or is_cut or len(rows) > left
            texts += rows[:left]
            left -= len(rows[:left])
        units = [unit for some in periods.values() for unit in some]
        return Report(b",".join(texts), self._total(by, units), more)

    def _rows(self, by: str, period: str, units: Sequence[str], most: int, write: Write) -> tuple[list[bytes], bool]:
        """Rows of a period, and whether there are more. Those of which nothing was read again since are still at hand."""
        (read_at,) = self._connection.execute(
            "SELECT max(at) FROM read WHERE by = ? AND unit IN (SELECT value FROM json_each(?))", (by, _json(units))
        ).fetchone()
        key = (by, period)
        known = self._written.get(key)
        if known is not None and known[0] == (read_at, *units):
            return known[1]
        self._connection.execute("DROP TABLE IF EXISTS found")
        self._connection.execute(_FOUND_ROWS, (by, _json(units), most + 1))
        texts: list[bytes] = []
        start = 0
        while True:
            (text,) = self._connection.execute(_SLICE, (start, start + SLICE_ROWS)).fetchone()
            some = orjson.loads(text)
            texts += [write(period, name, counts) for name, *counts in some]
            start += SLICE_ROWS
            if len(some) < SLICE_ROWS:
                break
            time.sleep(0)  # whoever waits for the GIL may have it
        self._written[key] = ((read_at, *units), (texts[:most], len(texts) > most))
        while len(self._written) > 1 and sum(len(rows) for _, (rows, _) in self._written.values()) > MAX_WRITTEN_ROWS:
            self._written.popitem(last=False)
        return self._written[key][1]

    def _has_rows(self, by: str, units: Sequence[str]) -> bool:
        return any(self._total(by, units))

    def _total(self, by: str, units: Sequence[str]) -> Counts:
        (text,) = self._connection.execute(_TOTAL_OF, (by, _json(units))).fetchone()
        return tuple(orjson.loads(text))

    @contextlib.contextmanager
    def _replacing(self, by: str, unit: str, mark: int) -> Iterator[None]:
        """What is read in between takes the place of what there was, or nothing has happened."""
        self._connection.execute("BEGIN")
        try:
            self._forget(by, [unit])
            yield
            self._connection.execute(_TOTAL, (by, unit))
            self._connection.execute("INSERT INTO read VALUES (?, ?, ?, ?)", (by, unit, mark, time.monotonic()))
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _forget(self, by: str, units: Sequence[str] | None = None) -> None:
        """Of a dimension all, or these."""
        if units is None:
            for table in ("part", "total", "read"):
                self._connection.execute(f"DELETE FROM {table} WHERE by = ?", (by,))  # noqa: S608
        elif units:
            for table in ("part", "total", "read"):
                self._connection.execute(
                    f"DELETE FROM {table} WHERE by = ? AND unit IN (SELECT value FROM json_each(?))",  # noqa: S608
                    (by, _json(units)),
                )


def _this_hour() -> str:
    return time.strftime("%Y-%m-%dT%H", time.gmtime())


def _value_of(by: str) -> str:
    """What a row is told apart by, in SQL: the value of one dimension; of several, or none, a JSON array of theirs."""
    values = [f"json_extract(dims, '$.\"{name}\"')" for name in by.split(",") if name]
    return values[0] if len(values) == 1 else f"json_array({', '.join(values)})"


def _json(rows: object) -> str:
    return orjson.dumps(rows).decode()


def _sum(rows: Iterable[Counts]) -> Counts:
    return tuple(sum(column) for column in zip(*rows, strict=True)) or (0,) * len(SPEND_COUNTS)
