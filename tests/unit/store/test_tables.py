"""The file: its schema, its upgrades, and the way between rows and pages."""

from __future__ import annotations

import json
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.accounts import Account, Claim
from gateway.errors import Failure
from gateway.selection import Selection
from gateway.store import Settlement, listing, queries, tables
from gateway.store.books import Release, Reserve, Settle
from gateway.store.kept import Kept
from gateway.store.pages import load, save
from gateway.store.tables import UPGRADES, connect, prepare, schema_version


@pytest.fixture
def connection(tmp_path):
    made = connect(str(tmp_path / "books.db"), "full", write=True)
    prepare(made)
    yield made
    made.close()


def carry_out(connection, *operations, kept=None):
    connection.execute("BEGIN IMMEDIATE")
    page = load(connection, operations, 1.0, "me", kept)
    for operation in operations:
        operation.apply(page)
    save(connection, page)
    connection.execute("COMMIT")


def test_a_new_file_gets_the_schema_and_an_old_one_keeps_its_rows(connection):
    """Preparing again changes nothing."""
    carry_out(connection, Reserve("c", (Claim(Account("a", "day"), 1),)))
    prepare(connection)
    assert schema_version(connection) == len(UPGRADES)
    assert queries.holds(connection) == 1


def test_a_file_of_an_earlier_version_is_upgraded_step_by_step(connection, monkeypatch):
    """Only the steps that it has not seen."""
    carry_out(connection, Reserve("c", (Claim(Account("a", "day"), 1),)))
    monkeypatch.setattr(
        tables, "UPGRADES", (*UPGRADES, "ALTER TABLE holds ADD COLUMN more TEXT", "CREATE TABLE new (a) STRICT")
    )
    with pytest.raises(sqlite3.OperationalError):
        prepare(connection)
    assert schema_version(connection) == len(UPGRADES), "an upgrade that fails is undone as a whole"
    monkeypatch.setattr(tables, "UPGRADES", (*UPGRADES, "ALTER TABLE holds ADD COLUMN more TEXT"))
    prepare(connection)
    assert schema_version(connection) == len(UPGRADES) + 1
    assert connection.execute("SELECT call_id, more FROM holds").fetchall() == [("c", None)]


@pytest.fixture
def older(tmp_path, monkeypatch):
    """A file of the version that had all of a record in the one column, with a call in it and one that was lost."""
    older = connect(str(tmp_path / "older.db"), "full", write=True)
    with monkeypatch.context() as before:
        before.setattr(tables, "UPGRADES", UPGRADES[:10])
        prepare(older)
    for call_id, outcome in (("old", "completed"), ("lost", "lost")):
        record = json.dumps({"call_id": call_id, "correlation_id": "tie", "provider": "p", "awaits": f"{call_id}-key"})
        older.execute(
            "INSERT INTO records (call_id, cost, outcome, accounts, started_at, record) VALUES (?, 0, ?, '[]', '', ?)",
            (call_id, outcome, record),
        )
    yield older
    older.close()


def settled(call_id, correlation_id, awaits=""):
    """As a gateway books a call."""
    told = {"call_id": call_id, "correlation_id": correlation_id, "provider": "p", "awaits": awaits, "team": "t"}
    record = json.dumps(told).encode()
    return Settle(Settlement(call_id, 0, "completed", (), record, "", correlation_id=correlation_id, awaits=awaits))


def ids(records):
    return [record["call_id"] for record in records]


def test_records_of_before_and_of_now_are_found_alike(older):
    """By call, by what ties calls together, by what is awaited; and what was lost is replaced."""
    prepare(older)
    assert ids(queries.recent(older, 9, "", "tie")) == ["old", "lost"]
    carry_out(older, settled("new", 'tie "2"', "new-key"), settled("lost", "tie"))
    assert ids(queries.recent(older, 9, "", "tie")) == ["old", "lost"]
    assert ids(queries.recent(older, 9, "", 'tie "2"')) == ["new"]
    assert ids(listing.page(older, Selection(correlation_id='tie "2"', team="t"), 9, "").records) == ["new"]
    for call_id in ("old", "new"):
        assert queries.awaiting(older, "p", f"{call_id}-key") == queries.find(older, call_id)
    assert queries.awaiting(older, "p", "lost-key") is None, "the call was settled after all"
    assert queries.find(older, "lost")["team"] == "t"


def test_a_record_is_not_parsed_to_be_found(connection):
    """SQLite derives its columns from the little that they need."""
    carry_out(connection, settled("c", "tie"), settled("d", "tie", "key"))
    keys = connection.execute("SELECT keys FROM records ORDER BY call_id").fetchall()
    assert keys == [('{"correlation_id":"tie"}',), ('{"correlation_id":"tie","awaits":"key"}',)]


def test_a_file_of_a_later_version_is_left_alone(connection):
    """An old program must not write what it does not understand."""
    connection.execute("PRAGMA user_version=99")
    with pytest.raises(Failure, match="later version"):
        prepare(connection)
    assert schema_version(connection) == 99


def test_an_old_sqlite_is_told_apart(monkeypatch, tmp_path):
    """Before 3.37 a sum could silently become a float."""
    monkeypatch.setattr(tables, "MIN_SQLITE", (99, 0, 0))
    with pytest.raises(Failure, match=r"SQLite 99\.0"):
        connect(str(tmp_path / "books.db"), "normal", write=True)


def test_a_file_that_cannot_have_a_write_ahead_log_is_refused():
    """Several processes could not share it."""
    connection = connect(":memory:", "normal", write=True)
    with pytest.raises(sqlite3.OperationalError):
        prepare(connection)
    connection.close()


@pytest.mark.parametrize(("durability", "level"), [("normal", 1), ("full", 2)])
def test_durability_is_what_was_asked_for(tmp_path, durability, level):
    """NORMAL outlives the process, FULL the power."""
    connection = connect(str(tmp_path / "books.db"), durability, write=True)
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == level
    connection.close()


def test_a_reading_connection_cannot_write(connection, tmp_path):
    """Questions change nothing."""
    reader = connect(str(tmp_path / "books.db"), "normal", write=False)
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM holds")
    reader.close()


def test_what_is_no_file_cannot_be_opened(tmp_path):
    """A folder is no file."""
    with pytest.raises(sqlite3.OperationalError):
        connect(str(tmp_path), "normal", write=True)


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=40, deadline=None)  # a deadline would time the disk
@given(st.lists(st.tuples(names, names, st.integers(0, 2**53)), min_size=1, max_size=5), names)
def test_what_is_saved_is_what_is_loaded(parts, call_id):
    """Any name and any amount, to the last nano-dollar: quotes and slashes included."""
    connection = connect("", "normal", write=True)
    for statement in ";".join(UPGRADES).split(";"):
        connection.execute(statement)
    claims = tuple(Claim(Account(scope, window), amount) for scope, window, amount in parts)
    carry_out(connection, Reserve(call_id, claims))
    page = load(connection, [Release(call_id)], 1.0, "me")
    assert [(*part.account, part.amount_nanousd) for part, _ in page.holds[call_id].parts] == parts
    assert sum(line.held for line in page.lines.values()) == sum(amount for _, _, amount in parts)
    assert queries.differences(connection) == []
    connection.close()


@pytest.mark.parametrize("account", [Account("a\0b", "day"), Account("a", "day\0")])
def test_a_name_that_a_table_cannot_hold_is_an_error(connection, account):
    """Text ends at a NUL in SQLite: two accounts could become one."""
    settle = Settle(Settlement("c", 1, "completed", (account,), b"{}", ""))
    for operation in (Reserve("c", (Claim(account, 1),)), settle):
        with pytest.raises(ValueError, match="NUL"):
            load(connection, [operation], 1.0, "me")


def test_a_name_that_only_looks_as_if_it_held_one_is_none(connection):
    """It is written with a backslash."""
    account = Account(r"a\u0000", "day")
    carry_out(connection, Reserve("c", (Claim(account, 7),)))
    [balance] = queries.balances(connection, [account])
    assert balance.held_nanousd == 7


@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 65, 137])
def test_any_number_of_rows_is_written(connection, count):
    """Whatever the batch, none is left out and none is written twice."""
    operations = [
        Settle(Settlement(f"c{number}", number, "completed", (Account(f"a{number}", "day"),), b"{}", ""))
        for number in range(count)
    ]
    carry_out(connection, *operations)
    assert connection.execute("SELECT count(*), sum(cost) FROM records").fetchone() == (count, sum(range(count)))
    assert connection.execute("SELECT count(*), sum(spent) FROM accounts").fetchone() == (count, sum(range(count)))


def test_the_end_of_a_window_is_kept(connection):
    """Later claims that do not know it do not erase it."""
    account = Account("a", "day")
    carry_out(connection, Reserve("c", (Claim(account, 1, resets_at=5),)))
    carry_out(connection, Settle(Settlement("c", 1, "completed", (account,), b"{}", "")))
    assert connection.execute("SELECT ends_at FROM accounts").fetchall() == [(5,)]


@pytest.mark.parametrize("kept", [None, Kept()])
def test_the_end_of_a_window_is_the_latest_that_was_heard_of(connection, kept):
    """A budget may get another zone, or another first day of its week."""
    account = Account("a", "day")
    for number, (end, latest) in enumerate([(5, 5), (9, 9), (0, 9), (7, 9)]):
        carry_out(connection, Reserve(f"c{number}", (Claim(account, 1, resets_at=end),)), kept=kept)
        assert connection.execute("SELECT ends_at, held FROM accounts").fetchall() == [(latest, number + 1)]


def test_a_hold_given_back_and_taken_again_in_one_batch_is_the_new_one(connection):
    """The row from before is replaced."""
    account = Account("a", "day")
    carry_out(connection, Reserve("c", (Claim(account, 7),)))
    carry_out(connection, Release("c"), Reserve("c", (Claim(account, 9),)))
    assert connection.execute("SELECT amount FROM holds").fetchall() == [(9,)]
    assert queries.differences(connection) == []


def test_a_threshold_is_told_once_whoever_of_several_crosses_it(tmp_path):
    """What a writer keeps in mind of thresholds does not outlive what another one writes."""
    account, told = Account("a", "day"), []
    desks = [(connect(str(tmp_path / "books.db"), "normal", write=True), Kept()) for _ in range(2)]
    prepare(desks[0][0])
    for number, (at, cost) in enumerate([(1, 50), (0, 30), (1, 1), (1, 1), (0, 18), (1, 9)]):
        connection, kept = desks[at]
        claim = Claim(account, 1, 100, "budget", notify_at=(50, 80, 100))
        connection.execute("BEGIN IMMEDIATE")
        kept.look(connection)
        settle = Settle(Settlement(f"c{number}", cost, "completed", (account,), b"{}", "", (claim,)))
        page = load(connection, [settle], 1.0, f"desk {at}", kept)
        settle.apply(page)
        save(connection, page)
        connection.execute("COMMIT")
        told += [(at, notice.percent) for notice in page.crossed]
    assert told == [(1, 50), (0, 80), (0, 100)]
    for connection, _ in desks:
        connection.close()
