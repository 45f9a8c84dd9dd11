"""Two spans of spend side by side: what was asked for, and as much time just before it.

Quiet: sums in, rows out. A span that is still running is held against as much of the one before, to the hour, so that a Monday
morning is not compared with a week.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from gateway.report import COST, NAMES, Question, Tally, Values
from gateway.store import SPEND_COUNTS, Spend
from gateway.value import value
from pricing.money import format_usd

_HOUR = "%Y-%m-%dT%H"
_ZEROS = (0,) * len(SPEND_COUNTS)


@value
class Change:
    """One line: the sums of both spans, in the order of ``SPEND_COUNTS``."""

    values: Values
    now: tuple[int, ...]
    before: tuple[int, ...]

    @property
    def cost_nanousd(self) -> int:
        """By how much more was spent; negative for less."""
        return self.now[COST] - self.before[COST]

    @property
    def permille(self) -> int | None:
        """The same for a thousand of what was spent before, half away from zero; None where nothing was spent before."""
        if self.before[COST] <= 0:
            return None
        size = (2000 * abs(self.cost_nanousd) + self.before[COST]) // (2 * self.before[COST])
        return size if self.cost_nanousd >= 0 else -size


class Comparison:
    """Adds up the sums of both spans. ``now`` is UTC."""

    def __init__(self, asked: Question, now: datetime) -> None:
        self.asked = replace(asked, period="month")  # the fewest rows; which period is of no interest here
        self.since = _before(asked)
        began = datetime.combine(asked.since, time(), UTC)
        passed = datetime.combine(self.since, time(), UTC) + max(now - began, timedelta(0))
        self.until = min(passed.replace(minute=0, second=0, microsecond=0), began)
        """The end of the span before, to the hour."""
        self._tallies = Tally(self.asked), Tally(self.asked)

    def days(self) -> Iterator[tuple[str, str]]:
        """Of both spans, as ``Question.days``."""
        yield from Question(self.asked.by, self.asked.period, self.since, self.asked.until).days()

    def add(self, sums: Iterable[Spend]) -> None:
        """Sums of any of these days."""
        since, cut = self.asked.since.isoformat(), self.until.strftime(_HOUR)
        for each in sums:
            if each.hour >= since:
                self._tallies[0].add((each,))
            elif each.hour < cut:
                self._tallies[1].add((each,))

    def rows(self) -> list[Change]:
        """The dearest first; then those that cost most before."""
        now, before = (_by_values(tally) for tally in self._tallies)
        rows = [Change(values, now.get(values, _ZEROS), before.get(values, _ZEROS)) for values in {**now, **before}]
        return sorted(rows, key=lambda row: (-row.now[COST], -row.before[COST], [value or "" for value in row.values]))

    def total(self) -> Change:
        """Of all rows."""
        return Change((), *(tally.total() for tally in self._tallies))

    def document(self) -> dict[str, Any]:
        """For a program."""
        return {
            "by": list(self.asked.by),
            "since": self.asked.since.isoformat(),
            "until": self.asked.until.isoformat(),
            "previous_since": self.since.isoformat(),
            "previous_until": self.until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "rows": [dict(zip(self.asked.by, row.values, strict=True)) | _figures(row) for row in self.rows()],
            "total": _figures(self.total()),
        }


def _by_values(tally: Tally) -> dict[Values, tuple[int, ...]]:
    found: dict[Values, tuple[int, ...]] = {}
    for row in tally.rows():
        found[row.values] = tuple(a + b for a, b in zip(found.get(row.values, _ZEROS), row.counts, strict=True))
    return found


def _figures(row: Change) -> dict[str, Any]:
    previous = {f"previous_{name}": count for name, count in zip(NAMES, row.before, strict=True)}
    return {
        **dict(zip(NAMES, row.now, strict=True)),
        "cost_usd": format_usd(row.now[COST]),
        **previous,
        "previous_cost_usd": format_usd(row.before[COST]),
        "change_nanousd": row.cost_nanousd,
        "change_usd": format_usd(row.cost_nanousd),
    }


def _before(asked: Question) -> date:
    """Where the span before begins: as many days earlier, or as many months where the span is made of months."""
    if asked.period != "month" or asked.since.day != 1:
        return asked.since - (asked.until - asked.since)
    last = asked.until - timedelta(days=1)
    count = (last.year - asked.since.year) * 12 + last.month - asked.since.month + 1
    months = asked.since.year * 12 + asked.since.month - 1 - count
    return date(months // 12, months % 12 + 1, 1)
