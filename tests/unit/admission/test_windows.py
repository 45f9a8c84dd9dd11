"""Calendar windows: names, edges, and the hours that clocks skip or repeat."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.windows import NEVER, Calendar, window_at

UTC = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
KINDS = ("hour", "day", "week", "month")
CHANGES = tuple(
    (zone, int(datetime.fromisoformat(text).timestamp()))
    for zone, text in (
        ("Europe/Berlin", "2026-03-29T01:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00Z"),
        ("America/Havana", "2026-11-01T05:00Z"),  # midnight comes twice
        ("America/Sao_Paulo", "2018-11-04T03:00Z"),  # midnight is skipped
        ("Africa/Cairo", "2026-04-23T22:00Z"),  # the same
        ("America/St_Johns", "2009-11-01T02:31Z"),  # from 00:01 back to 23:01 of the day before
        ("Australia/Lord_Howe", "2026-04-04T15:00Z"),  # half an hour back
        ("Australia/Lord_Howe", "2026-10-03T15:30Z"),  # half an hour forward
        ("Pacific/Apia", "2011-12-30T10:00Z"),  # a day that was left out
        ("America/Toronto", "1919-03-31T04:30Z"),  # from 23:30 to 00:30: midnight lies inside what is skipped
        ("UTC", "2026-11-20T00:00Z"),
        ("Asia/Kathmandu", "2026-11-20T18:15Z"),
    )
)
moments = st.one_of(
    st.builds(lambda change, off: (change[0], change[1] + off), st.sampled_from(CHANGES), st.integers(-90000, 90000)),
    st.builds(lambda change, off: (change[0], change[1] + off), st.sampled_from(CHANGES), st.integers(-4000, 4000)),
    st.tuples(st.sampled_from([zone for zone, _ in CHANGES]), st.integers(946684800, 2**31)),
)
AUTUMN = CHANGES[1][1]


def at(text: str, zone: ZoneInfo = UTC) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("window", "zone", "moment", "name", "start", "end"),
    [
        ("hour", UTC, "2026-11-20T13:30", "hour:2026-11-20T13", "2026-11-20T13:00", "2026-11-20T14:00"),
        ("day", UTC, "2026-11-20T13:30", "day:2026-11-20", "2026-11-20", "2026-11-21"),
        ("week", UTC, "2026-11-22T23:59", "week:2026-W47", "2026-11-16", "2026-11-23"),
        ("week", UTC, "2027-01-01", "week:2026-W53", "2026-12-28", "2027-01-04"),
        ("month", UTC, "2026-12-31T23:59", "month:2026-12", "2026-12-01", "2027-01-01"),
        ("month", UTC, "2028-02-29", "month:2028-02", "2028-02-01", "2028-03-01"),
        ("day", BERLIN, "2026-11-20T00:00", "day:2026-11-20@Europe/Berlin", "2026-11-20", "2026-11-21"),
    ],
)
def test_a_window_has_a_name_and_two_edges(window, zone, moment, name, start, end):
    """Names carry the zone unless it is UTC; weeks are those of ISO 8601."""
    assert window_at(window, zone, at(moment, zone)) == (name, at(start, zone), at(end, zone))


def test_total_never_ends():
    """One window for all time."""
    assert window_at("total", BERLIN, 1.0) == ("total", 0, NEVER)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-07-01", 24)])
def test_a_day_is_as_long_as_the_clocks_make_it(day, hours):
    """A budget per day lasts 23 or 25 hours when clocks change."""
    window = window_at("day", BERLIN, at(f"{day}T12:00", BERLIN))
    assert window.end - window.start == hours * 3600


def test_the_hour_that_comes_twice_is_two_windows():
    """Same hour on the clock, another offset, another name."""
    first = window_at("hour", BERLIN, AUTUMN - 1)
    second = window_at("hour", BERLIN, AUTUMN)
    assert (first.name, second.name) == (
        "hour:2026-10-25T02+0200@Europe/Berlin",
        "hour:2026-10-25T02+0100@Europe/Berlin",
    )
    assert first.end == second.start


def test_an_hour_begins_with_the_local_clock_hour():
    """India's hours begin at half past in UTC."""
    assert window_at("hour", ZoneInfo("Asia/Kolkata"), at("2026-11-20T13:45")).start == at("2026-11-20T13:30")


def assert_covers(kind: str, zone: ZoneInfo, now: float) -> None:
    window = window_at(kind, zone, now)
    assert window.start <= now < window.end
    assert window_at(kind, zone, window.start) == window_at(kind, zone, window.end - 0.5) == window
    following = window_at(kind, zone, window.end)
    assert following.start == window.end
    assert following.name != window.name


@given(st.sampled_from(KINDS), moments)
def test_windows_cover_time_without_gap_or_overlap(kind, moment):
    """Every moment of a window gives that window, and the next one begins where it ends, under another name."""
    assert_covers(kind, ZoneInfo(moment[0]), moment[1])


@pytest.mark.parametrize(("zone", "change"), CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_whole_where_clocks_change(kind, zone, change):
    """The same on both sides of each kind of change that clocks make, second by second at the edge."""
    for off in (-3601, -1801, -1, 0, 1, 1799, 1800, 3599, 3600):
        assert_covers(kind, ZoneInfo(zone), change + off)


@given(
    st.sampled_from(KINDS), st.sampled_from([zone for zone, _ in CHANGES]), st.lists(moments, min_size=1, max_size=20)
)
def test_a_calendar_remembers_and_is_never_wrong(kind, zone, times):
    """The cached window is the computed one, whichever way time goes."""
    calendar = Calendar(kind, ZoneInfo(zone))
    for _, now in times:
        assert calendar.at(now) == window_at(kind, ZoneInfo(zone), now)
        assert calendar.at(now) is calendar.at(now)


def test_an_unknown_window_is_an_error():
    """A misspelt window is no window."""
    with pytest.raises(ValueError, match="not a window"):
        window_at("fortnight", UTC, 0.0)


@given(st.integers(0, 4_000_000_000), st.sampled_from([5, 6]))
def test_a_week_can_begin_on_another_day(second, week_start):
    """Seven days from that weekday on, named by its first one; no ISO week has that name."""
    zone = ZoneInfo("UTC")
    found = window_at("week", zone, second, week_start)
    first = datetime.fromtimestamp(found.start, zone)
    assert found.start <= second < found.end == found.start + 7 * 86_400
    assert (first.weekday(), found.name) == (week_start, f"week:{first:%Y-%m-%d}")
