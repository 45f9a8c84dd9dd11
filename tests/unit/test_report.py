"""Periods, rows and figures of a report."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.tables_of_spend import _share, _shown, _text
from gateway.errors import Failure, Kind
from gateway.report import COST, MAX_DAYS, PERIODS, Question, Tally, document, period_of, question
from gateway.store import Spend

DECLARED = ("team", "model")
TODAY = date(2026, 11, 21)
days = st.dates(date(1970, 1, 1), date(2999, 12, 31))


def asked(period: str = "day", since: str = "", until: str = "", by: str | None = None) -> Question:
    return question(by, period, since, until, DECLARED, TODAY)


def spend(hour: str, cost: int, **dims: str) -> Spend:
    return Spend(hour, orjson.dumps(dims).decode(), (1, 0, 0, 10, 4, 2, cost, 1, 0))


@pytest.mark.parametrize(
    ("day", "week"),
    [
        ("2026-11-21", "2026-W47"), ("2026-11-22", "2026-W47"), ("2026-11-23", "2026-W48"), ("2026-12-31", "2026-W53"),
        ("2027-01-03", "2026-W53"), ("2027-01-04", "2027-W01"), ("2024-12-30", "2025-W01"),
    ],
)  # fmt: skip
def test_weeks_are_those_of_iso_8601(day, week):
    """They begin on Monday; the first one of a year holds its first Thursday, whatever year the day is in."""
    assert period_of(day, "week") == week


@given(days)
def test_periods_sort_like_their_days(day):
    """A report is in the order of time."""
    for period in PERIODS:
        later = (day + timedelta(days=40)).isoformat()
        assert period_of(day.isoformat(), period) < period_of(later, period)


@given(days, st.sampled_from(PERIODS))
def test_without_dates_a_report_is_of_the_last_seven_periods(today, period):
    """Whole ones, but for the one that is not over."""
    found = question(None, period, "", "", DECLARED, today)
    labels = [period_of(since, period) for since, _ in found.days()]
    assert len(set(labels)) == 7
    assert labels[-1] == period_of(today.isoformat(), period)
    assert period_of((found.since - timedelta(days=1)).isoformat(), period) not in labels


def test_days_are_asked_for_one_after_the_other():
    """Each once, the last one left out."""
    found = asked(since="2026-02-27", until="2026-03-02")
    assert list(found.days()) == [
        ("2026-02-27", "2026-02-28"), ("2026-02-28", "2026-03-01"), ("2026-03-01", "2026-03-02"),
    ]  # fmt: skip


def test_by_what_a_report_tells_apart():
    """The team where it is declared, else what is; nothing where nothing is asked for."""
    assert asked().by == ("team",)
    assert question(None, "day", "", "", ("user", "model"), TODAY).by == ("user",)
    assert question(None, "day", "", "", (), TODAY).by == ()
    assert asked(by="").by == ()
    assert asked(by=" model, team").by == ("model", "team")


@pytest.mark.parametrize(
    "wrong",
    [
        {"period": "year"}, {"by": "user"}, {"by": "team,,model"}, {"by": "team,team"}, {"since": "21.11.2026"},
        {"since": "2026-13-01"}, {"until": "9999-12-31"}, {"since": "1969-12-31"}, {"since": "2026-11-22"},
        {"since": "2026-11-21", "until": "2026-11-20"}, {"since": "２０２６-11-21"},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_a_failure_of_the_one_who_asks(wrong):
    """Never an exception of the calendar's."""
    with pytest.raises(Failure) as caught:
        asked(**wrong)
    assert caught.value.kind is Kind.MALFORMED_REQUEST
    assert not any(value and value in caught.value.message for value in wrong.values())


def test_a_report_has_an_end():
    """Ten years are a day's work for nobody."""
    since = TODAY + timedelta(days=1) - timedelta(days=MAX_DAYS)
    assert len(list(asked(since=since.isoformat()).days())) == MAX_DAYS
    with pytest.raises(Failure, match="at most"):
        asked(since=(since - timedelta(days=1)).isoformat())


@given(
    st.lists(
        st.tuples(st.dates(date(2026, 1, 1), date(2026, 12, 31)), st.sampled_from("ab"), st.sampled_from("xy"), st.integers(-9, 99))
    ),
    st.sampled_from(PERIODS),
    st.sampled_from(["", "team", "model", "team,model"]),
)  # fmt: skip
def test_whatever_it_is_told_apart_by_the_sum_is_the_same(sums, period, by):
    """Rows are the sums of their periods, the total that of all; hours and days are added up alike."""
    tally = Tally(asked(period, "2026-01-01", "2027-01-01", by))
    expected: Counter[tuple[str, ...]] = Counter()
    for number, (day, team, model, cost) in enumerate(sums):
        tally.add([spend(f"{day}T07" if number % 2 else f"{day}", cost, team=team, model=model)])
        names = {"team": team, "model": model}
        expected[(period_of(f"{day}", period), *(names[name] for name in by.split(",") if name))] += cost
    assert {(row.period, *row.values): row.counts[COST] for row in tally.rows()} == expected
    assert tally.total() == (
        len(sums),
        0,
        0,
        10 * len(sums),
        4 * len(sums),
        2 * len(sums),
        sum(expected.values()),
        len(sums),
        0,
    )


def test_rows_are_in_order_and_what_was_taken_back_is_none():
    """By period, the dearest first; a dimension that was not declared then is unknown, not empty."""
    tally = Tally(asked(by="team,model"))
    tally.add([spend("2026-11-20T01", 5, team="a", model="x"), spend("2026-11-20T02", 9, team="b", model="")])
    tally.add([spend("2026-11-19", 1, team="c"), Spend("2026-11-19", '{"team":"gone"}', (0,) * 9)])
    assert [(row.period, row.values, row.counts[COST]) for row in tally.rows()] == [
        ("2026-11-19", ("c", None), 1), ("2026-11-20", ("b", ""), 9), ("2026-11-20", ("a", "x"), 5),
    ]  # fmt: skip


def test_a_long_report_is_cut_and_says_so():
    """Its total is that of all rows."""
    question_ = asked(by="team")
    tally = Tally(question_)
    tally.add(spend("2026-11-20T01", 2, team=f"t{number}") for number in range(5))
    found = document(question_, tally, 4)
    assert (len(found["rows"]), found["truncated"], found["total"]["cost_nanousd"]) == (4, True, 10)
    assert found["rows"][0] == {
        "period": "2026-11-20", "team": "t0", "calls": 1, "failed": 0, "refused": 0, "input_tokens": 10,
        "cached_input_tokens": 4, "output_tokens": 2, "cost_nanousd": 2, "cost_usd": "0.000000002",
        "estimated": 1, "unpriced": 0,
    }  # fmt: skip
    assert document(question_, tally, 5)["truncated"] is document(question_, tally)["truncated"] is False
    assert document(question_, Tally(question_))["total"]["cost_nanousd"] == 0


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [
        (1, 3, "33.3 %"), (2, 3, "66.7 %"), (1, 2000, "0.1 %"), (1, 2001, "0.0 %"), (5, 5, "100.0 %"), (7, 5, "140.0 %"),
        (-1, 3, "-33.3 %"), (0, 5, "0.0 %"), (0, 0, "-"), (1, -5, "-"), (2**62, 2**62 + 1, "100.0 %"),
    ],
)  # fmt: skip
def test_a_share_is_rounded_without_floats(part, whole, said):
    """Of nothing nothing is a share."""
    assert _share(part, whole) == said


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_name_is_a_formula(name):
    """A spreadsheet shows it as it is."""
    assert _text(name) == f"'{name}"
    assert _text("a" + name) == "a" + name


def test_a_name_in_a_table_is_a_short_line():
    """It may be whatever a caller sent."""
    assert (_shown(""), _shown(None), _shown("gpt-5")) == ("-", "?", "gpt-5")
