"""Reports of spend: sums by the hour put together by day, week or month and by the dimensions that somebody asks for.

Quiet: sums in, rows out. Days are those of UTC, weeks those of ISO 8601. The sums of a report are exact whatever it is told apart
by; a dimension that was not declared when a sum was kept is not known for it, and said to be so (None).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import orjson

from gateway.errors import Failure, Kind, Whose
from gateway.store import SPEND_COUNTS, Spend
from gateway.value import value
from pricing.money import format_usd

PERIODS = ("day", "week", "month")
USUAL_PERIODS = 7
MAX_DAYS = 3660
"""Ten years, the longest that sums can be kept."""
NAMES = (
    "calls", "failed", "refused", "input_tokens", "cached_input_tokens", "output_tokens", "cost_nanousd", "estimated", "unpriced",
)  # fmt: skip
"""The counts as a report calls them, in the order of ``SPEND_COUNTS``."""
COST = SPEND_COUNTS.index("cost_nanousd")
_DATE = re.compile(r"(19[7-9][0-9]|[2-8][0-9]{3})-[0-9]{2}-[0-9]{2}", re.ASCII)
_DAY = timedelta(days=1)

Values = tuple[str | None, ...]


@value
class Question:
    """What a report is asked for; ``until`` is the day after the last one."""

    by: tuple[str, ...]
    period: str
    since: date
    until: date

    def days(self) -> Iterator[tuple[str, str]]:
        """(since, until) of each day, for ``Store.spend``: so much at a time that nobody waits behind it."""
        day = self.since
        while day < self.until:
            yield day.isoformat(), (day + _DAY).isoformat()
            day += _DAY


@value
class Row:
    """One line: sums in the order of ``SPEND_COUNTS``. A value of None is not known."""

    period: str
    values: Values
    counts: tuple[int, ...]


def question(by: str | None, period: str, since: str, until: str, declared: Sequence[str], today: date) -> Question:
    """``by`` is a list with commas, dates are 2026-11-21 or "" for the last seven periods. Failure for what cannot be asked, in words
    that repeat nothing of it.
    """
    if period not in PERIODS:
        raise _cannot(f"The period must be one of {', '.join(PERIODS)}.")
    names = _names(by, declared)
    end = _date("until", until) if until else today + _DAY
    begin = _date("since", since) if since else _back(end - _DAY, period)
    if begin >= end:
        raise _cannot("The report would begin after it ends: since is a day before until, which is not part of it.")
    if (end - begin).days > MAX_DAYS:
        raise _cannot(f"A report spans at most {MAX_DAYS} days.")
    return Question(names, period, begin, end)


def _names(by: str | None, declared: Sequence[str]) -> tuple[str, ...]:
    if by is None:
        return ("team",) if "team" in declared else tuple(declared[:1])
    names = tuple(name.strip() for name in by.split(",")) if by.strip() else ()
    if set(names) - set(declared):
        known = ", ".join(declared) or "nothing"
        raise _cannot(f"Spend is told apart by {known}; spend.by in the config declares what else, from then on.")
    if len(set(names)) < len(names):
        raise _cannot("A dimension stands twice.")
    return names


def _date(name: str, text: str) -> date:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise _cannot(f"{name} must be a day such as 2026-11-21.") from None


def _back(last: date, period: str) -> date:
    """Where the seventh period begins, counted back from the one of this day."""
    if period == "day":
        return last - (USUAL_PERIODS - 1) * _DAY
    if period == "week":
        return last - last.weekday() * _DAY - (USUAL_PERIODS - 1) * 7 * _DAY
    months = last.year * 12 + last.month - USUAL_PERIODS
    return date(months // 12, months % 12 + 1, 1)


def _cannot(message: str) -> Failure:
    return Failure(Kind.MALFORMED_REQUEST, Whose.FRONT, message)


@lru_cache(maxsize=4096)
def period_of(day: str, period: str) -> str:
    """2026-11-21 as it is, or as 2026-W47, or as 2026-11."""
    if period == "day":
        return day
    if period == "month":
        return day[:7]
    year, week, _ = date.fromisoformat(day).isocalendar()
    return f"{year}-W{week:02d}"


class Tally:
    """Adds sums up into the rows of a report."""

    def __init__(self, asked: Question) -> None:
        self._asked = asked
        self._rows: dict[tuple[str, Values], list[int]] = defaultdict(lambda: [0] * len(SPEND_COUNTS))
        self._read: dict[str, Values] = {}

    def add(self, sums: Iterable[Spend]) -> None:
        """Sums of any hours or days."""
        for each in sums:
            row = self._rows[period_of(each.hour[:10], self._asked.period), self._values(each.dims)]
            for at, count in enumerate(each.counts):
                row[at] += count

    def _values(self, dims: str) -> Values:
        values = self._read.get(dims)
        if values is None:
            told = orjson.loads(dims)
            values = self._read[dims] = tuple([told.get(name) for name in self._asked.by])
        return values

    def rows(self) -> list[Row]:
        """By period, within a period the dearest first. A charge that was taken back leaves no line."""
        rows = [Row(period, values, tuple(counts)) for (period, values), counts in self._rows.items() if any(counts)]
        return sorted(rows, key=lambda row: (row.period, -row.counts[COST], [value or "" for value in row.values]))

    def total(self) -> tuple[int, ...]:
        """Of all rows."""
        return tuple(sum(counts) for counts in zip(*self._rows.values(), strict=True)) or (0,) * len(SPEND_COUNTS)


def periods(asked: Question, today: date) -> dict[str, list[str]]:
    """The days of each period, today as its hours: of those only the last one still changes."""
    found: dict[str, list[str]] = {}
    for day, _ in asked.days():
        hours = [f"{day}T{hour:02d}" for hour in range(24)] if day == today.isoformat() else [day]
        found.setdefault(period_of(day, asked.period), []).extend(hours)
    return found


def writer(asked: Question) -> Callable[[str, str | None, Sequence[int]], bytes]:
    """Writes a row as JSON: of several dimensions (or none) the values are a JSON array."""

    def write(period: str, value: str | None, counts: Sequence[int]) -> bytes:
        values = [value] if len(asked.by) == 1 else orjson.loads(value or "[]")
        return orjson.dumps({"period": period, **dict(zip(asked.by, values, strict=True)), **_counts(counts)})

    return write


def written(asked: Question, rows: bytes, total: Sequence[int], *, truncated: bool) -> dict[str, Any]:
    """As ``document``, of rows that are written already."""
    return _document(asked, orjson.Fragment(b"[" + rows + b"]"), total, truncated=truncated)


def document(asked: Question, tally: Tally, most: int | None = None) -> dict[str, Any]:
    """The report for a program. ``truncated`` when there are more rows than the ``most``; the total is that of all of them."""
    rows = tally.rows()
    shown = [
        {"period": row.period, **dict(zip(asked.by, row.values, strict=True)), **_counts(row.counts)}
        for row in rows[:most]
    ]
    return _document(asked, shown, tally.total(), truncated=most is not None and len(rows) > most)


def _document(asked: Question, rows: Any, total: Sequence[int], *, truncated: bool) -> dict[str, Any]:
    return {
        "by": list(asked.by),
        "period": asked.period,
        "since": asked.since.isoformat(),
        "until": asked.until.isoformat(),
        "rows": rows,
        "total": _counts(total),
        "truncated": truncated,
    }


def _counts(counts: Sequence[int]) -> dict[str, Any]:
    return {**dict(zip(NAMES, counts, strict=True)), "cost_usd": format_usd(counts[COST])}
