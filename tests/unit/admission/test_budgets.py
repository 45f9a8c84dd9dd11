"""Which budgets apply to a call, and what it claims of them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.accounts import Account, Claim
from gateway.admission.budgets import REMEMBERED_CALLERS, Budget, Ledger
from gateway.call import Caller

NOW = datetime(2026, 11, 20, 13, 30, tzinfo=UTC).timestamp()
DAY, MONTH = "day:2026-11-20", "month:2026-11"
DAY_ENDS = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp())
LIKELY, MOST = 100, 1000


def claims(*budgets: Budget, team: str = "search", user: str = "ann", now: float = NOW) -> dict[str, Claim]:
    """The claims by account."""
    made = Ledger(budgets).claims(Caller(team=team, user=user), now, LIKELY, MOST)
    assert len({claim.account for claim in made}) == len(made)
    return {str(claim.account): claim for claim in made}


def test_spend_by_team_is_counted_when_nobody_limits_it():
    """One claim without a limit, on the team's day."""
    assert Ledger([]).claims(Caller(team="search"), NOW, LIKELY, MOST) == (
        Claim(Account("team:search", DAY), LIKELY, None, "", "day", DAY_ENDS),
    )
    assert list(claims(team="")) == [f"team:-/{DAY}"]


def test_claims_come_from_the_most_specific_to_the_least():
    """User, team, global; short windows before long ones."""
    made = claims(
        Budget("g", "global", 9, "total"), Budget("t", "team:search", 9, "month"), Budget("h", "team:*", 9, "hour"),
        Budget("u", "user:*", 9, "day"), Budget("other", "team:ads", 9, "day"),
    )  # fmt: skip
    assert list(made) == [
        f"user:ann/{DAY}", "team:search/hour:2026-11-20T13", f"team:search/{DAY}", f"team:search/{MONTH}", "global/total",
    ]  # fmt: skip
    assert made["global/total"].resets_at == 0
    assert made[f"team:search/{MONTH}"].budget == "t"


@pytest.mark.parametrize(
    ("mode", "amount", "limit"), [("strict", MOST, 9), ("hard", LIKELY, 9), ("soft", 1, 9), ("shadow", LIKELY, None)]
)
def test_the_mode_decides_how_much_is_set_aside(mode, amount, limit):
    """Strict the most, hard the likely, soft a nano-dollar; shadow refuses nothing."""
    claim = claims(Budget("b", "global", 9, "month", mode))[f"global/{MONTH}"]
    assert (claim.amount_nanousd, claim.limit_nanousd, claim.budget, claim.window) == (amount, limit, "b", "month")


def test_an_explicit_budget_replaces_the_wildcard_of_its_window():
    """An exception may be larger than the rule; other windows of the rule still apply."""
    made = claims(
        Budget("all-day", "team:*", 5, "day"),
        Budget("all-month", "team:*", 50, "month"),
        Budget("search", "team:search", 9, "day"),
    )
    assert made[f"team:search/{DAY}"].limit_nanousd == 9
    assert made[f"team:search/{MONTH}"].limit_nanousd == 50


def test_a_shadow_budget_switches_nothing_off():
    """Trying a limit out leaves the one in force."""
    made = claims(Budget("all", "team:*", 5, "day"), Budget("trial", "team:search", 3, "day", "shadow"))
    assert (made[f"team:search/{DAY}"].limit_nanousd, made[f"team:search/{DAY}"].budget) == (5, "all")


def test_leaving_the_header_out_is_no_way_around():
    """Callers without a name share the account of nobody."""
    made = claims(Budget("t", "team:*", 5, "day"), Budget("u", "user:*", 7, "day"), team="", user="")
    assert made[f"team:-/{DAY}"].limit_nanousd == 5
    assert made[f"user:-/{DAY}"].limit_nanousd == 7


def test_budgets_on_one_account_become_one_claim():
    """The largest amount and the lowest limit; counting alone changes neither."""
    both = [Budget("a", "global", 9, "day", "strict"), Budget("b", "global", 7, "day", "soft")]
    for budgets in (both, both[::-1]):
        claim = claims(*budgets)[f"global/{DAY}"]
        assert (claim.amount_nanousd, claim.limit_nanousd, claim.budget) == (MOST, 7, "b")
    assert claims(Budget("s", "team:search", 9, "day", "soft"))[f"team:search/{DAY}"].amount_nanousd == 1


def test_other_zones_are_other_accounts():
    """A day in Berlin is not a day in UTC."""
    made = claims(Budget("b", "team:search", 9, "day", timezone="Europe/Berlin"))
    assert list(made) == [f"team:search/{DAY}@Europe/Berlin", f"team:search/{DAY}"]


def test_a_claim_is_never_nothing():
    """An exhausted budget also refuses what cannot be priced."""
    made = Ledger([Budget("b", "global", 9, "day")]).claims(Caller(), NOW, 0, 0)
    assert [claim.amount_nanousd for claim in made] == [1, 1]


def test_the_window_moves_on_with_the_call():
    """The moment of the call decides, also when calls come out of order around midnight."""
    ledger = Ledger([])
    days = [ledger.claims(Caller(team="a"), now, 1, 1)[0].account.window for now in (NOW, DAY_ENDS, DAY_ENDS - 1)]
    assert days == ["day:2026-11-20", "day:2026-11-21", "day:2026-11-20"]


def test_limits_are_those_of_named_budgets_and_of_callers_seen():
    """What an operator sees: a named budget from the start, a wildcard's account once somebody has claimed it."""
    ledger = Ledger([Budget("t", "team:*", 5, "month"), Budget("g", "global", 9, "day"), Budget("s", "global", 1, "hour", "shadow"),
                     Budget("b", "global", 3, "day", timezone="Europe/Berlin"), Budget("low", "global", 8, "day")])  # fmt: skip
    assert [(str(each.account), each.limit_nanousd) for each in ledger.limits(NOW)] == [
        (f"global/{DAY}", 8), (f"global/{DAY}@Europe/Berlin", 3),
    ]  # fmt: skip
    ledger.claims(Caller(team="search"), NOW, LIKELY, MOST)
    assert f"team:search/{MONTH}" in [str(each.account) for each in ledger.limits(NOW)]


def test_remembered_callers_are_bounded():
    """Names come from clients: more of them cost time, not memory."""
    ledger = Ledger([Budget("b", "user:*", 9, "day")])
    for number in range(REMEMBERED_CALLERS + 10):
        assert ledger.claims(Caller(user=f"u{number}"), NOW, 1, 1)[0].account.scope == f"user:u{number}"
    assert len(ledger._met) <= REMEMBERED_CALLERS


@pytest.mark.parametrize(
    "change",
    [{"scope": "team"}, {"scope": "team:"}, {"scope": "org:x"}, {"scope": "global:x"}, {"window": "year"}, {"mode": "loose"},
     {"limit_nanousd": -1}, {"limit_nanousd": 2**53 + 1}],
)  # fmt: skip
def test_what_no_budget_can_be_is_an_error(change):
    """A misspelt budget must not be one that never applies."""
    with pytest.raises(ValueError):
        Budget(**{"name": "b", "scope": "global", "limit_nanousd": 1, "window": "day", **change})
