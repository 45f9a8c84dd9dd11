"""errors: one table says what a refusal means on the wire."""

import re

import pytest

from gateway.errors import MEANINGS, Excess, Failure, Kind, Refusal, Whose, retry_headers


def test_every_kind_has_a_meaning():
    """A kind without a row could not be answered."""
    assert set(MEANINGS) == set(Kind)
    assert all(400 <= meaning.status < 600 for meaning in MEANINGS.values())


@pytest.mark.parametrize("kind", list(Kind))
def test_every_refusal_says_whether_to_retry(kind):
    """The official SDKs read x-should-retry first; it is spelled in lower case."""
    headers = dict(retry_headers(Refusal(kind, "no"), now=0))
    assert headers[b"x-should-retry"] in (b"true", b"false")


def test_an_exhausted_budget_names_its_reset_and_forbids_a_retry():
    """retry-after is the truth; x-should-retry: false keeps SDKs from sleeping until then."""
    refusal = Refusal(
        Kind.BUDGET_EXCEEDED, "no", scope='team:"x\\', window="day",
        limit_nanousd=10_000_000_000, spent_nanousd=9_999_999_000, resets_at=1_000,
    )  # fmt: skip
    headers = dict(retry_headers(refusal, now=400.5))
    assert headers[b"x-should-retry"] == b"false"
    assert headers[b"retry-after"] == b"599"
    assert headers[b"RateLimit-Policy"] == b'"team:x/day";q=10000000;qu="micro-usd";w=86400'
    assert headers[b"RateLimit"] == b'"team:x/day";r=1;t=599'


def test_a_held_budget_suggests_a_short_wait():
    """Only other calls' holds stand in the way: come back soon."""
    headers = dict(retry_headers(Refusal(Kind.BUDGET_HELD, "wait", retry_after_ms=250), now=0))
    assert headers == {b"x-should-retry": b"true", b"retry-after-ms": b"250"}


@pytest.mark.parametrize(
    ("unit", "policy"),
    [
        ("requests_per_minute", b";q=600;w=60"),
        ("tokens_per_minute", b';q=600;qu="tokens";w=60'),
        ("concurrent", b';q=600;qu="concurrent-requests"'),
    ],
)
def test_a_limit_names_its_wait_and_its_policy(unit, policy):
    """Milliseconds as they are, seconds rounded up; each unit as the draft on RateLimit fields has it."""
    refusal = Refusal(Kind.RATE_LIMIT, "no", retry_after_ms=1001, excess=Excess("all", 'team:"x\\', unit, 600, 590, 20))
    headers = dict(retry_headers(refusal, now=0))
    assert headers == {
        b"x-should-retry": b"true",
        b"retry-after-ms": b"1001",
        b"retry-after": b"2",
        b"RateLimit-Policy": b'"team:x/%b"%b' % (unit.encode(), policy),
        b"RateLimit": b'"team:x/%b";r=10;t=2' % unit.encode(),
    }


def test_what_no_wait_makes_room_for_names_none():
    """Neither ``retry-after`` nor a reset, which an SDK would sleep for."""
    refusal = Refusal(Kind.RATE_LIMIT, "no", excess=Excess("all", "global", "tokens_per_minute", 600, 0, 700))
    headers = dict(retry_headers(refusal, now=0))
    assert set(headers) == {b"x-should-retry", b"RateLimit-Policy", b"RateLimit"}
    assert headers[b"x-should-retry"] == b"false"


def test_a_failure_becomes_a_refusal_of_its_kind():
    """As long as nothing was sent, a failure can be answered."""
    refusal = Failure(Kind.UPSTREAM_TIMEOUT, Whose.UPSTREAM, "late").refusal()
    assert (refusal.kind, refusal.message) == (Kind.UPSTREAM_TIMEOUT, "late")


def test_codes_are_fit_for_programs():
    """Lower case with underscores, so that they can be compared and counted."""
    assert all(re.fullmatch("[a-z_]+", meaning.code) for meaning in MEANINGS.values())
