"""Which names a model may be looked up by, and, more important, which not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.match import MAX_CHARS, candidates


def names(model, provider="openai"):
    return [name for _, name in candidates(provider, model)]


@pytest.mark.parametrize(
    ("model", "base"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-opus-4-5@20251101", "claude-opus-4-5"),
        ("claude-3-opus-latest", "claude-3-opus"),
        ("gemini-2.0-flash-001", "gemini-2.0-flash"),
        ("gemini-2.5-flash-lite-preview-09-2025", "gemini-2.5-flash-lite-preview"),
        ("GPT-4o ", "gpt-4o"),
    ],
)
def test_a_release_is_looked_up_as_its_model(model, base):
    """The full name first: a release with a price of its own keeps it."""
    assert names(model) == list(dict.fromkeys([model.strip().lower(), base]))


@pytest.mark.parametrize(
    "model",
    [
        "gpt-5-unknown",
        "gpt-5-pro",
        "gpt-5.9",
        "gpt-4-0613",
        "gpt-4o-audio",
        "o3-12",
        "claude-opus-5-5",
        "gemini-2.5-pro-v2",
    ],
)
def test_a_longer_name_is_another_model(model):
    """It may be a dearer one."""
    assert names(model) == [model]


@pytest.mark.parametrize(
    ("model", "provider", "pair"),
    [
        ("openai/gpt-4o", "openai", ("openai", "gpt-4o")),
        ("models/gemini-2.5-pro", "google", ("google", "gemini-2.5-pro")),
        ("models/gemini-2.5-pro", "gemini", ("google", "gemini-2.5-pro")),
        ("publishers/google/models/gemini-2.5-pro", "google", ("google", "gemini-2.5-pro")),
        ("x-ai/grok-4", "xai", ("xai", "grok-4")),
        ("openai/gpt-4o-2024-08-06", "azure", ("openai", "gpt-4o")),
    ],
)
def test_a_prefix_that_names_the_provider_may_be_left_off(model, provider, pair):
    """Whatever the path in front says about who sells it."""
    assert pair in list(candidates(provider, model))


@pytest.mark.parametrize("provider", ["self-hosted", "groq", "anthropic"])
def test_a_foreign_prefix_sends_nobody_elsewhere(provider):
    """What a provider serves costs what that provider asks."""
    assert list(candidates(provider, "openai/gpt-4o")) == [(provider, "openai/gpt-4o")]


def test_a_reseller_is_believed_about_whose_model_it_is():
    """As far as the prefix is one provider's name."""
    assert ("anthropic", "claude-opus-5-5") in list(candidates("router", "anthropic/claude-opus-5-5", resold=True))
    assert list(candidates("router", "a/b/gpt-4o", resold=True)) == [("router", "a/b/gpt-4o")]


@pytest.mark.parametrize(
    "model", ["ft:gpt-4o-mini:org::id", "ft:gpt-4o-mini-2024-07-18:org::id", "openai/ft:gpt-4o-mini:org::id"]
)
def test_a_fine_tune_is_never_its_base(model):
    """Its price is higher."""
    assert "ft:gpt-4o-mini" in names(model)
    assert "gpt-4o-mini" not in names(model)


def test_a_short_date_counts_where_releases_have_one():
    """gpt-3.5-turbo's fine-tunes, and nobody else's."""
    assert names("ft:gpt-3.5-turbo-0125:org::id")[-1] == "ft:gpt-3.5-turbo"
    assert names("ft:gpt-4-0613:org::id") == ["ft:gpt-4-0613"]


@given(st.text(max_size=2 * MAX_CHARS))
def test_any_name_gives_a_few_short_ones(model):
    """Names come from callers."""
    found = names(model)
    assert len(found) <= 6
    assert all(len(name) <= 2 * MAX_CHARS for name in found)


def test_a_name_that_is_too_long_matches_nothing():
    """It is not cut down to one that does."""
    assert names("gpt-4o" + " " * MAX_CHARS) == []


@pytest.mark.parametrize(
    ("name", "found"), [("a/b:nitro", True), ("a/b:floor", True), ("a/b:free", False), ("a/b:beta", False)]
)
def test_a_way_to_a_model_is_not_another_model(name: str, found: bool) -> None:
    """OpenRouter's ``:free`` is another row, ``:nitro`` is not; for other providers a colon is part of the name."""
    assert (("openrouter", "a/b") in list(candidates("openrouter", name))) is found
    assert ("together", "a/b") not in list(candidates("together", name))
