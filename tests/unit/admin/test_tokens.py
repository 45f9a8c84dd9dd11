"""Tokens and guesses, without a server: whose a token is, and how long an address is locked out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admin.lockout import LOCKED_S, MOST_ADDRESSES, MOST_WRONG, WITHIN_S, Lockout
from gateway.admin.routes import OPERATOR, VIEWER
from gateway.admin.server import AdminServer
from gateway.admin.tokens import No, token, whose


def test_off_loopback_somebody_has_to_be_able_to_change_things() -> None:
    """As the config says it, for whoever makes a listener otherwise."""
    for tokens in ([], [token("a", VIEWER, "x")]):
        with pytest.raises(ValueError, match="operator"):
            AdminServer("0.0.0.0", 0, tokens, None)  # type: ignore[arg-type]
    AdminServer("0.0.0.0", 0, [token("a", OPERATOR, "x")], None)  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("abé", min_size=1, max_size=4), st.integers(0, 3)), max_size=5, unique_by=lambda each: each[0]
    ),
    st.text("abé", max_size=4),
)
def test_a_token_lets_in_whose_it_is_until_it_ends(tokens: list[tuple[str, int]], given_text: str) -> None:
    """Whatever its place among the others; 0 never ends."""
    made = [token(f"n-{text}", OPERATOR, text, expires) for text, expires in tokens]
    found = whose(made, given_text.encode(), 2.0)
    expires = dict(tokens).get(given_text)
    if expires is None:
        assert found is No.WRONG
    elif expires in (1, 2):
        assert found is No.EXPIRED
    else:
        assert found.name == f"n-{given_text}"  # type: ignore[union-attr]


class Clock:
    """Seconds that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_lock_opens_by_itself_and_is_not_made_longer() -> None:
    """Ten within a minute; a minute later ten more are needed. What is slower than that never locks."""
    clock = Clock()
    lockout = Lockout(clock)
    for _ in range(MOST_WRONG):
        assert lockout.left_s("10.0.0.1") == 0
        lockout.count("10.0.0.1")
    assert (lockout.left_s("10.0.0.1"), lockout.left_s("10.0.0.2")) == (LOCKED_S, 0)
    clock.now += LOCKED_S - 0.5
    assert lockout.left_s("10.0.0.1") == 1
    clock.now += 0.5
    for _ in range(MOST_WRONG):
        assert lockout.left_s("10.0.0.1") == 0
        lockout.count("10.0.0.1")
    assert lockout.left_s("10.0.0.1") == LOCKED_S
    for _ in range(MOST_WRONG * 3):
        lockout.count("10.0.0.3")
        clock.now += WITHIN_S / (MOST_WRONG - 1)
        assert lockout.left_s("10.0.0.3") == 0


def test_addresses_that_are_one_network_are_counted_together_and_only_so_many() -> None:
    """IPv6 by /64, IPv4 also where it is written as IPv6; memory is bounded."""
    lockout = Lockout(Clock())
    for number in range(MOST_WRONG):
        lockout.count(f"2001:db8::{number:x}")
    assert lockout.left_s("2001:db8::ffff:1%eth0") > 0
    assert lockout.left_s("2001:db8:0:1::1") == 0
    for number in range(MOST_WRONG):
        lockout.count("::ffff:10.0.0.9" if number % 2 else "10.0.0.9")
    assert lockout.left_s("10.0.0.9") > 0
    for number in range(MOST_ADDRESSES + 10):
        lockout.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(lockout._tried) == MOST_ADDRESSES
