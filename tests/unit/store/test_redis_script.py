"""What many steps have alike is told the script of the books in Redis once, and means what each of them says by itself."""

from __future__ import annotations

from dataclasses import replace

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts import Account, Claim
from gateway.store import Settlement
from gateway.store.keys import ACCOUNT_KEPT_S, HOUR_S, LONGEST_WINDOW_S, Keys, hour_begins, hour_of, unix_of
from gateway.store.redis_script import Script, Times
from gateway.store.redis_steps import Reserve, Settle

KEYS = Keys("books")
HOUR = "2026-11-20T10"
amounts = st.integers(0, 1 << 53)
scopes = st.sampled_from(["global", "team:a", "team:a/b", "request:r/global"])
accounts = st.builds(Account, scopes, st.sampled_from(["day:2026-11-20", "total", "total:2026"]))
claims = st.builds(
    Claim,
    accounts,
    amounts,
    st.none() | amounts,
    st.sampled_from(["", "one", "two"]),
    resets_at=st.sampled_from([0, 1_795_219_200]),
    shadow_nanousd=st.none() | amounts,
    notify_at=st.lists(st.integers(1, 100), max_size=3).map(tuple),
    forgiven_nanousd=st.just(0) | st.integers(0, 1 << 40),
)


def run_of(*steps: Reserve | Settle) -> tuple[dict, list[str]]:
    """What the script is told, and its keys."""
    script = Script(KEYS, Times(86_400.0))
    for step in steps:
        step.put(script)
    told, *_ = script.arguments(token="", owner="", acked=0, seq=1, force=False)
    return orjson.loads(told), script.names


@given(made=st.lists(claims, max_size=6))
def test_every_claim_finds_its_terms(made):
    """Those of its own account and budget; a threshold is where books of the other kind have it."""
    told, names = run_of(Reserve("a", tuple(made[:3]), None), Reserve("b", tuple(made[3:]), None))
    asked = [pair for op in told["ops"] for pair in zip(op["claims"], op["amounts"], strict=True)]
    for claim, (number, amount) in zip(made, asked, strict=True):
        terms = told["terms"][number - 1]
        name = str(claim.account)
        assert (terms["c"], terms["b"], amount) == (name, claim.budget, claim.amount_nanousd)
        assert terms["e"] == (claim.resets_at + ACCOUNT_KEPT_S if claim.resets_at else 0)
        assert names[told["a"][name] - 1] == KEYS.account(name)
        assert (terms["of"], terms["f"]) == (str(claim.stated_nanousd), str(claim.forgiven_nanousd))
        assert terms.get("l") == (str(claim.limit_nanousd) if claim.limit_nanousd is not None else None)
        assert bool(terms.get("h")) == (claim.limit_nanousd is not None and 100 in claim.notify_at)
        for percent, at in terms["n"]:
            for spent in (int(at) - 1, int(at)):
                reached = (spent - claim.forgiven_nanousd) * 100 >= claim.stated_nanousd * percent
                assert reached == (spent >= int(at))
        assert [percent for percent, _ in terms["n"]] == list(claim.notify_at)


@given(charged=st.lists(accounts, max_size=5), limits=st.lists(claims, max_size=3))
def test_a_bill_charges_each_account_once_and_keeps_it_long_enough(charged, limits):
    """As long as its limit says; where none does, past the longest window, and for ever where there is no window."""
    calls = [
        Settlement(name, 5, "completed", tuple(charged), b"{}", f"{HOUR}:59:59.999Z", tuple(limits)) for name in "ab"
    ]
    told, _ = run_of(*(Settle(each, "me") for each in calls))
    (bill,) = told["bills"]
    assert [op["b"] for op in told["ops"]] == [1, 1]
    assert bill["a"] == list(dict.fromkeys(map(str, charged)))
    assert [told["terms"][number - 1]["c"] for number in bill["l"]] == [str(claim.account) for claim in limits]
    until = unix_of(calls[0].started_at) + LONGEST_WINDOW_S + ACCOUNT_KEPT_S
    for name, ends in zip(bill["a"], bill["e"], strict=True):
        stated = [
            claim.resets_at + ACCOUNT_KEPT_S for claim in limits if str(claim.account) == name and claim.resets_at
        ]
        last = [claim for claim in limits if str(claim.account) == name][-1:]
        if last and last[0].resets_at:
            assert ends in stated
        elif "/total" in name and "request:" not in name:
            assert ends == 0
        else:
            assert until <= ends <= until + HOUR_S


def test_settlements_that_differ_have_bills_of_their_own():
    """Another hour, other accounts: nothing is charged where it does not belong."""
    first = Settlement("a", 5, "completed", (Account("global", "total"),), b"{}", f"{HOUR}:00:00.000Z")
    other = [
        replace(first, call_id="b", started_at="2026-11-20T11:00:00.000Z"),
        replace(first, call_id="c", accounts=()),
    ]
    told, _ = run_of(*(Settle(each, "me") for each in (first, *other)))
    bills = [told["bills"][op["b"] - 1] for op in told["ops"]]
    assert [told["hours"][bill["h"] - 1]["hn"] for bill in bills] == [HOUR, "2026-11-20T11", HOUR]
    assert [bill["a"] for bill in bills] == [["global/total"], ["global/total"], []]


@given(at_ms=st.integers(0, 253_402_300_799_999), rest=st.integers(0, 0xFFF))
def test_a_record_stands_with_those_of_its_hour(at_ms, rest):
    """An id tells when it was made, to the millisecond."""
    digits = f"{at_ms:012x}"
    call_id = f"{digits[:8]}-{digits[8:]}-7{rest:03x}-8000-000000000000"
    hour = hour_of(at_ms // 1000)
    assert KEYS.record(call_id) == f"{{books}}:r:{hour}"
    assert hour_begins(hour) <= at_ms / 1000 < hour_begins(hour) + HOUR_S
    assert KEYS.record(f"{call_id}x") == f"{{books}}:r:={call_id}x"
