"""Leases, lost calls and retention, at times that the test says."""

from __future__ import annotations

import sqlite3

import pytest

from gateway.accounts import Account, Claim
from gateway.store import Settlement, queries, upkeep
from gateway.store.books import Reserve, Settle
from gateway.store.lost import rfc3339
from gateway.store.tables import connect, load, prepare, save
from gateway.store.upkeep import ACCOUNT_KEPT_S, Tenure, begin_tenure, end_tenure, step

A = Account("team:a", "day")
ONE = Tenure("one#1", "one", 60.0, 1000.0)
TWO = Tenure("two#1", "two", 60.0, 1000.0)


@pytest.fixture
def connection(tmp_path):
    made = connect(str(tmp_path / "books.db"), "normal", write=True)
    prepare(made)
    yield made
    made.close()


def carry_out(connection, owner, now, *operations):
    connection.execute("BEGIN IMMEDIATE")
    page = load(connection, operations, now, owner)
    for operation in operations:
        operation.apply(page)
    save(connection, page)
    connection.execute("COMMIT")


def settle(call_id: str, cost: int, at: float) -> Settle:
    return Settle(Settlement(call_id, cost, "completed", (A,), b"{}", rfc3339(at)))


def lost(connection, tenure, now):
    return [hold.call_id for hold in step(connection, tenure, now).lost]


def test_a_renewed_lease_holds_and_a_lapsed_one_does_not(connection):
    """To the second: as long as the owner renews, others leave its holds alone."""
    step(connection, ONE, 0.0)
    carry_out(connection, "one#1", 0.0, Reserve("c", (Claim(A, 7),)))
    assert lost(connection, TWO, 60.0) == []
    step(connection, ONE, 50.0)
    assert lost(connection, TWO, 110.0) == []
    assert lost(connection, TWO, 110.1) == ["c"]
    assert lost(connection, TWO, 120.0) == []
    assert queries.balances(connection, [A])[0].spent_nanousd == 7
    assert queries.differences(connection) == []


def test_an_owner_never_loses_its_own_holds_by_looking(connection):
    """However late it comes: it renews before it looks for the holds of the dead."""
    step(connection, ONE, 0.0)
    carry_out(connection, "one#1", 0.0, Reserve("c", (Claim(A, 7),)))
    assert lost(connection, ONE, 10_000.0) == []


def test_a_successor_of_the_same_name_takes_over_at_once(connection):
    """Names are unique among the living, so that the earlier one is dead; others are untouched."""
    step(connection, ONE, 0.0)
    step(connection, TWO, 0.0)
    carry_out(connection, "one#1", 0.0, Reserve("c", (Claim(A, 7),)))
    carry_out(connection, "two#1", 0.0, Reserve("d", (Claim(A, 7),)))
    again = Tenure("one#2", "one", 60.0, 1000.0)
    begin_tenure(connection, again)
    assert lost(connection, again, 1.0) == ["c"]


def test_nobody_answers_for_what_a_closed_store_held(connection):
    """Its lease ends when it says so."""
    step(connection, ONE, 0.0)
    carry_out(connection, "one#1", 0.0, Reserve("c", (Claim(A, 7),)))
    end_tenure(connection, ONE)
    assert lost(connection, TWO, 1.0) == ["c"]


def test_many_lost_calls_are_charged_in_steps(connection, monkeypatch):
    """No call waits long behind a sweep; no call is forgotten either."""
    monkeypatch.setattr(upkeep, "STEP_ROWS", 3)
    carry_out(connection, "gone", 0.0, *(Reserve(f"c{number}", (Claim(A, 1),)) for number in range(7)))
    found = [step(connection, ONE, 0.0) for _ in range(3)]
    assert [(len(each.lost), each.more) for each in found] == [(3, True), (3, True), (1, False)]
    assert queries.holds(connection) == 0


def test_old_records_go_and_what_they_charged_stays(connection, monkeypatch):
    """Oldest first, in steps; a counter never falls because a record is deleted, and the books still add up."""
    monkeypatch.setattr(upkeep, "STEP_ROWS", 2)
    carry_out(connection, "one#1", 0.0, *(settle(f"c{number}", number, number * 100.0) for number in range(10)))
    assert step(connection, ONE, 1000.0 + 250.0).more
    assert queries.find(connection, "c1") is None
    assert queries.find(connection, "c2") is not None
    assert not step(connection, ONE, 1000.0 + 250.0).more
    assert [queries.find(connection, f"c{number}") is None for number in range(5)] == [True, True, True, False, False]
    assert queries.balances(connection, [A])[0].spent_nanousd == sum(range(10))
    assert queries.differences(connection) == []


def test_an_account_goes_when_nothing_stands_behind_it_any_more(connection):
    """Long after its window has ended, and not while a record or a hold is there."""
    carry_out(
        connection,
        "one#1",
        0.0,
        Reserve("c", (Claim(A, 7, resets_at=100),)),
        Reserve("d", (Claim(A, 7),)),
        settle("c", 5, 0.0),
    )
    step(connection, ONE, 0.0)
    late = Tenure("one#1", "one", 1e9, 1000.0)
    step(connection, late, ACCOUNT_KEPT_S + 101.0)
    assert queries.balances(connection, [A])[0].held_nanousd == 7
    carry_out(connection, "one#1", 0.0, settle("d", 3, ACCOUNT_KEPT_S + 0.0))
    step(connection, late, ACCOUNT_KEPT_S + 101.0)
    assert connection.execute("SELECT count(*) FROM accounts").fetchone() == (1,), "the record of d still names it"
    step(connection, late, ACCOUNT_KEPT_S + 1001.0)
    assert connection.execute("SELECT count(*) FROM accounts").fetchone() == (0,)
    assert queries.differences(connection) == []


def test_a_step_that_fails_leaves_nothing_half_done(connection, monkeypatch):
    """All of it or none."""
    carry_out(connection, "gone", 0.0, Reserve("c", (Claim(A, 7),)))

    def broken(*_: object) -> int:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(upkeep, "_delete_accounts", broken)
    with pytest.raises(sqlite3.OperationalError):
        step(connection, ONE, 0.0)
    assert queries.holds(connection) == 1
