"""How large a slice of a budget is, while the store answers."""

from __future__ import annotations

from gateway.accounts import Account, Balance, Claim
from gateway.store.answers import MAX_AMOUNT_NANOUSD
from gateway.store.slices import Slices

TOTAL = Account("global", "total")


def planned(limit: int) -> int:
    """The amount of the slice of a budget of which one process is about to use a little."""
    slices = Slices("me")
    slices.used([Claim(TOTAL, 1, limit)], now=0.0)
    ((_, claim),) = slices.plan([Balance(TOTAL, 0, 0)], 1, now=0.0)
    assert claim is not None
    return claim.amount_nanousd


def test_a_slice_is_a_tenth_of_what_is_left():
    """Of what nobody has spent or holds."""
    assert planned(10**12) == 10**11


def test_no_slice_is_larger_than_a_claim_can_be():
    """Past it, the script of the books in Redis has not every amount exactly."""
    assert planned(1 << 62) == MAX_AMOUNT_NANOUSD
