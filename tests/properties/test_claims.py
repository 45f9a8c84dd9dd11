"""What a ledger remembers changes no claim: whatever calls it has seen, at whatever moments, each claims what a new ledger would
have it claim.
"""

from __future__ import annotations

from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.accounts import Claim
from gateway.admission.budgets import MODES, WINDOWS, Budget, Ledger
from gateway.admission.scopes import Facts
from gateway.admission.windows import window_at
from gateway.call import Caller

NOW = 1_792_893_600
"""2026-10-25T02:00 in Berlin, an hour before its clocks go back: days of 25 hours and hours that come twice are near."""
SCOPES = [
    "global", "team:*", "team:search", "team:search+user:ann", "user:*", "user:ann", "agent:*", "tag:env", "tag:env=prod",
    "model:gpt-*", "model:*", "request", "call",
]  # fmt: skip
MOMENTS = st.one_of(
    st.integers(NOW - 40 * 86_400, NOW + 40 * 86_400),
    st.sampled_from([NOW + hours * 3600 + off for hours in range(-26, 27) for off in (-0.001, 0, 0.5)]),
    st.sampled_from([NOW + minutes * 60 for minutes in range(-90, 91, 15)]),
)
budgets = st.lists(
    st.builds(
        Budget,
        name=st.sampled_from(["a", "b", "c", "d"]),
        scope=st.sampled_from(SCOPES),
        limit_nanousd=st.integers(0, 1000),
        window=st.sampled_from(WINDOWS),
        mode=st.sampled_from(MODES),
        timezone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
        week_start=st.sampled_from([0, 6]),
        notify_at=st.sampled_from([(), (50, 90)]),
        cut=st.booleans(),
        lost_estimate=st.booleans(),
    ),
    max_size=4,
)
callers = st.builds(
    Caller,
    team=st.sampled_from(["search", ""]),
    user=st.just("ann"),
    correlation_id=st.sampled_from(["one", "two"]),
    tags=st.sampled_from([(), (), (("env", "prod"),)]),
    limits=st.sampled_from([(), (), (), ((7, "day", "team"),), ((7, "hour", "user"), (9, "total", "user"))]),
)
ways = st.sampled_from([Facts(model="gpt-5", provider="openai"), Facts(model="o3", provider="openai")])
calls = st.lists(
    st.tuples(callers, MOMENTS, st.integers(0, 500), st.integers(0, 500), ways, st.booleans()), min_size=2, max_size=12
)


@settings(max_examples=200, deadline=None)
@given(budgets, calls, st.randoms())
def test_a_call_claims_the_same_whatever_was_claimed_before(lines, asked, random) -> None:
    """Also where clocks go back, a window is over, callers take turns, or limits are listed between two calls."""
    accounts = [
        str(each.account)
        for who, at, low, most, way, _ in asked
        for each in Ledger(lines).claims(who, at, low, most, way)
    ]
    forgiven = {account: random.randint(1, 5000) for account in accounts if random.random() < 0.5}
    ledger = Ledger(lines, forgiven)
    for caller, at, likely, most, way, is_listed in asked:
        found = ledger.claims(caller, at, likely, most, way)
        assert found == Ledger(lines, forgiven).claims(caller, at, likely, most, way)
        for claim in found:
            check(claim, lines, at, likely, most, forgiven)
        if is_listed:
            list(ledger.limits(at + 86_400))


def check(claim: Claim, lines: list[Budget], at: float, likely: int, most: int, forgiven: dict[str, int]) -> None:
    """It speaks of the window in which the call lies, and stands in for budgets that there are."""
    assert claim.forgiven_nanousd == forgiven.get(str(claim.account), 0)
    kinds = {(each.timezone, each.week_start) for each in lines} | {("UTC", 0)}
    windows = [window_at(claim.window, ZoneInfo(zone), at, start) for zone, start in kinds]
    ends = {window.end for window in windows if window.name == claim.account.window}
    assert (claim.resets_at in ends) if claim.window != "total" else claim.resets_at == 0
    assert claim.amount_nanousd in {likely or 1, most or 1, 1}
    stated = {each.limit_nanousd + claim.forgiven_nanousd for each in lines} | {
        7 + claim.forgiven_nanousd,
        9 + claim.forgiven_nanousd,
    }
    assert claim.limit_nanousd is None or (claim.limit_nanousd in stated and claim.shadow_nanousd is None)
    assert claim.shadow_nanousd is None or claim.shadow_nanousd in stated
