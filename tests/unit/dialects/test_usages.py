"""Usage objects: details within totals, however inconsistent the provider is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.anthropic_messages import AnthropicMessages
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_embeddings import OpenAIEmbeddings
from gateway.dialects.openai_responses import OpenAIResponses
from pricing.usage import Usage

COUNT = st.integers(0, 10**6)


@given(COUNT, COUNT, st.lists(COUNT, min_size=7, max_size=7))
def test_fields_add_up_to_the_totals_of_the_provider(read: int, written: int, parts: list[int]) -> None:
    """Whatever the details say: nothing is billed twice and nothing is lost."""
    names = ["cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens"]
    raw = {
        "prompt_tokens": read,
        "prompt_tokens_details": dict(zip(names, parts, strict=False)),
        "completion_tokens": written,
        "completion_tokens_details": {"reasoning_tokens": parts[4], "audio_tokens": parts[5], "image_tokens": parts[6]},
        "total_tokens": read + written,
    }
    usage = OpenAIChat().usage(raw)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (read, written)
    assert min(usage.counts().values(), default=0) >= 0


@given(COUNT, COUNT, COUNT, COUNT, COUNT, COUNT)
def test_anthropic_counts_add_up_too(fresh: int, read: int, wrote: int, hour: int, output: int, thinking: int) -> None:
    """Cached tokens stand beside the input there; the sum of writes wins over their split."""
    usage = AnthropicMessages().usage(
        {
            "input_tokens": fresh,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": wrote,
            "cache_creation": {"ephemeral_1h_input_tokens": hour, "ephemeral_5m_input_tokens": 1},
            "output_tokens": output,
            "output_tokens_details": {"thinking_tokens": thinking},
        }
    )
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (fresh + read + wrote, output)


@pytest.mark.parametrize("value", [None, "12", -3, 1.5, True, [], {}])
def test_a_count_that_is_no_count_is_left_out(value: Any) -> None:
    """A single one leaves the other standing; when none is left there is no usage."""
    assert OpenAIChat().usage({"prompt_tokens": value, "completion_tokens": 4}) == Usage(output=4)
    assert OpenAIChat().usage({"prompt_tokens": value}) is None
    assert OpenAIResponses().usage({"input_tokens": 3, "output_tokens": value}) == Usage(input=3)
    assert AnthropicMessages().usage({"input_tokens": value}) is None
    assert OpenAIEmbeddings().usage({"prompt_tokens": value}) is None


def test_zero_is_a_count() -> None:
    """A provider that says zero is believed."""
    assert OpenAIChat().usage({"prompt_tokens": 0, "completion_tokens": 0}) == Usage()


def test_a_huge_count_is_clamped() -> None:
    """Prices times counts must fit the books."""
    assert OpenAIChat().usage({"prompt_tokens": 2**63, "completion_tokens": 1e300}) == Usage(input=10**9, output=10**9)


@pytest.mark.parametrize("value", [None, 5, "x", [1]])
def test_details_that_are_no_object_say_nothing(value: Any) -> None:
    """The totals stand by themselves."""
    raw = {
        "prompt_tokens": 5,
        "prompt_tokens_details": value,
        "completion_tokens": 2,
        "completion_tokens_details": value,
    }
    assert OpenAIChat().usage(raw) == Usage(input=5, output=2)


def test_moonshot_puts_cached_tokens_beside_the_totals() -> None:
    """A third place for the same number; OpenAI's own wins."""
    assert OpenAIChat().usage({"prompt_tokens": 9, "cached_tokens": 4}) == Usage(input=5, cached_input=4)
    both = {"prompt_tokens": 9, "cached_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}}
    assert OpenAIChat().usage(both) == Usage(input=8, cached_input=1)


def test_images_in_embeddings_stand_apart() -> None:
    """Within the total, as everywhere."""
    raw = {"prompt_tokens": 10, "prompt_tokens_details": {"image_tokens": 6}}
    assert OpenAIEmbeddings().usage(raw) == Usage(input=4, image_in=6)


def test_cache_writes_without_a_sum_are_summed() -> None:
    """Of a provider that only splits them."""
    raw = {"input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3}}
    assert AnthropicMessages().usage(raw) == Usage(input=1, cache_write=2, cache_write_1h=3)
