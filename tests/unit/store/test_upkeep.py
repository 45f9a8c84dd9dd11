"""Leases, lost calls and retention, at times that the test says."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import replace

import orjson
import pytest

from gateway.accounts import Account, Claim, Use
from gateway.store import FIRST_COUNTS, Settlement, queries, sums, upkeep
from gateway.store.books import Count, Release, Reserve, Settle
from gateway.store.digest import COST
from gateway.store.lost import rfc3339
from gateway.store.pages import load, save
from gateway.store.rollups import Rollups, spend_of
from gateway.store.tables import UPGRADES, connect, prepare
from gateway.store.upkeep import ACCOUNT_KEPT_S, Tenure, begin_tenure, end_tenure, step
from gateway.tallies import KEPT_S, Tally

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


# -- sums ---------------------------------------------------------------------------------------------------------------

HOUR, DAY_S = 3600.0, 86400.0
KEEPER = Tenure("one#1", "one", 1e9, 1e9, Rollups(("team",), hours_s=2 * DAY_S, days_s=5 * DAY_S))


def counted(call_id: str, at: float, cost: int = 1, **more) -> Settle:
    record = {"call_id": call_id, "cost_nanousd": cost, "outcome": "completed", "started_at": rfc3339(at)} | more
    return Settle(
        Settlement(
            call_id, cost, record["outcome"], (A,), orjson.dumps(record), rfc3339(at), spend=spend_of(record, ("team",))
        )
    )


def kept(connection):
    """(hour or day, dims, calls, nano-dollars) of each row."""
    return [(each.hour, each.dims, each.counts[0], each.counts[COST]) for each in sums.spend(connection, "", "~")]


def test_hours_become_days_and_days_go_in_steps(connection, monkeypatch):
    """By the hour as long as that is declared, whole days only, then by the day; no sum changes on the way."""
    monkeypatch.setattr(upkeep, "STEP_ROWS", 10)
    carry_out(connection, "one#1", 0.0, *(counted(f"c{hour}", hour * HOUR, hour + 1) for hour in range(72)))
    assert not step(connection, KEEPER, 2 * DAY_S + HOUR).more
    assert len(kept(connection)) == 72
    steps = 0
    while step(connection, KEEPER, 3 * DAY_S + HOUR).more:
        steps += 1
        assert sum(cost for *_, cost in kept(connection)) == sum(range(73))
        assert sums.differences(connection) == []
    assert steps == 2
    rows = kept(connection)
    assert rows[:2] == [("1970-01-01", '{"team":""}', 24, 300), ("1970-01-02T00", '{"team":""}', 1, 25)]
    while step(connection, KEEPER, 6 * DAY_S - 1).more:
        pass
    assert [row[0] for row in kept(connection)] == ["1970-01-01", "1970-01-02", "1970-01-03"]
    step(connection, KEEPER, 6 * DAY_S)
    assert [row[0] for row in kept(connection)] == ["1970-01-02", "1970-01-03"]
    assert sums.differences(connection) == [], "what was deleted is not missed"


def test_what_comes_late_joins_the_day_that_was_condensed(connection):
    """A correction of an old call stands in the hour of that call."""
    carry_out(connection, "one#1", 0.0, counted("c", HOUR, 7))
    step(connection, KEEPER, 4 * DAY_S)
    carry_out(connection, "one#1", 0.0, counted("c+1", HOUR, -2, outcome="corrected", corrects="c"))
    assert kept(connection) == [("1970-01-01", '{"team":""}', 1, 7), ("1970-01-01T01", '{"team":""}', 0, -2)]
    assert sums.differences(connection) == []
    step(connection, KEEPER, 4 * DAY_S)
    assert kept(connection) == [("1970-01-01", '{"team":""}', 1, 5)]
    assert sums.differences(connection) == []


def test_sums_outlive_the_records(connection, monkeypatch):
    """Records go, sums stay, and only the hours whose records are all there are held against them."""
    monkeypatch.setattr(upkeep, "STEP_ROWS", 2)
    carry_out(connection, "one#1", 0.0, *(counted(f"c{number}", number * HOUR / 2, 3) for number in range(6)))
    before = kept(connection)
    brief = Tenure("one#1", "one", 1e9, HOUR, KEEPER.rollups)
    while step(connection, brief, 2.25 * HOUR).more:
        pass
    assert [queries.find(connection, f"c{number}") is None for number in range(6)] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert kept(connection) == before
    assert sums.differences(connection) == []
    connection.execute("UPDATE spend SET calls = calls + 1")
    assert [(each.hour, each.counts) for each in sums.differences(connection)] == [
        ("1970-01-01T02", (1, 0, 0, 0, 0, 0, 0, 0, 0))
    ]


@pytest.mark.parametrize(
    ("falsify", "beyond"),
    [
        ("UPDATE spend SET cost_nanousd = cost_nanousd + 1", (0, 0, 0, 0, 0, 0, 1, 0, 0)),
        ("UPDATE spend SET failed = 2", (0, 2, 0, 0, 0, 0, 0, 0, 0)),
        ("DELETE FROM spend", (-1, 0, 0, 0, 0, 0, -7, 0, 0)),
        ("DELETE FROM records", (1, 0, 0, 0, 0, 0, 7, 0, 0)),
    ],
)
def test_a_falsified_sum_is_found(connection, falsify, beyond):
    """One nano-dollar is enough."""
    carry_out(connection, "one#1", 0.0, counted("c", HOUR, 7))
    assert sums.differences(connection) == []
    connection.execute(falsify)
    assert [each.counts for each in sums.differences(connection)] == [beyond]


def test_what_is_told_apart_may_change_within_an_hour(connection):
    """Then sums are held against records by what all rows of the hour have in common."""
    carry_out(connection, "one#1", 0.0, counted("c", HOUR, 7, team="a"))
    other = counted("d", HOUR, 5, team="a", user="ann")
    spend = spend_of(orjson.loads(other.settlement.record), ("user", "team"))
    carry_out(connection, "one#1", 0.0, Settle(replace(other.settlement, spend=spend)))
    assert sums.differences(connection) == []
    connection.execute("UPDATE spend SET input = 4 WHERE cost_nanousd = 5")
    assert [(each.dims, each.counts[3]) for each in sums.differences(connection)] == [('{"team":"a"}', 4)]


def test_a_file_of_an_earlier_version_begins_its_sums_with_the_upgrade(connection):
    """Its records have no sums, and that is no difference."""
    carry_out(connection, "one#1", 0.0, counted("old", HOUR, 7))
    of_then, since = (set(re.findall(r"CREATE TABLE (\w+)", ";".join(each))) for each in (UPGRADES[:4], UPGRADES[4:]))
    for table in since - of_then:
        connection.execute(f"DROP TABLE {table}")
    for table, column in (("records", "record"), ("records", "text"), ("records", "spend"), ("holds", "uses")):
        connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    connection.execute("ALTER TABLE records RENAME COLUMN keys TO record")
    connection.execute("DROP INDEX accounts_by_window")
    connection.execute("PRAGMA user_version=4")
    prepare(connection)
    assert kept(connection) == []
    assert sums.differences(connection) == []
    carry_out(connection, "one#1", 0.0, counted("new", 3 * HOUR, 7))
    connection.execute("UPDATE spend SET calls = 3")
    assert [each.hour for each in sums.differences(connection)] == ["1970-01-01T03"]


BEFORE_ENTRIES = 6
"""The schema of the last version that knew no limits, no decisions and no resets."""


def test_what_an_earlier_version_left_behind_is_carried_on(tmp_path):
    """A hold of a dead process is charged, a threshold that was told is not told again, and sums go on without the counts that
    were not known.
    """
    connection = connect(str(tmp_path / "old.db"), "normal", write=True)
    connection.execute("PRAGMA journal_mode=WAL")
    for upgrade in UPGRADES[:BEFORE_ENTRIES]:
        connection.executescript(upgrade)
    connection.execute(f"PRAGMA user_version={BEFORE_ENTRIES}")
    record = {"call_id": "a", "cost_nanousd": 60, "outcome": "completed", "started_at": rfc3339(HOUR)}
    of_then = spend_of(record, ("team",))
    connection.execute("INSERT INTO accounts VALUES ('team:a', 'day', 60, 30, 0, 0)")
    connection.execute("""INSERT INTO holds VALUES ('b', 30, 'dead', 4000.0, '[["team:a", "day", 30, "all"]]')""")
    connection.execute(
        "INSERT INTO records (call_id, cost, outcome, accounts, started_at, record)"
        """ VALUES ('a', 60, 'completed', '[["team:a", "day"]]', ?, ?)""",
        (record["started_at"], orjson.dumps(record).decode()),
    )
    connection.execute(
        "INSERT INTO spend VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (of_then.hour, of_then.dims, *of_then.counts[:FIRST_COUNTS]),
    )
    connection.execute("INSERT INTO notices VALUES ('team:a', 'day', 'all', 50, 100, 60, 'dead', 1)")
    prepare(connection)
    assert [hold.call_id for hold in step(connection, replace(ONE, rollups=Rollups(("team",))), 5000.0).lost] == ["b"]
    claim = Claim(A, 1, 100, "all", "day", notify_at=(50, 90))
    settlement = counted("c", HOUR, 1).settlement
    connection.execute("BEGIN IMMEDIATE")
    operations = (Reserve("c", (claim,)), Settle(replace(settlement, limits=(claim,))))
    page = load(connection, operations, 5000.0, "one#1")
    for operation in operations:
        operation.apply(page)
    save(connection, page)
    connection.execute("COMMIT")
    assert [notice.percent for notice in page.crossed] == [90]
    assert (queries.differences(connection), sums.differences(connection)) == ([], [])
    assert [(balance.spent_nanousd, balance.held_nanousd) for balance in queries.balances(connection, [A])] == [(91, 0)]
    assert {len(each.counts) for each in sums.spend(connection, "", "~") if each.dims == of_then.dims} == {FIRST_COUNTS}
    connection.close()


def test_condensing_reads_only_what_it_condenses(connection):
    """Two years of days are not gone through every twenty seconds."""
    plan = connection.execute(
        "EXPLAIN QUERY PLAN SELECT 1 FROM spend WHERE length(hour) = 13 AND hour < ? ORDER BY hour, dims LIMIT ?",
        ("x", 1),
    ).fetchall()
    assert "spend_by_hour" in plan[0][-1]


def test_tallies_of_targets_go_after_eight_days_in_steps(connection, monkeypatch):
    """Those that a window still looks at stay."""
    monkeypatch.setattr(upkeep, "STEP_ROWS", 2)
    rows = tuple(Tally(at, "fast", 2, 1) for at in (0, 300, 600, 900, 1200))
    carry_out(connection, "one#1", 0.0, Count(rows))
    assert step(connection, ONE, KEPT_S + 900.0).more
    assert queries.tallies(connection, 0, 3000) == list(rows[2:])
    step(connection, ONE, KEPT_S + 900.0)
    assert queries.tallies(connection, 0, 3000) == list(rows[3:])
    assert not step(connection, ONE, KEPT_S + 900.0).more


def test_limits_that_have_run_empty_go(connection):
    """In steps; those that still say something stay."""
    for number in range(5):
        place = Use(f"user:u{number}", "concurrent", 1, 9, "x")
        request = Use(f"user:u{number}", "requests_per_minute", 1, 9, "x")
        carry_out(connection, "one#1", 0.0, Reserve(f"c{number}", (), uses=(place, request)))
    carry_out(connection, "one#1", 1.0, Release("c0"))
    step(connection, ONE, 3.0)
    assert connection.execute("SELECT count(*) FROM limits").fetchone() == (9,)
    step(connection, ONE, 8.0)
    assert set(connection.execute("SELECT unit FROM limits")) == {("concurrent",)}
