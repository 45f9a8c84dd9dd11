"""Two spans side by side: as much time before as was asked for, and as much of it as has passed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.tables_of_spend import _percent
from gateway.comparison import Change, Comparison
from gateway.report import COST, Question
from gateway.store import Spend

NOW = datetime(2026, 11, 21, 14, 30, tzinfo=UTC)


def asked(period: str, since: str, until: str) -> Question:
    """By team."""
    return Question(("team",), period, date.fromisoformat(since), date.fromisoformat(until))


@pytest.mark.parametrize(
    ("question", "since", "until"),
    [
        (asked("day", "2026-11-15", "2026-11-22"), "2026-11-08", "2026-11-14T14:00"),
        (asked("day", "2026-11-01", "2026-11-15"), "2026-10-18", "2026-11-01T00:00"),
        (asked("month", "2026-11-01", "2026-12-01"), "2026-10-01", "2026-10-21T14:00"),
        (asked("month", "2026-10-01", "2026-11-01"), "2026-09-01", "2026-10-01T00:00"),
        (asked("month", "2026-03-01", "2026-04-01"), "2026-02-01", "2026-03-01T00:00"),
        (asked("month", "2026-01-01", "2026-04-01"), "2025-10-01", "2026-01-01T00:00"),
        (asked("month", "2026-11-02", "2026-11-09"), "2026-10-26", "2026-11-02T00:00"),
        (asked("day", "2027-01-01", "2027-01-08"), "2026-12-25", "2026-12-25T00:00"),
    ],
)
def test_the_span_before(question: Question, since: str, until: str) -> None:
    """The same number of days or months; of a span that runs no more than has passed, and March against February ends in time."""
    compared = Comparison(question, NOW)
    assert (compared.since.isoformat(), compared.until.strftime("%Y-%m-%dT%H:%M")) == (since, until)
    days = list(compared.days())
    assert days[0][0] == since
    assert days[-1][1] == question.until.isoformat()


def spent(hour: str, team: str, cost: int) -> Spend:
    """By one team in one hour."""
    return Spend(hour, f'{{"team":"{team}"}}', (1, 0, 0, 10, 0, 5, cost))


def test_rows_and_total() -> None:
    """What is new, what is gone, what changed; the hours that have not come yet are left out before as well."""
    compared = Comparison(asked("day", "2026-11-21", "2026-11-22"), NOW)
    compared.add([spent("2026-11-21T09", "search", 300), spent("2026-11-21T10", "new", 50)])
    compared.add(
        [
            spent("2026-11-20T09", "search", 200),
            spent("2026-11-20T13", "gone", 40),
            spent("2026-11-20T14", "search", 10**9),
        ]
    )
    told = {
        row["team"]: (row["cost_nanousd"], row["previous_cost_nanousd"], row["change_nanousd"])
        for row in compared.document()["rows"]
    }
    assert told == {"search": (300, 200, 100), "new": (50, 0, 50), "gone": (0, 40, -40)}
    assert [row.values for row in compared.rows()] == [("search",), ("new",), ("gone",)]
    assert compared.document()["total"]["change_nanousd"] == 110
    assert compared.total().permille == 458


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_the_change_is_rounded_without_floats(now: int, before: int) -> None:
    """To a tenth of a percent, and nothing to compare with is no change."""
    change = Change((), (0,) * COST + (now,), (0,) * COST + (before,))
    if not before:
        assert _percent(change.permille) == "-"
        return
    assert abs(change.permille * before - 1000 * (now - before)) * 2 <= before
    assert _percent(change.permille).startswith("+" if change.permille >= 0 else "-")


def test_a_span_that_is_over_is_compared_whole() -> None:
    """To the last hour of both."""
    compared = Comparison(asked("day", "2026-11-10", "2026-11-12"), NOW)
    for day in range(8, 12):
        compared.add([spent(f"2026-11-{day:02d}T{hour:02d}", "a", 1) for hour in range(24)])
    assert (compared.total().now[COST], compared.total().before[COST]) == (48, 48)
    assert compared.until == datetime(2026, 11, 10, tzinfo=UTC)
    assert compared.since == date(2026, 11, 12) - timedelta(days=4)
