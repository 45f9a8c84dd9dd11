"""book, match, price: the right row at the right moment, the sum of its parts, and never nothing for something."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.book import Book, read_rows
from pricing.price import price
from pricing.usage import UNITS, Usage

BOOK = Book.load()
NOW = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp())
COUNTS = st.integers(0, 10**7)
USAGES = st.builds(Usage, **dict.fromkeys(UNITS, COUNTS))
ROW = {"id": "me/x", "provider": "me", "names": ["X"], "rates": {"input": "1", "output": "2"}}


def book_of(tmp_path, *rows):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"rows": rows}))
    return Book.load(path)


@pytest.mark.parametrize(
    ("provider", "model", "input_usd", "cached_usd", "output_usd"),
    [  # dollars per million, from the vendors' pricing pages as two public tables agree on them
        ("openai", "gpt-4o", "2.5", "1.25", "10"),
        ("openai", "gpt-4o-mini", "0.15", "0.075", "0.6"),
        ("openai", "gpt-4.1", "2", "0.5", "8"),
        ("openai", "gpt-5", "1.25", "0.125", "10"),
        ("openai", "o3", "2", "0.5", "8"),
        ("openai", "o4-mini", "1.1", "0.275", "4.4"),
        ("openai", "text-embedding-3-small", "0.02", "0.02", "0"),
        ("anthropic", "claude-opus-4-5", "5", "0.5", "25"),
        ("anthropic", "claude-sonnet-4-5", "3", "0.3", "15"),
        ("anthropic", "claude-haiku-4-5", "1", "0.1", "5"),
        ("google", "gemini-2.5-pro", "1.25", "0.125", "10"),
        ("google", "gemini-2.5-flash", "0.3", "0.03", "2.5"),
    ],
)
def test_the_book_has_the_vendors_rates(provider, model, input_usd, cached_usd, output_usd):
    """A dozen rows, by hand."""
    tariff = BOOK.tariff(provider, model, NOW)
    rates = [Decimal(tariff.rate_femto(unit)) / 10**9 for unit in ("input", "cached_input", "output")]
    assert rates == [Decimal(input_usd), Decimal(cached_usd), Decimal(output_usd)]


@pytest.mark.parametrize(
    ("provider", "model", "row"),
    [
        ("openai", "gpt-4o-2024-08-06", "openai/gpt-4o"),
        ("openai", "GPT-4o-mini", "openai/gpt-4o-mini"),
        ("openai", "openai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ("openai", "gpt-5-2025-08-07", "openai/gpt-5"),
        ("anthropic", "claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5"),
        ("anthropic", "claude-sonnet-4-5@20250929", "anthropic/claude-sonnet-4-5"),
        ("google", "models/gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("gemini", "gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("elsewhere", "anthropic/claude-haiku-4-5", "anthropic/claude-haiku-4-5"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", "openai/ft:gpt-4o-mini"),
    ],
)
def test_names_resolve_by_rule(provider, model, row):
    """Releases, prefixes, case, fine-tunes."""
    tariff = BOOK.tariff(provider, model, NOW)
    assert tariff is not None
    assert tariff.row.split("@")[0].startswith(row)


@pytest.mark.parametrize(
    "model", ["", "gpt-5-unknown", "gpt-4o-ultra", "gpt", "x" * 10_000, "ft:unknown:a", "/", "a/b/c", "\n"]
)
def test_a_name_that_only_looks_known_is_unknown(model):
    """It may be a dearer model: nothing is guessed."""
    assert BOOK.tariff("openai", model, NOW) is None


def test_the_stand_in_for_an_unknown_model_is_the_dearest_of_its_family():
    """Never zero, marked as unpriced, at least as dear as any general model of the provider."""
    for provider in ("openai", "anthropic", "google", "somebody"):
        tariff = BOOK.dearest(provider, NOW)
        assert tariff.unpriced
        assert price(Usage(input=1), tariff).unpriced
        assert all(rate > 0 for unit, rate in zip(UNITS, tariff.steps[""][0].femto, strict=True) if unit != "searches")
    assert BOOK.dearest("anthropic", NOW).rate_femto("input") >= BOOK.tariff(
        "anthropic", "claude-opus-4-5", NOW
    ).rate_femto("input")


@given(USAGES)
def test_the_bill_is_the_sum_of_its_fields(usage):
    """Each field priced alone, added up exactly, rounded once."""
    tariff = BOOK.tariff("openai", "gpt-4o", NOW)
    total = sum(getattr(usage, unit) * tariff.rate_femto(unit) for unit in UNITS)
    assert price(usage, tariff).nanousd == (2 * total + 10**6) // (2 * 10**6)


@given(
    USAGES,
    st.sampled_from(["claude-sonnet-4-5", "gpt-5.4", "gemini-2.5-pro"]),
    st.sampled_from(["", "batch", "flex", "wat"]),
)
def test_no_price_is_above_the_provable_bound(usage, model, tier):
    """All input at the dearest input rate and all output at the dearest output rate bound every tier and context."""
    provider = {"c": "anthropic", "g": "openai"}[model[0]] if not model.startswith("gemini") else "google"
    tariff = BOOK.tariff(provider, model, NOW)
    text = Usage(
        usage.input,
        usage.cached_input,
        usage.cache_write,
        usage.cache_write_1h,
        output=usage.output,
        reasoning=usage.reasoning,
    )
    bound = text.input_tokens * tariff.dearest_input_femto + text.output_tokens * tariff.dearest_output_femto
    assert price(text, tariff, tier).nanousd <= -(-bound // 10**6)


def test_long_context_changes_the_rate_of_the_whole_call():
    """Above 200,000 input tokens the provider bills all of them at the second rate."""
    tariff = BOOK.tariff("google", "gemini-2.5-pro", NOW)
    assert price(Usage(input=200_000), tariff).nanousd == 250_000_000
    assert price(Usage(input=200_001), tariff).nanousd == 200_001 * 2_500
    assert price(Usage(input=1, cached_input=200_000, output=1000), tariff).rows == ("google/gemini-2.5-pro#long",)


def test_a_tier_has_its_own_rates_and_an_unknown_one_says_so():
    """batch halves gpt-4o-mini; a tier that no row knows is charged the standard rate, marked."""
    tariff = BOOK.tariff("openai", "gpt-4o-mini", NOW)
    usage = Usage(input=1_000_000)
    assert price(usage, tariff, "batch").nanousd == 75_000_000
    assert price(usage, tariff, "default") == price(usage, tariff)
    unknown = price(usage, tariff, "warp")
    assert (unknown.nanousd, unknown.rows) == (150_000_000, ("openai/gpt-4o-mini#unknown-tier",))


def test_rows_are_valid_in_their_dates_only(tmp_path):
    """The first day counts, the last does not."""
    rows = [
        ROW | {"id": "old", "valid_to": "2026-01-01"},
        ROW | {"id": "new", "valid_from": "2026-01-01", "rates": {"input": "3"}},
    ]
    book = book_of(tmp_path, *rows)
    switch = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    assert [book.tariff("me", "x", at).row for at in (switch - 1, switch, switch - 1)] == ["old", "new", "old"]


def test_overrides_go_first_and_change_the_version(tmp_path):
    """A negotiated price wins over the list; a record that names the version can be told apart."""
    mine = ROW | {"id": "deal", "provider": "openai", "names": ["gpt-4o"], "rates": {"input": "0", "output": "0"}}
    book = book_of(tmp_path, mine)
    assert price(Usage(input=10**6, reasoning=5), book.tariff("openai", "gpt-4o", NOW)).nanousd == 0
    assert book.version.startswith(BOOK.version + "+")
    assert book.tariff("openai", "gpt-4o-mini", NOW).row == "openai/gpt-4o-mini"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({}, "id is missing"),
        (ROW | {"rates": {"input": 1}}, "decimal number in quotes"),
        (ROW | {"rates": {"output": "1"}}, "a rate for input is needed"),
        (ROW | {"rates": {"input": "1", "tokens": "1"}}, "unknown units: tokens"),
        (ROW | {"rates": {"input": "-1"}}, "not a whole number"),
        (ROW | {"valid_from": "someday"}, "Invalid isoformat"),
        (ROW | {"long": [{"rates": {}}]}, "not of the form"),
    ],
)
def test_a_bad_override_is_refused_with_its_row(row, problem):
    """All problems, each with the number of its row."""
    with pytest.raises(ValueError, match=problem) as error:
        read_rows(json.dumps({"rows": [ROW, row]}))
    assert "row 2" in str(error.value)


def test_the_version_is_the_content():
    """Two loads agree."""
    assert Book.load().version == BOOK.version


def test_every_row_of_the_package_has_a_source():
    """Provenance is a column."""
    for _, _, _, tariff in BOOK._every:
        assert tariff.source.startswith("https://")
