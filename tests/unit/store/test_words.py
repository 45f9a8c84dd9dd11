"""A refusal in words: which budget, how far it is used, when it starts again, what to do."""

from __future__ import annotations

from gateway.accounts import Account, Claim
from gateway.errors import Kind
from gateway.store.words import HELD_RETRY_MS, refusal

CENT = 10_000_000
CLAIM = Claim(Account("team:search", "day:2026-11-20"), CENT, 100 * CENT, "search-daily", "day", 1795219200)


def test_an_exhausted_budget_says_when_it_starts_again():
    """A person who reads nothing else knows what to do."""
    assert refusal(Kind.BUDGET_EXCEEDED, CLAIM, CENT, 100 * CENT, 0).message == (
        "The budget 'search-daily' (team:search, day:2026-11-20) has no room for this call: of $1.00, $1.00 is spent and $0.00 is "
        "held by running calls; this call needs $0.01. It resets at 2026-11-21T00:00:00Z: wait until then, ask for less (a lower "
        "output maximum, a shorter prompt, a cheaper model), or have the operator of this gateway raise the limit."
    )


def test_a_budget_that_is_only_held_says_try_again():
    """Soon, and with less at a time."""
    found = refusal(Kind.BUDGET_HELD, CLAIM, CENT, 0, 100 * CENT)
    assert "try again in a moment" in found.message
    assert found.retry_after_ms == HELD_RETRY_MS
    assert "resets" not in found.message


def test_a_call_larger_than_the_whole_limit_is_not_told_to_wait():
    """Waiting would not help."""
    found = refusal(Kind.BUDGET_EXCEEDED, CLAIM, 101 * CENT, 0, 0)
    assert "waiting does not help" in found.message
    assert found.retry_after_ms == 0


def test_a_budget_for_all_time_never_resets():
    """No date is made up."""
    claim = Claim(Account("global", "total"), CENT, 100 * CENT)
    found = refusal(Kind.BUDGET_EXCEEDED, claim, CENT, 100 * CENT, 0)
    assert "never resets" in found.message
    assert found.message.startswith("The budget of global, total has no room")
    assert (found.budget, found.scope, found.window) == ("global", "global", "total")
