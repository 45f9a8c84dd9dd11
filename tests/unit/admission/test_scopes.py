"""Scopes: which calls a budget speaks of, and under which name they are booked."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts import Account
from gateway.admission.budgets import Budget, Ledger
from gateway.admission.scopes import Facts, parse_scope
from gateway.call import Caller

NOW = 1_795_000_000
FACTS = Facts(
    team="search", user="ann", agent="planner", key="prod", model="gpt-5-mini", provider="openai", upstream="azure",
    tags=(("project", "apollo"), ("env", "test")), request="r-1",
)  # fmt: skip
CALLER = Caller(team="search", user="ann", agent="planner", key_name="prod", tags=FACTS.tags, correlation_id="r-1")
WAY = Facts(model="gpt-5-mini", provider="openai", upstream="azure")


@pytest.mark.parametrize(
    ("scope", "account"),
    [
        ("global", "global"), ("team:search", "team:search"), ("team:ads", None), ("user:*", "user:ann"),
        ("agent:planner", "agent:planner"), ("key:prod", "key:prod"), ("provider:openai", "provider:openai"),
        ("upstream:*", "upstream:azure"), ("model:gpt-5*", "model:gpt-5*"), ("model:*", "model:gpt-5-mini"),
        ("model:gpt-4*", None), ("model:gpt-[45]-*", "model:gpt-[45]-*"), ("tag:project=apollo", "tag:project=apollo"),
        ("tag:project", "tag:project=apollo"), ("tag:project=gemini", None), ("tag:owner", "tag:owner=-"),
        ("model:gpt-5*+team:search", "team:search+model:gpt-5*"), ("team:*+agent:*", "agent:planner+team:search"),
        ("team:search+model:gpt-4*", None), ("request", "request:r-1"), ("request+team:search", "request:r-1+team:search"),
    ],
)  # fmt: skip
def test_a_scope_matches_and_names_its_account(scope: str, account: str | None) -> None:
    """One account for a name or a pattern, one for each under a wildcard."""
    assert parse_scope(scope).of(FACTS) == account


def test_what_a_caller_leaves_out_is_no_way_around() -> None:
    """It counts as ``-``."""
    assert [parse_scope(scope).of(Facts()) for scope in ("team:*", "model:*", "tag:a", "team:-", "request")] == [
        "team:-", "model:-", "tag:a=-", "team:-", "request:-",
    ]  # fmt: skip


def test_the_order_of_parts_makes_no_difference() -> None:
    """One account, however it is written."""
    parts = ("team:*", "model:gpt-5*", "tag:project", "user:ann")
    assert len({parse_scope("+".join(each)).of(FACTS) for each in permutations(parts)}) == 1


@given(st.text("ab+%:=*-", min_size=1, max_size=12), st.text("ab+%:=*-", min_size=1, max_size=12))
def test_no_name_is_taken_for_another_scope(one: str, other: str) -> None:
    """Two callers share an account only when they have the same names; none reaches that of a combination."""
    both = parse_scope("team:*+user:*")
    first, second = (both.of(Facts(team=team, user=user)) for team, user in ((one, other), (other, one)))
    assert (first == second) is (one == other)
    assert parse_scope("team:*").of(Facts(team=one)) != both.of(Facts(team="x", user="y"))
    assert parse_scope("team:*").of(Facts(team=f"{one}+user:{other}")) != parse_scope("user:*+team:*").of(
        Facts(team=one, user=other)
    )


def claims(*budgets: Budget, caller: Caller = CALLER) -> dict[str, tuple[int | None, str, int]]:
    made = Ledger(budgets).claims(caller, NOW, 100, 1000, WAY)
    return {str(claim.account).rpartition("/")[0]: (claim.limit_nanousd, claim.budget, claim.amount_nanousd) for claim in made if claim.limit_nanousd is not None}  # fmt: skip


def test_all_budgets_that_apply_apply_together() -> None:
    """The most specific first; what does not match is not there."""
    budgets = [
        Budget(scope, scope, 9, "day")
        for scope in ("global", "provider:openai", "model:gpt-4*", "model:gpt-5*", "team:search+model:gpt-5*", "tag:project", "user:bob", "request")
    ]  # fmt: skip
    assert list(claims(*budgets)) == [
        "request:r-1", "tag:project=apollo", "team:search+model:gpt-5*", "model:gpt-5*", "provider:openai", "global",
    ]  # fmt: skip


def test_an_exception_replaces_the_rule_of_any_kind() -> None:
    """Also of a combination, and also when it is larger."""
    found = claims(
        Budget("each", "team:*+model:gpt-5*", 5, "day"), Budget("search", "team:search+model:gpt-5*", 50, "day"),
        Budget("agents", "agent:*", 7, "day"), Budget("planner", "agent:planner", 70, "week"),
    )  # fmt: skip
    assert found["team:search+model:gpt-5*"] == (50, "search", 100)
    assert found["agent:planner"] in ((7, "agents", 100), (70, "planner", 100))


def test_calls_of_other_models_meet_other_budgets() -> None:
    """Rows are remembered by all that decides, not by the caller alone."""
    ledger = Ledger([Budget("m", "model:*", 9, "day"), Budget("r", "request", 9, "day")])
    for model, request in (("a", "1"), ("b", "1"), ("a", "2"), ("a", "1")):
        made = ledger.claims(Caller(team="t", correlation_id=request), NOW, 1, 1, Facts(model=model))
        assert [str(claim.account).partition("/")[0] for claim in made] == [
            f"request:{request}",
            "team:t",
            f"model:{model}",
        ]


def test_a_wish_only_tightens() -> None:
    """It merges with what is there on the same account; another call of the same caller does not see it."""
    ledger = Ledger([Budget("b", "team:search", 50, "day")])
    for wish, expected in ((20, (20, "x-tollgate-budget")), (90, (50, "b"))):
        wishing = Caller(team="search", limits=((wish, "day", "team"),))
        (claim,) = [each for each in ledger.claims(wishing, NOW, 1, 1) if each.limit_nanousd is not None]
        assert (claim.limit_nanousd, claim.budget) == expected
        (claim,) = ledger.claims(Caller(team="search"), NOW, 1, 1)
        assert (claim.limit_nanousd, claim.budget) == (50, "b")
    own = Caller(team="search", user="ann", limits=((7, "month", "user"),))
    assert [str(claim.account).partition("/")[0] for claim in ledger.claims(own, NOW, 1, 1)] == [
        "user:ann",
        "team:search",
    ]


@pytest.mark.parametrize(
    ("mode", "limit", "needed"), [("strict", 999, 1000), ("strict", 1000, None), ("hard", 99, 100), ("hard", 100, None), ("soft", 1, None)]
)  # fmt: skip
def test_a_ceiling_of_one_call(mode: str, limit: int, needed: int | None) -> None:
    """What it may need at the most, or likely; nothing is booked for it."""
    ledger = Ledger([Budget("ceiling", "call+model:gpt-5*", limit, "total", mode)])
    over = ledger.over_ceiling(CALLER, 100, 1000, WAY)
    assert (over[1] if over is not None else None) == needed
    assert ledger.over_ceiling(CALLER, 100, 1000, Facts(model="o3")) is None
    assert [claim.account.scope for claim in ledger.claims(CALLER, NOW, 100, 1000, WAY)] == ["team:search"]


def test_a_ceiling_can_be_wished_for() -> None:
    """By the header; the lowest one decides."""
    ledger = Ledger([Budget("ceiling", "call", 50, "total")])
    over = ledger.over_ceiling(Caller(limits=((20, "call", "team"),)), 30, 30)
    assert over is not None
    assert (over[0].limit_nanousd, over[0].budget) == (20, "x-tollgate-budget")


def test_named_accounts_are_listed_before_anybody_calls() -> None:
    """Those of combinations and patterns as well."""
    scopes = ("global", "team:a+model:gpt-5*", "tag:x=1", "agent:b", "team:*", "request", "call")
    ledger = Ledger([Budget(scope, scope, 9, "total") for scope in scopes])
    assert {claim.account for claim in ledger.limits(NOW)} == {
        Account(scope, "total") for scope in ("global", "team:a+model:gpt-5*", "tag:x=1", "agent:b")
    }
