"""Calendar windows: in which hour, day, week or month of a time zone does a moment lie?

Owns the names under which spend is booked and the second at which a budget starts again. Knows no budget and reads no
clock. Laws: the windows of one kind and zone cover time without gap or overlap, also where clocks are put forward or
back (a day then has 23 or 25 hours, Lord Howe's 23.5); two windows never share a name; a name without a zone is UTC.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from math import floor
from typing import NamedTuple
from zoneinfo import ZoneInfo

HOUR_S = 3600
NEVER = 1 << 53
"""The end of ``total`` in Unix seconds: later than any clock says."""


class Window(NamedTuple):
    """One stretch of the calendar: its name, its first second and the first second after it (Unix seconds)."""

    name: str
    start: int
    end: int


def window_at(window: str, zone: ZoneInfo, now: float, week_start: int = 0) -> Window:
    """The window of this kind (weeks from ``week_start``, 0 = Monday) in which ``now`` (Unix seconds) lies. ValueError for an unknown kind."""
    if window == "total":
        return Window("total", 0, NEVER)
    if window == "hour":
        return _hour(zone, now)
    day = datetime.fromtimestamp(now, zone).date()
    tomorrow = day + timedelta(days=1)
    if _begin(tomorrow, zone) <= now:  # clocks went back over midnight: a day that has begun does not end again
        day = tomorrow
    first, last, label = _span(window, day, week_start)
    return Window(f"{window}:{label}{_suffix(zone)}", _begin(first, zone), _begin(last, zone))


class Calendar:
    """``window_at`` for one kind and zone, remembered: nearly every call lies in the window of the one before it."""

    __slots__ = ("_latest", "week_start", "window", "zone")

    def __init__(self, window: str, zone: ZoneInfo, week_start: int = 0) -> None:
        self.window = window
        self.zone = zone
        self.week_start = week_start
        self._latest = window_at(window, zone, 0.0, week_start)

    def at(self, now: float) -> Window:
        """The window in which ``now`` (Unix seconds) lies."""
        latest = self._latest
        if latest.start <= now < latest.end:
            return latest
        self._latest = latest = window_at(self.window, self.zone, now, self.week_start)
        return latest


def _span(window: str, day: date, week_start: int) -> tuple[date, date, str]:
    """First day, first day after, and label. Weeks from Monday are those of ISO 8601, numbered by their Thursday; others are
    named by their first day.
    """
    if window == "day":
        return day, day + timedelta(days=1), day.isoformat()
    if window == "week" and week_start:
        first = day - timedelta(days=(day.weekday() - week_start) % 7)
        return first, first + timedelta(days=7), first.isoformat()
    if window == "week":
        year, week, weekday = day.isocalendar()
        monday = day - timedelta(days=weekday - 1)
        return monday, monday + timedelta(days=7), f"{year:04d}-W{week:02d}"
    if window == "month":
        first = day.replace(day=1)
        return first, (first + timedelta(days=31)).replace(day=1), f"{day.year:04d}-{day.month:02d}"
    raise ValueError(f"not a window: {window!r}")


def _begin(day: date, zone: ZoneInfo) -> int:
    """The first second of a local day.

    Where midnight comes twice, ``fold=0`` is the first one; where clocks jump over it, the day begins with the jump
    (PEP 495: a time in the gap is read with the offset before it, so that the answer may lie past the jump).
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    second = int(midnight.timestamp())
    if datetime.fromtimestamp(second - 1, zone).date() < day:
        return second
    return _change(zone, second - HOUR_S, second)


def _hour(zone: ZoneInfo, now: float) -> Window:
    """A local clock hour at one offset: the hour that comes twice in autumn is two windows."""
    second = floor(now)
    local = datetime.fromtimestamp(second, zone)
    start = second - local.minute * 60 - local.second
    end = start + HOUR_S
    if _offset(zone, start) != local.utcoffset():
        start = _change(zone, start, second)
    if _offset(zone, end - 1) != local.utcoffset():
        end = _change(zone, second, end - 1)
    at = "" if zone.key == "UTC" else f"{local:%z}"
    return Window(f"hour:{local:%Y-%m-%dT%H}{at}{_suffix(zone)}", start, end)


def _change(zone: ZoneInfo, before: int, after: int) -> int:
    """The first second, in (before, after], that has the offset of ``after``."""
    offset = _offset(zone, after)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if _offset(zone, middle) == offset else (middle, after)
    return after


def _offset(zone: ZoneInfo, second: int) -> timedelta | None:
    return datetime.fromtimestamp(second, zone).utcoffset()


def _suffix(zone: ZoneInfo) -> str:
    return "" if zone.key == "UTC" else f"@{zone.key}"
