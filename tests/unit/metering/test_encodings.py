"""Model names to encodings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiktoken.model import MODEL_PREFIX_TO_ENCODING, MODEL_TO_ENCODING

from gateway.metering.encodings import DEFAULT, SHAPES, encoding_for

OLD = {"p50k_base", "r50k_base", "p50k_edit", "gpt2"}
KNOWN = {
    name: encoding.replace("o200k_harmony", "o200k_base")
    for name, encoding in (MODEL_TO_ENCODING | MODEL_PREFIX_TO_ENCODING).items()
    if encoding not in OLD
}


@pytest.mark.parametrize("model", sorted(KNOWN))
def test_we_agree_with_tiktoken_where_it_knows(model: str) -> None:
    """And say that the count is exact."""
    fit = encoding_for(model)
    assert (fit.encoding, fit.percent, fit.exact) == (KNOWN[model], 100, True)


@pytest.mark.parametrize(
    ("model", "encoding", "percent"),
    [
        ("gpt-6-sol", "o200k_base", 100),
        ("openai/GPT-4o", "o200k_base", 100),
        ("ft:gpt-3.5-turbo-0125:org::id", "cl100k_base", 100),
        ("ft:gpt-4o-mini:org::id", "o200k_base", 100),
        ("claude-3-5-haiku-latest", "o200k_base", 125),
        ("claude-opus-4-20250514", "o200k_base", 125),
        ("claude-opus-4", "o200k_base", 125),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "o200k_base", 125),
        ("claude-opus-4-6", "o200k_base", 125),
        ("claude-opus-4-7", "o200k_base", 183),
        ("claude-opus-5-5", "o200k_base", 183),
        ("claude-fable-5-2", "o200k_base", 183),
        ("gemini-2.5-pro", "o200k_base", 110),
    ],
)
def test_names_beyond_tiktoken_have_a_rule(model: str, encoding: str, percent: int) -> None:
    """Where the vocabulary is not published, the count is scaled to err high."""
    fit = encoding_for(model)
    assert (fit.encoding, fit.percent) == (encoding, percent)


@given(st.text(max_size=50))
def test_every_name_has_an_encoding(model: str) -> None:
    """Also those that are no names."""
    fit = encoding_for(model)
    assert fit.encoding in SHAPES
    assert fit.percent >= 100


def test_an_unknown_name_errs_high() -> None:
    """And says that it is a guess."""
    assert encoding_for("qwen3-coder") is encoding_for("") is DEFAULT
    assert (DEFAULT.exact, DEFAULT.percent > 100) == (False, True)
