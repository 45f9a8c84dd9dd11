"""The provider's exports, in the shapes of its own documentation, against records."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway.reconcile import Sums, compare, read

DAY, NEXT = 1_795_219_200, 1_795_305_600
"""2026-11-21 and the day after, 00:00 UTC."""
EXACT = Decimal(0)


def openai(*results: dict[str, Any], start: int = DAY) -> dict[str, Any]:
    """platform.openai.com/docs/api-reference/usage."""
    bucket = {"object": "bucket", "start_time": start, "end_time": start + 86_400, "results": list(results)}
    return {"object": "page", "data": [bucket], "has_more": False, "next_page": None}


def anthropic(*results: dict[str, Any]) -> dict[str, Any]:
    """platform.claude.com/docs/en/api/admin: usage_report/messages and cost_report."""
    bucket = {"starting_at": "2026-11-21T00:00:00Z", "ending_at": "2026-11-22T00:00:00Z", "results": list(results)}
    return {"data": [bucket], "has_more": False, "next_page": None}


def used(model: str | None, read_: int, written: int, calls: int, **more: int) -> dict[str, Any]:
    kind = "organization.usage.completions.result"
    counts = {"input_tokens": read_, "output_tokens": written, "num_model_requests": calls, "input_cached_tokens": 5}
    return {"object": kind, "model": model, **counts, **more}


def costs(line_item: str | None, value: Any, currency: str = "usd") -> dict[str, Any]:
    amount = {"value": value, "currency": currency}
    return {"object": "organization.costs.result", "amount": amount, "line_item": line_item, "project_id": None}


def record(model: str = "gpt-4o-mini-2024", **changed: Any) -> dict[str, Any]:
    usage = {"input": 80, "cached_input": 20, "output": 7, "reasoning": 3}
    base = {
        "call_id": "c1", "started_at": "2026-11-21T10:00:00.000Z", "provider": "openai", "model_served": model, "model_requested": "asked",
        "usage": usage, "usage_source": "provider", "cost_nanousd": 1500,
    }  # fmt: skip
    return base | changed


def test_a_corrected_call_is_one_call_with_its_last_usage() -> None:
    """Its costs add up; its tokens are those of the last word on it."""
    estimate = record(usage={"input": 80, "output": 4096}, cost_nanousd=9000)
    final = record(call_id="c1+1", corrects="c1", cost_nanousd=-7500)
    usage = openai(used("gpt-4o-mini-2024", 100, 10, 1))
    (row,) = compare(read([usage]), [estimate, final], {"c1": "c1+1"})
    assert (row.ours.calls, row.ours.input_tokens, row.ours.output_tokens, row.ours.cost_nanousd) == (1, 100, 10, 1500)
    assert row.differs(Decimal(0)) == []


def test_what_agrees_has_no_difference() -> None:
    """Input with its cached part, output with reasoning, requests, costs of several line items."""
    usage = openai(used("gpt-4o-mini-2024", 200, 20, 2))
    bill = openai(costs("gpt-4o-mini-2024, input", Decimal("0.000002")), costs("gpt-4o-mini-2024, output", "0.000001"))
    (row,) = compare(read([usage, bill]), [record(), record()])
    assert (row.day, row.model) == ("2026-11-21", "gpt-4o-mini-2024")
    assert row.theirs == row.ours == Sums(2, 200, 20, 3000)
    assert row.differs(EXACT) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"usage": {"input": 99, "output": 10}}, "input_tokens"),
        ({"usage": {"input": 100, "output": 11}}, "output_tokens"),
        ({"cost_nanousd": 1501}, "cost_nanousd"),
    ],
)
def test_what_differs_is_named(changed: dict[str, Any], named: str) -> None:
    """A single token or nano-dollar, where no tolerance is given."""
    export = read([openai(used("gpt-4o-mini-2024", 100, 10, 1), costs("gpt-4o-mini-2024, input", 0.0000015))])
    (row,) = compare(export, [record(**changed)])
    assert row.differs(EXACT) == [named]
    assert row.differs(Decimal("0.11")) == []


def test_a_model_that_one_side_does_not_know_is_a_row_of_its_own() -> None:
    """Calls past the gateway, and calls that the provider has not counted."""
    export = read([openai(used("past-us", 10, 1, 1))])
    ours, theirs = compare(export, [record("only-ours")])
    assert (ours.model, ours.theirs) == ("only-ours", Sums(0, 0, 0))
    assert ours.differs(EXACT) == ["calls", "input_tokens", "output_tokens"]
    assert (theirs.model, theirs.ours) == ("past-us", Sums())
    assert theirs.differs(EXACT) == ["calls", "input_tokens", "output_tokens"]


def test_an_export_that_names_no_model_is_held_against_all_of_a_day() -> None:
    """And only days, providers and calls that it speaks of count."""
    export = read([openai(used(None, 200, 20, 2))])
    others = [
        record(started_at="2026-11-20T23:59:59.999Z"),
        record(started_at="2026-11-22T00:00:00.000Z"),
        record(provider="anthropic"),
        record(usage_source="", usage={}, cost_nanousd=0),
    ]
    (row,) = compare(export, [record("a"), record("b", provider="azure"), *others])
    assert (row.model, row.differs(EXACT)) == ("", [])


def test_anthropics_parts_of_input_and_cents_are_added_up() -> None:
    """Uncached, read from caches, written for five minutes and an hour; $0.0123 is 1.23 cents."""
    usage = {
        "uncached_input_tokens": 50, "cache_read_input_tokens": 30, "output_tokens": 10, "model": "claude-haiku-4-5",
        "cache_creation": {"ephemeral_1h_input_tokens": 15, "ephemeral_5m_input_tokens": 5},
    }  # fmt: skip
    cost = {"amount": "1.23", "currency": "USD", "model": "claude-haiku-4-5", "cost_type": "tokens"}
    ours = record("claude-haiku-4-5", provider="anthropic", cost_nanousd=12_300_000)
    (row,) = compare(read([[anthropic(usage)], anthropic(cost)]), [ours])
    assert row.theirs == Sums(None, 100, 10, 12_300_000)
    assert row.differs(EXACT) == []


def test_days_are_kept_apart() -> None:
    """A call at midnight belongs to the new day."""
    export = read([openai(used("m", 100, 10, 1)), openai(used("m", 100, 10, 1), start=NEXT)])
    rows = compare(export, [record("m"), record("m", started_at="2026-11-22T00:00:00.000Z")])
    assert [(row.day, row.differs(EXACT)) for row in rows] == [("2026-11-21", []), ("2026-11-22", [])]


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ([{}], "holds no usage"),
        ([[]], "holds no usage"),
        ([None, 3, "x", {"data": [None, {"results": 3}]}], "holds no usage"),
        ([openai(used("m", 1, 1, 1)), anthropic({"amount": "1", "currency": "USD"})], "two providers"),
        ([openai(costs("m", 1, "eur"))], "another currency"),
        ([openai(costs("m", "a lot"))], "no number"),
        ([openai(costs("m", "NaN"))], "no number"),
        ([openai(costs("m", "1e999999999"))], "no number"),
        ([{"data": [{"starting_at": "some day", "results": [{"amount": "1"}]}]}], "without a time"),
        ([openai(used("m", 1, 1, 1), start=10**30)], "without a time"),
    ],
)
def test_what_is_no_export_is_said_in_a_sentence(documents: list[Any], said: str) -> None:
    """And never a stack."""
    with pytest.raises(ValueError, match=said):
        read(documents)
