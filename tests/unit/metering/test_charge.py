"""What a usage costs: the book's prices, or the charge that the provider tells itself."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Metered
from gateway.metering.charge import charge, told_nanousd
from pricing.book import Book
from pricing.usage import Usage

BOOK = Book.load()
AT = 1_795_000_000


def metered(raw: dict[str, Any], source: str = "provider") -> Metered:
    return Metered(Usage(input=1000, output=100), source, "usage", "openai/gpt-4o-mini", "", raw)


def test_openrouters_own_charge_is_the_bill() -> None:
    """Whatever the book would have said; the record names where it comes from."""
    cost = charge(BOOK, "openrouter", metered({"cost": 0.00123456789}), "openai/gpt-4o-mini", AT)
    assert (cost.nanousd, cost.rows, cost.book) == (1_234_568, ("openrouter/usage.cost",), BOOK.version)


@pytest.mark.parametrize(("provider", "source"), [("openai", "provider"), ("openrouter", "counted")])
def test_others_are_priced_by_the_book(provider: str, source: str) -> None:
    """A field of that name elsewhere, or in what was only counted, is nobody's word."""
    cost = charge(BOOK, provider, metered({"cost": 5}, source), "gpt-4o-mini", AT)
    assert cost.nanousd == 1000 * 150 + 100 * 600


@pytest.mark.parametrize("raw", [{}, {"cost": None}, {"cost": "1"}, {"cost": True}, {"cost": -1}, {"cost": 1e300}])
def test_what_is_no_charge_is_not_taken_for_one(raw: dict[str, Any]) -> None:
    """Then the book decides."""
    assert told_nanousd(raw) is None


def test_with_a_key_of_ones_own_the_maker_is_paid_as_well() -> None:
    """``cost`` is then only OpenRouter's fee."""
    raw = {"cost": 0.0001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.002}}
    assert told_nanousd(raw) == 2_100_000
    assert told_nanousd(raw | {"is_byok": False}) == 100_000
    assert told_nanousd({"cost": 0.0001, "is_byok": True, "cost_details": None}) == 100_000


@given(st.decimals(min_value=0, max_value=1000, places=9))
def test_the_providers_digits_are_kept(usd: Decimal) -> None:
    """Nine decimals pass through JSON's floats without a loss."""
    assert told_nanousd({"cost": float(usd)}) == int(usd * 10**9)
