"""A bound never lies below the bill: over every answer of the corpus, and over usages that a body could have led to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.bounds import bound
from gateway.call import Ask
from gateway.dialects.table import dialect_for
from pricing.book import Book
from pricing.price import price
from pricing.usage import Usage

CORPUS = Path(__file__).parents[1] / "corpus"
BOOK = Book.load()
AT = 1_795_000_000
PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
MODELS = [
    ("openai", "gpt-4o-mini"), ("openai", "gpt-5"), ("openai", "gpt-image-1"), ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"), ("google", "gemini-2.5-flash-image"), ("openai", "never-heard-of"),
]  # fmt: skip
CASES = sorted(CORPUS.glob("*/*/expected.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parts[-3]}/{path.parts[-2]}")
def test_the_bound_of_a_request_is_not_below_the_bill_of_its_answer(path: Path) -> None:
    """With the model that was asked for, as the gateway has to bound it before it knows the answer."""
    expected = json.loads(path.read_text())
    request = (path.parent / "request.json").read_bytes()
    ask = dialect_for(expected["protocol"], "POST", expected["path"]).ask(request)
    usage = Usage(**expected["usage"])
    if usage.input_tokens > len(request) and not ask.open_input:  # the corpus shortens prompts, not their usage
        usage = Usage(output=usage.output, reasoning=usage.reasoning, searches=usage.searches)
    tariff = BOOK.charge(expected["bill"]["provider"], "", ask.model, AT)
    assert bound(ask, tariff).most_nanousd >= price(usage, tariff, expected["service_tier"]).nanousd


@st.composite
def asked_and_used(draw: st.DrawFn) -> tuple[Ask, Usage]:
    """A body of so many bytes, and what a provider could make of it: no more tokens than the ask allows."""
    size = draw(st.integers(0, 5000))
    images = draw(st.integers(0, 3))
    most = draw(st.integers(1, 3000))
    answers = draw(st.integers(1, 4))
    ask = Ask(
        "chat", metered=True, choices=answers, max_output_tokens=most, input_bytes=size, extra_tokens=images * 50_000
    )
    left, counts = size, {}
    for unit in ("cache_write_1h", "cache_write", "cached_input"):
        counts[unit] = draw(st.integers(0, left))
        left -= counts[unit]
    written = draw(st.integers(0, most * answers))
    reasoning = draw(st.integers(0, written))
    image_in = draw(st.integers(0, images * 50_000))
    return ask, Usage(input=left, image_in=image_in, output=written - reasoning, reasoning=reasoning, **counts)


@given(asked_and_used(), st.sampled_from(MODELS), st.sampled_from(["", "flex", "priority", "batch", "fast", "made-up"]))
def test_whatever_a_provider_makes_of_a_request_its_bill_is_within_the_bound(
    both: tuple[Ask, Usage], model: tuple[str, str], tier: str
) -> None:
    """Caches written for an hour, reasoning, images, long contexts, dearer tiers: all of it."""
    ask, usage = both
    tariff = BOOK.charge(model[0], "", model[1], AT)
    amounts = bound(ask, tariff)
    if tariff.max_output_tokens is None or usage.output_tokens <= tariff.max_output_tokens * ask.choices:
        assert price(usage, tariff, tier).nanousd <= amounts.most_nanousd
    assert amounts.likely_nanousd <= amounts.most_nanousd
