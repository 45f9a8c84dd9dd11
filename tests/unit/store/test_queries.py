"""Questions to the books: above all whether they add up."""

from __future__ import annotations

import pytest

from gateway.accounts import Account, Balance, Claim
from gateway.store import Settlement, queries
from gateway.store.books import Reserve, Settle
from gateway.store.pages import load, save
from gateway.store.tables import connect, prepare

A, B = Account("a", "day"), Account("b", "day")


@pytest.fixture
def connection(tmp_path):
    made = connect(str(tmp_path / "books.db"), "normal", write=True)
    prepare(made)
    operations = [
        Reserve("held", (Claim(A, 7), Claim(B, 3), Claim(A, 1))),
        Settle(Settlement("spent", 5, "completed", (A, B), b"{}", "")),
    ]
    page = load(made, operations, 1.0, "me")
    for operation in operations:
        operation.apply(page)
    save(made, page)
    yield made
    made.close()


def test_books_that_add_up_have_no_differences(connection):
    """Records for spent, holds for held."""
    assert queries.differences(connection) == []
    assert queries.balances(connection, [B, Account("x", "y"), A]) == [
        Balance(B, 5, 3), Balance(Account("x", "y"), 0, 0), Balance(A, 5, 8),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("falsify", "accounts"),
    [
        ("UPDATE accounts SET spent = spent + 1 WHERE scope = 'a'", 1),
        ("UPDATE accounts SET held = held - 1", 2),
        ("UPDATE accounts SET spent = spent + 1, held = held - 1 WHERE scope = 'b'", 1),
        ("UPDATE records SET cost = cost + 1", 2),
        ("DELETE FROM records", 2),
        ("DELETE FROM holds", 2),
        ("DELETE FROM accounts WHERE scope = 'a'", 1),
        ("INSERT INTO accounts (scope, \"window\", spent, held) VALUES ('new', 'day', 1, 0)", 1),
    ],
)
def test_a_falsified_balance_is_found(connection, falsify, accounts):
    """One nano-dollar is enough."""
    connection.execute(falsify)
    assert len(queries.differences(connection)) == accounts
