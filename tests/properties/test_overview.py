"""An overview is the sum of its records, whatever they are, whenever it is asked, and whatever comes in between."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.overview import DAY, PERIODS, span_of
from gateway.store import SPEND_COUNTS, Settlement
from gateway.store.books import Settle
from gateway.store.digest import Parts
from gateway.store.pages import load, save
from gateway.store.rollups import spend_of
from gateway.store.sums import condense
from gateway.store.tables import connect, prepare

NOW, LEAST = datetime(2026, 11, 21, 14, 30, tzinfo=UTC), datetime(2026, 11, 8, tzinfo=UTC)
CONDENSED = "2026-11-07"
"""Hours before it become days: nobody asks for hours that are as old."""
moments = st.datetimes(datetime(2026, 9, 25), datetime(2026, 11, 21, 23), timezones=st.just(UTC))
records = st.builds(
    lambda at, team, cost, outcome, usage_source, unpriced, tokens: {
        "started_at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "team": team, "cost_nanousd": cost,
        "outcome": outcome, "usage_source": usage_source, "unpriced": unpriced, "usage": {"input": tokens, "output": 2 * tokens},
    },
    moments | st.just(NOW) | st.just(NOW - DAY),
    st.sampled_from(["", "a", "A+b", 'quote"d', "é"]),
    st.integers(0, 10**15),
    st.sampled_from(["completed", "refused", "lost", "cut"]),
    st.sampled_from(["provider", "estimated", "counted"]),
    st.booleans(),
    st.integers(0, 10**9),
)  # fmt: skip


def when(record: dict) -> datetime:
    return datetime.fromisoformat(record["started_at"])


def total(found: list[dict], since: datetime, until: datetime) -> tuple[int, ...]:
    counts = [spend_of(each, ()).counts for each in found if since <= when(each) < until]
    return tuple(map(sum, zip(*counts, strict=True))) or (0,) * len(SPEND_COUNTS)


def book(connection, number: int, some: list[dict]) -> None:
    """All of them, in one batch."""
    settlements = [
        Settlement(
            f"c{number}-{at}", each["cost_nanousd"], each["outcome"], (), orjson.dumps(each), each["started_at"],
            spend=spend_of(each, ("team",)),
        )
        for at, each in enumerate(some)
    ]  # fmt: skip
    operations = [Settle(each) for each in settlements]
    page = load(connection, operations, 0.0, "one#1")
    for each in operations:
        each.apply(page)
    save(connection, page)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(records, max_size=8), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(PERIODS), moments.map(lambda at: max(at, LEAST))), min_size=1, max_size=4),
)
def test_an_overview_is_the_sum_of_its_records(batches, asked):
    """Of the running period and of the same span before; asked between any two batches, while hours become days."""
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "books.db")
        connection = connect(file, "normal", write=True)
        prepare(connection)
        parts = Parts(file)
        booked: list[dict] = []
        for number, some in enumerate(batches):
            book(connection, number, some)
            booked += some
            condense(connection, CONDENSED, 5)
            for period, now in asked:
                span = span_of(period, now)
                parts.touched()
                for unit in parts.wanted("team", dict.fromkeys([*span.units, *span.units_before], 0)):
                    parts.read("team", unit)
                found = parts.digest("team", span.units, span.units_before)
                assert found.totals == total(booked, span.since, span.until)
                assert found.before == total(booked, span.before_since, span.before_until)
                top = found.top(100)
                assert top.values == len({each["team"] for each in booked if span.since <= when(each) < span.until})
                assert not top.rows or tuple(map(sum, zip(*(row[1] for row in top.rows), strict=True))) == found.totals
        parts.close()
        connection.close()
