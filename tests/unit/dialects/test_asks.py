"""What is asked: bounds, choices and names, from bodies that nobody checked before."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.dialects.anthropic_messages import AnthropicMessages
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_completions import OpenAICompletions
from gateway.dialects.openai_embeddings import OpenAIEmbeddings
from gateway.dialects.openai_responses import OpenAIResponses


def chat(**fields: Any) -> Any:
    return OpenAIChat().ask(orjson.dumps(fields))


def test_an_ordinary_request_is_read_whole() -> None:
    """Model, stream, choices, bound, tier and size."""
    body = b'{"model":"gpt-4o","stream":true,"n":3,"max_completion_tokens":50,"service_tier":"flex","messages":[]}'
    ask = OpenAIChat().ask(body)
    assert (ask.operation, ask.metered, ask.model, ask.stream, ask.choices) == ("chat", True, "gpt-4o", True, 3)
    assert (ask.max_output_tokens, ask.service_tier, ask.input_bytes, ask.fault) == (50, "flex", len(body), "")


@pytest.mark.parametrize(
    ("value", "bound"),
    [(0, 0), (17, 17), (2**63, 10_000_000), (-1, None), (1.5, None), (10.0, None), ("10", None), (True, None), (None, None), ([], None)],
)  # fmt: skip
def test_an_odd_output_bound_is_no_bound(value: Any, bound: int | None) -> None:
    """What is ignored leaves the model's own maximum, which holds more and never less."""
    assert chat(max_tokens=value).max_output_tokens == bound


def test_of_two_output_bounds_the_larger_counts() -> None:
    """Providers disagree on which of them wins."""
    assert chat(max_tokens=10, max_completion_tokens=20).max_output_tokens == 20
    assert chat(max_tokens=30, max_completion_tokens=20).max_output_tokens == 30


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1), (4, 4), (0, 1), (-5, 1), (10**9, 10_000), (2.0, 2), ("5", 5), (" 7 ", 7), ("x", 1), (1e300, 10_000), ("9" * 5000, 10_000), (True, 1), (None, 1), ({}, 1)],
)  # fmt: skip
def test_choices_are_between_one_and_ten_thousand(value: Any, number: int) -> None:
    """Numbers that lenient providers coerce are coerced here too: overlooking one would count too little."""
    assert chat(n=value).choices == number


def test_a_name_is_clean_and_short() -> None:
    """It goes into logs, labels and headers."""
    assert chat(model="x" * 10_000).model == "x" * 256
    assert chat(model="a\nb\x00c").model == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"
    assert chat(model=["gpt"]).model == ""


@pytest.mark.parametrize("value", [1, "true", None, [True], False])
def test_only_true_is_a_stream(value: Any) -> None:
    """The answer's own content type decides what is read; this is what is recorded."""
    assert chat(stream=value).stream is False


@pytest.mark.parametrize(
    ("prompt", "number"),
    [("one", 1), (["a", "b", "c"], 3), ([1, 2, 3], 1), ([[1], [2, 3]], 2), ([], 1), (None, 1)],
)
def test_each_prompt_of_completions_is_answered(prompt: Any, number: int) -> None:
    """And each candidate of best_of is billed, whether it is sent or not."""
    ask = OpenAICompletions().ask(orjson.dumps({"prompt": prompt, "n": 2, "best_of": 5}))
    assert ask.choices == 5 * number


def test_embeddings_write_nothing() -> None:
    """An output bound of 0 says so: nothing is held for output."""
    assert OpenAIEmbeddings().ask(b'{"model":"m","input":"x"}').max_output_tokens == 0


def test_the_other_dialects_know_their_own_bound() -> None:
    """max_output_tokens in responses, max_tokens in messages."""
    assert OpenAIResponses().ask(b'{"max_output_tokens":7,"max_tokens":9}').max_output_tokens == 7
    assert AnthropicMessages().ask(b'{"max_tokens":9}').max_output_tokens == 9


def test_fast_speed_is_a_tier() -> None:
    """It has its own price."""
    assert AnthropicMessages().ask(b'{"speed":"fast","service_tier":"auto"}').service_tier == "fast"
    assert AnthropicMessages().ask(b'{"service_tier":"auto"}').service_tier == "auto"
