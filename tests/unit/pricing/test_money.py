"""money: exact both ways, rounded once."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.money import format_usd, parse_usd, round_femto


@given(st.integers(-(10**18), 10**18))
def test_what_is_written_is_read_back(nanousd):
    """format_usd and parse_usd are inverse."""
    assert parse_usd(format_usd(nanousd)) == nanousd


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [(0, "0.00"), (10**9, "1.00"), (12_500_000, "0.0125"), (1, "0.000000001"), (-5 * 10**8, "-0.50")],
)
def test_dollars_have_two_places_or_more(nanousd, text):
    """No trailing zeros beyond cents, no exponent."""
    assert format_usd(nanousd) == text


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "0.0000000001", "1,5", "--1"])
def test_what_is_no_exact_amount_is_refused(text):
    """Finer than a nano-dollar is no amount either."""
    with pytest.raises(ValueError, match="not a"):
        parse_usd(text)


@given(st.integers(0, 10**24))
def test_rounding_is_half_up(femto):
    """To the nearest nano-dollar, a half goes up."""
    exact = Fraction(femto, 10**6)
    assert abs(round_femto(femto) - exact) <= Fraction(1, 2)
    assert round_femto(500_000) == 1
    assert round_femto(499_999) == 0
