"""Which answers tell of other work, and what they tell."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import Reading
from gateway.dialects.followed import AnthropicBatchResults, OpenAIBatches, OpenAIRetrieved
from gateway.dialects.sse import LineSplitter
from gateway.dialects.table import dialect_for
from gateway.dialects.values import add_up
from gateway.metering.charge import charge
from gateway.metering.meter import meter_work
from pricing.book import Book


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/v1/batches", OpenAIBatches),
        ("GET", "/batches/batch_1", OpenAIBatches),
        ("GET", "/openai/v1/batches/batch_1", OpenAIBatches),
        ("GET", "/v1/responses/resp_1", OpenAIRetrieved),
        ("GET", "/v1/messages/batches/b1/results", AnthropicBatchResults),
        ("GET", "/v1/messages/batches/b1", None),
        ("GET", "/v1/messages/batches", None),
        ("GET", "/v1/responses/resp_1/input_items", None),
        ("GET", "/v1/models", None),
        ("POST", "/v1/batches/batch_1/cancel", None),
        ("DELETE", "/v1/responses/resp_1", None),
    ],
)
def test_which_path_tells_of_work(method: str, path: str, kind: type | None) -> None:
    """Only what is fetched, and only what holds usage."""
    dialect = dialect_for("openai", method, path)
    assert dialect.metered is False
    assert dialect.follows is (kind is not None)
    assert kind is None or type(dialect) is kind


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "cancelling", None, 5])
def test_a_batch_that_runs_is_not_billed_yet(status: Any) -> None:
    """Its usage may still grow."""
    reading = Reading()
    batch = {"id": "b", "object": "batch", "status": status, "usage": {"input_tokens": 5}}
    OpenAIBatches().read(json.dumps(batch).encode(), reading)
    assert reading.works == {}


NESTED = st.recursive(st.integers(0, 10**9), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8)  # fmt: skip


@given(st.lists(st.fixed_dictionaries({"x": st.integers(0, 10**9), "d": st.fixed_dictionaries({"y": st.integers(0, 9)})}), min_size=1))  # fmt: skip
def test_sums_are_sums(usages: list[dict[str, Any]]) -> None:
    """Count by count, also those inside details."""
    total = json.loads(json.dumps(usages[0]))
    for more in usages[1:]:
        add_up(total, more)
    assert total == {"x": sum(each["x"] for each in usages), "d": {"y": sum(each["d"]["y"] for each in usages)}}


@given(st.dictionaries(st.sampled_from("abc"), NESTED), st.dictionaries(st.sampled_from("abc"), NESTED))
def test_shapes_that_do_not_fit_are_no_error(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Strangers choose them."""
    add_up(one, other)


def test_a_sum_of_huge_counts_can_be_written_down() -> None:
    """JSON's writers end at 64 bits, and the record of one call must not keep others out of the books."""
    total: dict[str, Any] = {"input_tokens": 2**64 - 1, "seconds": 1.5, "of": {"it": 2**64 - 1}}
    add_up(total, total)
    add_up(total, {"input_tokens": 5, "seconds": 2})
    assert total == {"input_tokens": 2**62, "seconds": 5.0, "of": {"it": 2**62}}
    assert orjson.dumps(total)


@given(st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=6), st.integers(1, 9), st.booleans())  # fmt: skip
def test_lines_come_out_however_they_were_cut(lines: list[bytes], step: int, ended: bool) -> None:
    """With or without a last line end; empty ones are none."""
    text = b"\n".join(lines) + (b"\n" if ended else b"")
    splitter = LineSplitter()
    found = [line for at in range(0, len(text), step) for line in splitter.feed(text[at : at + step])]
    assert [*found, *splitter.finish()] == [line for line in lines if line.strip()]


def test_a_line_too_large_is_skipped_and_not_kept() -> None:
    """The one after it is read."""
    splitter = LineSplitter(limit=10)
    found = [line for _ in range(5) for line in splitter.feed(b"x" * 8)]
    assert len(splitter._rest) <= 10
    found += [*splitter.feed(b"\nshort\n"), *splitter.feed(b"y" * 11 + b"\n"), *splitter.finish()]
    assert found == [b"short"]


BOOK = Book.load()
AT = 1_795_000_000
MESSAGES = st.fixed_dictionaries(
    {
        "input_tokens": st.sampled_from([1, 5_000, 60_000, 100_000, 100_001, 250_000]),
        "output_tokens": st.integers(0, 99),
    },
    optional={
        "iterations": st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["compaction", "message"]), "input_tokens": st.integers(0, 90_000)}
            ),
            max_size=2,
        )
    },
)


@given(st.lists(MESSAGES, min_size=1, max_size=12))
def test_a_batch_costs_what_its_messages_cost(usages: list[dict[str, Any]]) -> None:
    """Prices for long contexts go by each message, never by the sum of many."""

    def works(some: list[dict[str, Any]]) -> int:
        reading, dialect = Reading(), AnthropicBatchResults("b")
        for usage in some:
            message = {"model": "claude-haiku-5-5", "usage": usage}
            dialect.read(json.dumps({"result": {"type": "succeeded", "message": message}}).encode(), reading)
        metered = [meter_work(dialect, work) for work in reading.works.values()]
        return sum(charge(BOOK, "anthropic", each, each.model_served, AT).nanousd for each in metered if each)

    assert abs(works(usages) - sum(works([usage]) for usage in usages)) <= len(usages)  # each is rounded once


def test_a_batch_object_is_priced_by_its_mean_request() -> None:
    """Fifty requests of ten thousand tokens are no long context; nothing tells more of them."""
    usage = {"input_tokens": 500_000, "output_tokens": 50}
    batch = {"id": "b", "object": "batch", "status": "completed", "model": "gpt-5.4", "usage": usage, "request_counts": {"completed": 50}}  # fmt: skip
    reading = Reading()
    OpenAIBatches().read(json.dumps(batch).encode(), reading)
    (work,) = reading.works.values()
    metered = meter_work(OpenAIBatches(), work)
    assert metered is not None
    assert (metered.largest_input, charge(BOOK, "openai", metered, "gpt-5.4", AT).rows) == (10_000, ("openai/gpt-5.4#batch",))  # fmt: skip
