"""Integers all the way, and one rounding."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.money import FEMTO_PER_NANO, NANO, format_usd, parse_usd, round_femto


@given(st.integers(0, 10**30))
def test_rounding_is_half_up(femto):
    """Half a nano-dollar and more counts as one; the integer is never further off than that."""
    exact = Fraction(femto, FEMTO_PER_NANO)
    assert -Fraction(1, 2) < round_femto(femto) - exact <= Fraction(1, 2)


def test_exactly_half_is_rounded_up():
    """Not to even: 2.5 nano-dollars are 3."""
    assert [round_femto(femto) for femto in (499_999, 500_000, 1_500_000, 2_500_000)] == [0, 1, 2, 3]


@given(st.integers(-(10**18), 10**18))
def test_what_is_shown_can_be_read_back(nanousd):
    """Dollars in text lose nothing."""
    assert parse_usd(format_usd(nanousd)) == nanousd


@given(
    st.integers(-(10**18), 10**18)
    | st.integers(-(10**5), 10**5)
    | st.integers(-999, 999).map(lambda cents: cents * NANO // 100)
)
def test_dollars_are_shown_without_needless_zeros(nanousd):
    """All nine places, cut to those that say something, of which two always stand."""
    whole, _, places = f"{Decimal(nanousd) / NANO:.9f}".partition(".")
    assert format_usd(nanousd) == f"{whole}.{places[:2]}{places[2:].rstrip('0')}"


def test_dollars_show_two_places_at_least():
    """As people write them."""
    assert [format_usd(each) for each in (0, NANO, 12_500_000, -NANO // 2)] == ["0.00", "1.00", "0.0125", "-0.50"]


@pytest.mark.parametrize("text", ["", "ten", "nan", "inf", "0.0000000001", "1,5", "--1"])
def test_an_amount_that_is_none_is_refused(text):
    """Also one that is finer than a nano-dollar: nothing is rounded when a limit is set."""
    with pytest.raises(ValueError, match="not a"):
        parse_usd(text)
