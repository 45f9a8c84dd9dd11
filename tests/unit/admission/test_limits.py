"""Which limits a call meets, and how much of each it asks for."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.accounts import PLACES, REQUESTS, TOKENS, Use
from gateway.admission import limits as module
from gateway.admission.limits import Limit, Limits
from gateway.admission.scopes import Facts
from gateway.call import Caller

CALLER = Caller(team="search", user="ann", agent="planner", key_name="prod", tags=(("project", "apollo"),))
WAY = Facts(model="gpt-5-mini", provider="openai", upstream="azure")


def met(*limits: Limit, caller: Caller = CALLER, read: int = 0, written: int = 0) -> list[tuple[str, str, int, int]]:
    """(scope, unit, allowed, amount) of what a call uses."""
    return [(use.scope, use.unit, use.allowed, use.amount) for use in Limits(limits).uses(caller, WAY, read, written)]


def one(scope: str, **units: int) -> Limit:
    return Limit(scope, scope, **(units or {"requests_per_minute": 9}))


@pytest.mark.parametrize(
    ("scope", "meets"),
    [
        ("global", "global"), ("team:search", "team:search"), ("team:ads", None), ("user:*", "user:ann"), ("agent:planner", "agent:planner"),
        ("key:prod", "key:prod"), ("model:gpt-5*", "model:gpt-5*"), ("provider:openai", "provider:openai"), ("upstream:*", "upstream:azure"),
        ("tag:project", "tag:project=apollo"), ("tag:project=gemini", None), ("model:gpt-5*+team:*", "team:search+model:gpt-5*"),
    ],
)  # fmt: skip
def test_scopes_are_those_of_budgets(scope: str, meets: str | None) -> None:
    """Every kind, alone and combined."""
    assert met(one(scope)) == ([(meets, REQUESTS, 9, 1)] if meets else [])


@pytest.mark.parametrize("scope", ["call", "request", "request+team:*"])
def test_a_single_call_has_no_limit(scope: str) -> None:
    """It is over before a minute is."""
    with pytest.raises(ValueError, match="single call or request"):
        one(scope)


def test_each_unit_is_a_use_of_its_own_and_those_of_users_come_first() -> None:
    """The order in which a store looks at them."""
    found = met(
        one("global", concurrent=7, requests_per_minute=8), one("user:*", tokens_per_minute=100), read=30, written=20
    )
    assert found == [("user:ann", TOKENS, 100, 50), ("global", REQUESTS, 8, 1), ("global", PLACES, 7, 1)]


def test_a_name_takes_the_place_of_the_wildcard_unit_by_unit() -> None:
    """What it does not speak of stays as it is for all."""
    every = one("team:*", requests_per_minute=5, concurrent=2)
    assert met(every, one("team:search", requests_per_minute=50)) == [
        ("team:search", REQUESTS, 50, 1),
        ("team:search", PLACES, 2, 1),
    ]
    assert met(every, one("team:search", requests_per_minute=50), caller=Caller(team="ads")) == [
        ("team:ads", REQUESTS, 5, 1),
        ("team:ads", PLACES, 2, 1),
    ]


def test_two_that_come_to_the_same_scope_are_one() -> None:
    """The lower holds; counted twice, a call would be two."""
    for order in (1, -1):
        both = [
            one("team:search+model:*", requests_per_minute=5),
            one("team:*+model:gpt-5-mini", requests_per_minute=3),
        ]
        assert met(*both[::order]) == [("team:search+model:gpt-5-mini", REQUESTS, 3, 1)]


def test_who_has_no_name_is_nobody() -> None:
    """Leaving the header out is no way around a limit."""
    assert met(one("team:*"), caller=Caller()) == [("team:-", REQUESTS, 9, 1)]


@pytest.mark.parametrize(
    ("read", "written", "amount"),
    [(100, 200, 300), (0, 0, 1), (100, 5000, 1000), (1000, 5000, 1000), (1001, 0, 1001), (1200, 5000, 1200)],
)
def test_a_guess_of_the_output_alone_keeps_no_call_out(read: int, written: int, amount: int) -> None:
    """It is cut to the whole limit; a prompt is not."""
    assert met(one("global", tokens_per_minute=1000), read=read, written=written) == [("global", TOKENS, 1000, amount)]


def test_what_is_the_same_for_every_call_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers are remembered, but not without end."""
    limits = Limits([one("user:*", requests_per_minute=3)])
    assert not limits.counts_tokens
    assert limits.uses(CALLER, WAY) is limits.uses(CALLER, WAY)
    monkeypatch.setattr(module, "REMEMBERED_CALLERS", 3)
    for number in range(10):
        (use,) = limits.uses(Caller(user=f"u{number}"), WAY)
        assert use == Use(f"user:u{number}", REQUESTS, 1, 3, "user:*")
    known: dict[Any, Any] = limits._known
    assert len(known) <= 3
