"""The record of a call that nobody told to the end."""

from __future__ import annotations

from dataclasses import fields

from gateway.call import Record, as_json, from_json
from gateway.store.lost import lost_record, rfc3339


def test_a_lost_record_has_the_shape_of_every_other():
    """Who reads records needs no second way to read them."""
    record = from_json(as_json(lost_record("c", 1795219200.5, 7, [("user:ann", "day"), ("team:-", "day")], ("b",))))
    assert sorted(record) == sorted(field.name for field in fields(Record))
    assert (record["outcome"], record["cost_nanousd"], record["held_nanousd"]) == ("lost", 7, 7)
    assert (record["user"], record["team"], record["budgets"]) == ("ann", "", ["b"])
    assert record["accounts"] == ["user:ann/day", "team:-/day"]
    assert record["started_at"] == "2026-11-21T00:00:00.500Z"


def test_times_are_written_so_that_they_sort():
    """UTC, milliseconds, always as long."""
    assert rfc3339(0.0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1795219200.0079) < rfc3339(1795219200.01)
