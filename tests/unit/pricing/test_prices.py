"""The rows of the package: right in form, unambiguous, and those that two public lists agree on."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from pricing.book import Book, _builtin, _clashes
from pricing.rows import problems

BOOK = Book.load()
ROWS = [json.loads(line) for line in _builtin().split("\n")]
AT = 1795000000  # 2026-11-18
FILES = sorted((Path(__file__).parents[3] / "pricing" / "data").glob("*.json"))


def test_every_row_is_right_in_form():
    """The book is read without being checked each time."""
    assert [(row["id"], problem) for row in ROWS for problem in problems(row)] == []


def test_no_two_rows_price_a_name_at_the_same_time():
    """Otherwise their order would decide."""
    assert list(_clashes(ROWS)) == []


def test_ids_are_unique_and_every_row_says_where_it_is_from():
    """A record names rows by id; a person wants to check them."""
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    assert all(row["source"].startswith("https://") and row["source_date"] for row in ROWS)


def test_no_row_of_the_package_matches_by_prefix():
    """A longer name may be a dearer model."""
    assert not [name for row in ROWS for name in row["names"] if "*" in name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_one_row_a_line_in_order(path):
    """So that a difference can be read."""
    ids = [row["id"] for row in json.loads(path.read_text())["rows"]]
    assert ids == sorted(ids)
    assert path.read_text().count("\n") == len(ids) + 3


AGREED = [
    # provider, model, dollars for a million: input, cached, output; the two public lists of scripts/refresh_prices agree on each
    ("openai", "gpt-4o", "2.5 1.25 10"),
    ("openai", "gpt-4o-mini", "0.15 0.075 0.6"),
    ("openai", "gpt-4.1", "2 0.5 8"),
    ("openai", "gpt-5", "1.25 0.125 10"),
    ("openai", "gpt-5-mini", "0.25 0.025 2"),
    ("openai", "gpt-5.2", "1.75 0.175 14"),
    ("openai", "gpt-5.5", "5 0.5 30"),
    ("openai", "gpt-6-sol", "2 0.2 10"),
    ("openai", "gpt-6.1-sol", "2 0.1 10"),
    ("openai", "gpt-6-luna", "0.1 0.01 0.5"),
    ("openai", "o3", "2 0.5 8"),
    ("openai", "o4-mini", "1.1 0.275 4.4"),
    ("anthropic", "claude-opus-5-5", "4 0.2 20"),
    ("anthropic", "claude-sonnet-5-5", "2 0.1 10"),
    ("anthropic", "claude-opus-4-5-20251101", "5 0.5 25"),
    ("anthropic", "claude-sonnet-4-5-20250929", "3 0.3 15"),
    ("anthropic", "claude-haiku-4-5", "1 0.1 5"),
    ("google", "gemini-2.5-pro", "1.25 0.125 10"),
    ("google", "gemini-2.5-flash", "0.3 0.03 2.5"),
    ("google", "gemini-3.1-pro-preview", "2 0.2 12"),
]


@pytest.mark.parametrize(("provider", "model", "dollars"), AGREED)
def test_rates_are_those_on_which_two_public_lists_agree(provider, model, dollars):
    """A refresh that changes one of these is a price change that a person should have seen."""
    tariff = BOOK.tariff(provider, model, AT)
    found = [Decimal(tariff.rate_femto(unit)) / 10**9 for unit in ("input", "cached_input", "output")]
    assert found == [Decimal(each) for each in dollars.split()]


@pytest.mark.parametrize("model", ["text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"])
def test_embeddings_have_a_price(model):
    """They are metered too."""
    assert 0 < BOOK.tariff("openai", model, AT).likely_input_femto <= 130_000_000


@pytest.mark.parametrize(
    ("provider", "model", "day", "row"),
    [
        ("openai", "o3", 1749513599, "openai/o3"),  # 2025-06-09 23:59:59
        ("openai", "o3", 1749513600, "openai/o3@2025-06-10"),
        ("google", "gemini-3.8-flash", 1798761599, "google/gemini-3.8-flash"),  # 2026-12-31 23:59:59
        ("google", "gemini-3.8-flash", 1798761600, "google/gemini-3.8-flash@2027-01-01"),
    ],
)
def test_a_price_changes_on_its_day(provider, model, day, row):
    """At midnight UTC, in the past and in the future."""
    assert BOOK.tariff(provider, model, day).row == row
