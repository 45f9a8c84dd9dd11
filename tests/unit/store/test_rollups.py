"""What one record adds to the sums of its hour."""

from __future__ import annotations

from dataclasses import fields, replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Record, as_json, from_json
from gateway.store import SPEND_COUNTS
from gateway.store.lost import lost_record
from gateway.store.rollups import DIMENSIONS, USUAL, beyond_records, spend_of
from pricing.usage import UNITS, Usage

RECORD = replace(
    lost_record("c", 1795219200.5, 7, [("user:ann", "day"), ("team:search", "day")], ()),
    outcome="completed",
    provider="openai",
    model_requested="gpt-5",
    model_served="gpt-5-2025-08-07",
    usage={"input": 10, "cached_input": 5, "output": 3, "reasoning": 2},
)


def counts(record) -> dict[str, int]:
    return dict(zip(SPEND_COUNTS, spend_of(record, USUAL).counts, strict=True))


def test_a_call_adds_itself_to_its_hour():
    """Its hour in UTC, its dimensions in the order in which they are declared, its tokens and its cost."""
    spend = spend_of(RECORD, ("team", "model", "agent"))
    assert spend.hour == "2026-11-21T00"
    assert spend.dims == '{"team":"search","model":"gpt-5-2025-08-07","agent":""}'
    assert counts(RECORD) == {
        "calls": 1, "failed": 0, "refused": 0, "input": 15, "cached_input": 5, "output": 5, "cost_nanousd": 7, "estimated": 1,
        "unpriced": 0,
    }  # fmt: skip
    assert spend_of(RECORD, ()).dims == "{}"
    assert spend_of(RECORD, ["user"]).dims == '{"user":"ann"}'


def test_the_model_is_the_one_that_answered_else_the_one_asked_for():
    """An error names none."""
    assert spend_of(replace(RECORD, model_served=""), ("model",)).dims == '{"model":"gpt-5"}'


@pytest.mark.parametrize(
    ("outcome", "failed", "refused"),
    [
        ("completed", 0, 0), ("upstream_error", 1, 0), ("cut", 1, 0), ("client_disconnected", 1, 0), ("lost", 1, 0),
        ("refused", 0, 1),
    ],
)  # fmt: skip
def test_a_call_that_did_not_end_well_is_counted_as_that(outcome, failed, refused):
    """A refusal is no failure."""
    found = counts(replace(RECORD, outcome=outcome))
    assert (found["calls"], found["failed"], found["refused"]) == (1, failed, refused)


def test_a_correction_adds_the_difference_and_no_call():
    """Tokens that were counted before are not counted again; all of it may be negative."""
    fixed = replace(
        RECORD, outcome="corrected", corrects="c", cost_nanousd=-4, corrected_nanousd=7,
        usage={"input": 10, "output": 1}, corrected_usage={"input": 10, "cached_input": 5, "output": 3, "reasoning": 2},
    )  # fmt: skip
    assert counts(fixed) == {
        "calls": 0, "failed": 0, "refused": 0, "input": -5, "cached_input": -5, "output": -4, "cost_nanousd": -4,
        "estimated": 0, "unpriced": 0,
    }  # fmt: skip


@pytest.mark.parametrize("more", [{"corrects": "c"}, {"told_by": "other"}, {}])
def test_estimates_and_missing_prices_are_counted_of_calls(more):
    """Once, when the call is booked; what corrects it later, and what it told of, are no calls."""
    found = counts(replace(RECORD, usage_source="estimated", unpriced=True, **more))
    assert (found["estimated"], found["unpriced"]) == ((0, 0) if more else (1, 1))
    assert counts(replace(RECORD, usage_source="counted", **more))["estimated"] == 0


def test_sums_from_before_a_count_was_kept_are_held_against_what_they_know():
    """A row that lacks the last counts, or is made of one that does, differs in none of them; in the others a nano-dollar shows."""
    record = from_json(as_json(replace(RECORD, usage_source="estimated")))
    whole = spend_of(record, USUAL)
    assert beyond_records([whole], [record], lambda hour: hour) == []
    assert beyond_records([replace(whole, counts=whole.counts[:7])], [record], lambda hour: hour) == []
    (found,) = beyond_records([replace(whole, counts=(*whole.counts[:6], 8))], [record], lambda hour: hour)
    assert found.counts == (0, 0, 0, 0, 0, 0, 1, 0, 0)
    (found,) = beyond_records([replace(whole, counts=(*whole.counts[:7], 0, 0))], [record], lambda hour: hour)
    assert found.counts == (0, 0, 0, 0, 0, 0, 0, -1, 0)


def test_work_that_another_call_told_of_is_no_call():
    """Its tokens and its cost are there all the same."""
    found = counts(replace(RECORD, told_by="other"))
    assert (found["calls"], found["input"], found["cost_nanousd"]) == (0, 15, 7)


@given(st.builds(Usage, **dict.fromkeys(UNITS, st.integers(0, 10**9))))
def test_tokens_are_what_usage_says_that_they_are(usage):
    """Every unit that there is."""
    found = counts(replace(RECORD, usage=usage.counts()))
    assert (found["input"], found["output"]) == (usage.input_tokens, usage.output_tokens)
    assert found["cached_input"] == usage.cached_input + usage.cached_audio + usage.cached_image


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.sampled_from(DIMENSIONS), unique=True), st.data())
def test_a_record_and_its_json_add_the_same(names, data):
    """Whoever books it; and the text of the dimensions is JSON of exactly their values."""
    values = {name: data.draw(texts) for name in (*DIMENSIONS, "model_served", "model_requested") if name != "model"}
    record = replace(RECORD, **values)
    spend = spend_of(record, names)
    assert spend_of(from_json(as_json(record)), names) == spend
    told = orjson.loads(spend.dims)
    assert list(told) == names
    for name in names:
        assert told[name] == (
            (record.model_served or record.model_requested) if name == "model" else getattr(record, name)
        )


def test_every_dimension_is_a_field_of_the_record():
    """But the model, which has two."""
    assert set(DIMENSIONS) - {"model"} <= {field.name for field in fields(Record)}
    assert set(USUAL) <= set(DIMENSIONS)
