"""A refusal in words: which budget, how far it is used, when it starts again, what to do."""

from __future__ import annotations

from gateway.accounts import PLACES, REQUESTS, TOKENS, Account, Claim, Use
from gateway.errors import Excess, Kind
from gateway.store.words import HELD_RETRY_MS, NEVER, limited, refusal

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


def test_a_limit_on_requests_says_when_there_is_room():
    """Its name, its scope, what it lets through, and what to do."""
    found = limited(Use("team:search", REQUESTS, 1, 600, "team:*"), 600, 83)
    assert found.message == (
        "The limit 'team:*' (team:search, requests_per_minute) lets through 600 requests a minute, and no more are left at the "
        "moment. Try again in 0.083 s, ask more slowly, or have the operator of this gateway raise the limit."
    )
    assert (found.kind, found.retry_after_ms, found.may_retry) == (Kind.RATE_LIMIT, 83, True)
    assert found.excess == Excess("team:*", "team:search", REQUESTS, 600, 600, 1)


def test_a_limit_on_tokens_says_how_many_there_are():
    """Used, set aside, and what this call takes."""
    found = limited(Use("global", TOKENS, 300, 1000, "all"), 900, 12_000)
    assert (
        "of 1000 tokens a minute 900 are used or set aside, and this call takes about 300. Try again in 12.000 s"
        in found.message
    )


def test_a_limit_on_calls_at_a_time_knows_no_time():
    """A moment is suggested, none is promised."""
    found = limited(Use("global", PLACES, 1, 5, "all"), 5, 500)
    assert "lets 5 calls run at a time, and 5 are running. Try again when one of them has ended" in found.message
    assert found.may_retry


def test_a_prompt_larger_than_a_whole_limit_is_not_told_to_come_back():
    """Neither in words nor in the header fields."""
    found = limited(Use("global", TOKENS, 1200, 1000, "all"), 0, NEVER)
    assert "more than the whole limit, so waiting does not help: send a shorter prompt" in found.message
    assert (found.retry_after_ms, found.may_retry) == (0, False)
