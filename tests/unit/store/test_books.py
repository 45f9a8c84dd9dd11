"""What an operation means, on a page in memory."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.accounts import Account, Claim, Hold
from gateway.errors import Failure, Kind, Refusal
from gateway.store import Settlement
from gateway.store.answers import MAX_AMOUNT_NANOUSD
from gateway.store.books import Lapse, Release, Reserve, Settle, _granted, _in_the_way, _plainly, _reached
from gateway.store.page import MAX_BALANCE_NANOUSD, Line, Page

A, B = Account("a", "day"), Account("b", "day")


def page(**balances: tuple[int, int]) -> Page:
    """With the accounts a and b."""
    accounts = {"a": (0, 0), "b": (0, 0)} | balances
    return Page(1.0, "me", {(scope, "day"): Line(scope, "day", *both) for scope, both in accounts.items()})


def told(books: Page) -> tuple[object, ...]:
    """What stands on a page, and what of it would be written."""
    balances = {line.scope: (line.spent, line.held) for line in books.lines.values()}
    return balances, books.holds, books.records, books.changed_lines, books.changed_holds, books.changed_records


def settle(call_id: str, cost: int, *accounts: Account) -> Settle:
    return Settle(Settlement(call_id, cost, "completed", accounts, b"{}", ""))


def test_what_is_left_is_counted_from_the_tightest_limit():
    """Beyond this hold, whose amount is that of its largest claim: the remaining budget is then left + amount - cost."""
    hold = Reserve("c", (Claim(A, 10, 100), Claim(B, 30, 1000), Claim(B, 1))).apply(page(a=(50, 0)))
    assert isinstance(hold, Hold)
    assert hold.amount_nanousd == 30
    assert hold.least_left_nanousd == 50 - 30


BRIM = MAX_BALANCE_NANOUSD - MAX_AMOUNT_NANOUSD
few = st.integers(0, 12)
some_claims = st.builds(
    Claim,
    st.sampled_from([A, B]),
    few | few | st.sampled_from([-1, MAX_AMOUNT_NANOUSD, MAX_AMOUNT_NANOUSD + 1]),
    st.none() | st.integers(0, 40) | st.integers(0, 40) | st.just(1 << 63),
    budget=st.sampled_from("xy"),
    shadow_nanousd=st.none() | st.none() | few,
    forgiven_nanousd=st.just(0) | st.just(0) | few,
)
balances = st.tuples(st.integers(-3, 12), few | few | st.sampled_from([BRIM, BRIM + 1, MAX_BALANCE_NANOUSD]))


@settings(deadline=None, max_examples=400)
@given(st.lists(some_claims, max_size=3), balances, balances)
def test_what_is_plain_is_what_a_close_look_finds(claims, of_a, of_b):
    """Where one look at each claim grants a hold, there is room, and the same is told of it; where nothing is near, one look does."""
    books = page(a=of_a, b=of_b)
    asked = [(claim, books.lines[claim.account]) for claim in claims]
    hold = _plainly("c", tuple(claims), asked)
    if hold is not None:
        assert _in_the_way(asked) is None
        books.set_aside(asked)
        assert hold == _granted("c", max((claim.amount_nanousd for claim in claims), default=0), tuple(claims), asked)
    else:
        near = [
            not 0 <= claim.amount_nanousd <= MAX_AMOUNT_NANOUSD or claim.shadow_nanousd is not None
            or claim.forgiven_nanousd > line.spent or line.held > BRIM
            or (claim.limit_nanousd is not None and line.spent + line.held + claim.amount_nanousd > claim.limit_nanousd)
            for claim, line in asked
        ]  # fmt: skip
        assert any(near) or len({line for _, line in asked}) < len(asked)


@given(st.none() | few, st.none() | few, few, st.integers(-3, 40), st.integers(1, 400))
def test_a_threshold_is_crossed_once_so_much_of_the_stated_limit_is_spent(limit, shadow, forgiven, spent, percent):
    """At the very nano-dollar; without a rounding, whatever was forgiven."""
    claim = Claim(A, 1, limit, shadow_nanousd=shadow, forgiven_nanousd=forgiven, notify_at=(percent,))
    is_crossed = (spent - forgiven) * 100 >= claim.stated_nanousd * percent
    assert (_reached(claim, spent) >= percent) == is_crossed


def test_two_claims_on_one_account_need_room_together():
    """Each of them alone would fit."""
    refusal = Reserve("c", (Claim(A, 6, 10), Claim(A, 6, 10))).apply(page())
    assert isinstance(refusal, Refusal)
    assert refusal.needed_nanousd == 12


@pytest.mark.parametrize(("spent", "held", "kind"), [(95, 0, "budget_exceeded"), (90, 6, "budget_held"), (90, 5, None)])
def test_spent_is_in_the_way_for_good_and_held_only_for_now(spent, held, kind):
    """s + a > limit: exceeded. Only s + h + a > limit: held. Up to the limit itself: granted."""
    answer = Reserve("c", (Claim(A, 6 if kind == "budget_exceeded" else 5, 100),)).apply(page(a=(spent, held)))
    assert (answer.kind.value if isinstance(answer, Refusal) else None) == kind


@pytest.mark.parametrize("amount", [-1, MAX_AMOUNT_NANOUSD + 1])
def test_an_amount_that_no_call_has_is_an_error(amount):
    """Neither held nor booked, and nothing has changed."""
    books = page()
    for operation in (Reserve("c", (Claim(A, 1), Claim(B, amount))), settle("d", amount, A)):
        with pytest.raises(ValueError):
            operation.apply(books)
    assert told(books) == told(page())


@pytest.mark.parametrize("full", [(MAX_BALANCE_NANOUSD, 0), (0, MAX_BALANCE_NANOUSD)])
def test_an_account_that_is_full_to_the_brim_fails_closed(full):
    """SQLite would go on in floating point; none of the moves is made."""
    books = page(b=full)
    operation = settle("d", 1, A, B) if full[0] else Reserve("c", (Claim(A, 1), Claim(B, 1)))
    with pytest.raises(Failure) as failure:
        operation.apply(books)
    assert failure.value.kind is Kind.STORE_UNAVAILABLE
    assert told(books) == told(page(b=full))


def test_a_settlement_charges_an_account_once():
    """However often it is named."""
    books = page()
    settle("c", 5, A, A).apply(books)
    assert told(books)[0] == {"a": (5, 0), "b": (0, 0)}


def test_what_a_hold_took_goes_back_where_it_was_taken():
    """Also when the settlement names other accounts than the hold."""
    books = page()
    Reserve("c", (Claim(A, 6), Claim(B, 2))).apply(books)
    settle("c", 5, B).apply(books)
    assert told(books)[0] == {"a": (0, 0), "b": (5, 0)}


def test_reserving_again_answers_with_what_stands_in_the_books():
    """The words of the second asking, the amounts of the first; accounts that are not asked for again are told as well."""
    books = page()
    Reserve("c", (Claim(A, 6, 10, "x"), Claim(B, 2, 10, "y"))).apply(books)
    hold = Reserve("c", (Claim(A, 9, 99, "z"),)).apply(books)
    assert isinstance(hold, Hold)
    assert hold.claims == (Claim(A, 6, 99, "z"), Claim(B, 2, None, "y"))


def test_what_is_not_there_lapses_and_returns_without_a_trace():
    """No hold, no record, no change."""
    books = page()
    assert Lapse("c").apply(books) is None
    Release("c").apply(books)
    assert told(books) == told(page())


def test_a_call_can_be_held_settled_and_struck_on_one_page():
    """Within one batch only the end is written."""
    books = page()
    Reserve("c", (Claim(A, 6),)).apply(books)
    assert Lapse("c").apply(books) is not None
    Release("c").apply(books)
    assert told(books) == ({"a": (0, 0), "b": (0, 0)}, {}, {}, {books.lines[A]}, {"c"}, {"c"})
