"""The one thread that writes: batches, failures, upkeep, the end."""

from __future__ import annotations

import logging
import sqlite3
from queue import SimpleQueue
from typing import Any, NamedTuple

import pytest

from gateway.accounts import Account, Claim, Hold
from gateway.call import Receipt
from gateway.errors import Failure, Kind
from gateway.store import Settlement, queries, writer
from gateway.store.books import Release, Reserve, Settle
from gateway.store.tables import connect, prepare
from gateway.store.upkeep import Tenure
from gateway.store.writer import Writer

A = Account("a", "day")


class Answer(NamedTuple):
    """By name."""

    token: int
    value: Any
    error: Exception | None


class Bench:
    """A writer on a file, and a place for its answers."""

    def __init__(self, path: str, lease_s: float = 600.0, name: str = "one") -> None:
        self.path = path
        self.answers: SimpleQueue[list] = SimpleQueue()
        self.connection = connect(path, "normal", write=True)
        prepare(self.connection)
        self.writer = Writer(
            self.connection, Tenure(f"{name}#1", name, lease_s, 1e9), lambda: 1.0, self.answers.put, lambda told: None
        )

    def ask(self, *operations):
        self.writer.ask([(operation, index) for index, operation in enumerate(operations)])

    def answer(self):
        return [Answer(*each) for each in self.answers.get(timeout=30)]


@pytest.fixture
def bench(tmp_path):
    made = Bench(str(tmp_path / "books.db"))
    yield made
    if made.writer.is_alive():
        made.writer.stop()
        made.writer.join(30)
    made.connection.close()


def reserve(call_id: str, amount: int = 1) -> Reserve:
    return Reserve(call_id, (Claim(A, amount),))


def settle(call_id: str, record: bytes = b"{}") -> Settle:
    return Settle(Settlement(call_id, 1, "completed", (A,), record, ""))


def test_what_waits_together_is_one_transaction(bench):
    """Asked before the thread runs: one batch, one set of answers, in order."""
    for number in range(5):
        bench.ask(reserve(f"c{number}"))
    bench.writer.start()
    answers = bench.answer()
    assert [answer.value.call_id for answer in answers] == [f"c{number}" for number in range(5)]
    assert bench.answers.empty()


def test_a_call_that_asks_for_room_does_not_wait_for_settlements(bench):
    """They were asked first, and come a part at a time."""
    bench.ask(*[settle(f"s{number}") for number in range(writer.PART_OPERATIONS + 1)])
    bench.ask(reserve("a"))
    bench.writer.start()
    assert isinstance(bench.answer()[0].value, Hold)
    assert [len(bench.answer()) for _ in range(2)] == [writer.PART_OPERATIONS, 1]


def test_settlements_come_between_calls_that_ask_without_end(bench, monkeypatch):
    """A part of them in every turn, and in their order."""
    monkeypatch.setattr(writer, "PART_OPERATIONS", 1)
    monkeypatch.setattr(writer, "BATCH_OPERATIONS", 1)
    bench.ask(settle("s"), settle("t"))
    for call_id in "abc":
        bench.ask(reserve(call_id))
    bench.writer.start()
    assert [bench.answer()[0].value.call_id for _ in range(5)] == ["a", "s", "b", "t", "c"]


def test_nothing_comes_before_what_was_asked_of_the_same_call(bench):
    """A hold that is asked for after the settlement comes too late, and so does one that is given back."""
    bench.ask(reserve("c", 7))
    bench.ask(settle("c"))
    bench.ask(reserve("c"))
    bench.ask(Release("c"))
    bench.ask(reserve("d"))
    bench.writer.start()
    first, late = bench.answer(), bench.answer()
    assert [answer.value.call_id for answer in first] == ["c", "d"]
    assert [type(answer.error or answer.value) for answer in late] == [Receipt, Failure, type(None)]
    assert [(found.spent_nanousd, found.held_nanousd) for found in queries.balances(bench.connection, [A])] == [(1, 1)]


def test_an_operation_that_cannot_be_written_fails_alone(bench, caplog):
    """A record that is no JSON breaks the batch; each of the others is booked by itself."""
    bench.writer.start()
    bench.ask(reserve("a"), settle("b", b"no json"), settle("c", b"\xff"), settle("d"))
    good, bad, worse, last = bench.answer()
    assert isinstance(good.value, Hold)
    assert isinstance(bad.error, Failure)
    assert isinstance(worse.error, UnicodeDecodeError)
    assert last.value.cost_nanousd == 1
    assert "failed" in caplog.text


def test_a_full_disk_fails_closed_and_is_over_when_there_is_room_again(bench):
    """Nothing half booked, nothing granted that is not written."""
    pages = bench.connection.execute("PRAGMA page_count").fetchone()[0]
    bench.connection.execute(f"PRAGMA max_page_count={pages}")
    bench.writer.start()
    big = b'{"x": "' + b"x" * 50_000 + b'"}'
    bench.ask(settle("a", big), settle("b", big))
    assert [answer.error.kind for answer in bench.answer()] == [Kind.STORE_UNAVAILABLE] * 2
    bench.ask(settle("c", big))
    (answer,) = bench.answer()
    assert "space" in answer.error.message
    bench.connection.execute("PRAGMA max_page_count=1000000")
    bench.ask(settle("a", big))
    assert bench.answer()[0].error is None


def test_a_lock_is_waited_for_and_then_a_failure(bench, monkeypatch):
    """Of every operation in the batch at once, and only until the lock is gone."""
    monkeypatch.setattr(writer, "PATIENCE_S", 0.02)
    other = sqlite3.connect(bench.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    bench.writer.start()
    bench.ask(reserve("a"), reserve("b"))
    answers = bench.answer()
    assert [(answer.error.kind, answer.error.may_retry) for answer in answers] == [(Kind.STORE_UNAVAILABLE, True)] * 2
    assert answers[0].error is not answers[1].error
    other.execute("ROLLBACK")
    other.close()
    bench.ask(reserve("a"))
    assert isinstance(bench.answer()[0].value, Hold)


def test_a_lost_call_is_never_silent(bench, caplog):
    """One line for each, with what it was charged."""
    first = Bench(bench.path, name="two")
    first.writer.start()
    first.ask(reserve("c", 7))
    first.answer()
    first.writer.stop()
    first.writer.join(30)
    with caplog.at_level(logging.WARNING, "gateway.store"):
        bench.writer.start()
        bench.ask(reserve("d"))
        bench.answer()
    assert "call c was lost: its hold of 7 nano-dollars is charged" in caplog.text


def test_upkeep_that_fails_is_told_and_tried_again(bench, monkeypatch, caplog):
    """The thread lives on."""
    real, attempts = writer.upkeep.step, SimpleQueue()

    def step(*arguments):
        attempts.put(1)
        if attempts.qsize() == 1:
            raise sqlite3.OperationalError("disk I/O error")
        return real(*arguments)

    monkeypatch.setattr(writer.upkeep, "step", step)
    quick = Bench(bench.path, lease_s=0.03)
    quick.writer.start()
    quick.ask(reserve("c"))
    assert isinstance(quick.answer()[0].value, Hold)
    for _ in range(2):
        attempts.get(timeout=30)
    quick.writer.stop()
    quick.writer.join(30)
    assert "could not renew its lease" in caplog.text


def test_stopping_answers_first_and_gives_the_lease_back(bench):
    """What was asked before is done; then nobody owns anything."""
    bench.writer.start()
    bench.ask(reserve("a"))
    bench.ask(*[settle(f"s{number}") for number in range(2 * writer.PART_OPERATIONS)])
    bench.writer.stop()
    bench.writer.join(30)
    assert isinstance(bench.answer()[0].value, Hold)
    assert [len(bench.answer()) for _ in range(2)] == [writer.PART_OPERATIONS] * 2
    assert bench.writer.idle.is_set()
    reader = connect(bench.path, "normal", write=False)
    assert reader.execute("SELECT count(*) FROM owners").fetchone() == (0,)
    assert queries.holds(reader) == 1
    reader.close()


def test_a_batch_that_comes_as_the_writer_comes_to_rest_is_not_taken_for_answered(bench):
    """It may come between the look into the inbox and the word that all is done."""

    class Inbox:
        looks = iter((True, False))

        def empty(self) -> bool:
            return next(self.looks)

    bench.writer._inbox = Inbox()
    bench.writer._rest()
    assert not bench.writer.idle.is_set()
    bench.writer._inbox = SimpleQueue()
    bench.writer._behind.append((settle("a"), 0))
    bench.writer._rest()
    assert not bench.writer.idle.is_set(), "what comes later is not answered yet"


def test_a_lease_that_cannot_be_given_back_runs_out_by_itself(bench, monkeypatch, caplog):
    """Somebody else writes without end: the store closes all the same, and says so."""
    monkeypatch.setattr(writer, "PATIENCE_S", 0.02)
    bench.writer.start()
    bench.ask(reserve("a"))
    bench.answer()
    other = sqlite3.connect(bench.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    bench.writer.stop()
    bench.writer.join(30)
    other.close()
    assert "without giving its lease back" in caplog.text


def test_a_batch_that_could_not_be_written_leaves_nothing_in_mind(bench):
    """The next batch meets the balances of the file: a hold that was never written takes no room."""
    limited = Claim(A, 8, 10)
    bench.writer.start()
    bench.ask(Reserve("a", (limited,)), settle("b", b"no json"))
    bench.answer()
    bench.ask(Release("a"))
    bench.answer()
    bench.ask(Reserve("c", (limited,)), settle("d", b"no json"))
    bench.answer()
    assert [found.held_nanousd for found in queries.balances(bench.connection, [A])] == [8]
    bench.ask(Reserve("e", (Claim(A, 2, 10),)))
    [answer] = bench.answer()
    assert isinstance(answer.value, Hold)


def test_what_upkeep_writes_is_not_kept_from_before(bench):
    """It writes with the same connection, which looks to nobody like another one."""
    bench.writer.start()
    bench.ask(reserve("a"))
    bench.answer()
    dead = Bench(bench.path, name="two")
    dead.writer.start()
    dead.ask(reserve("c", 7))
    dead.answer()
    dead.writer.stop()
    dead.writer.join(30)
    bench.ask(reserve("b"))
    bench.answer()
    bench.writer._next_upkeep = 0.0  # it charges the lost call, and then the batch comes
    bench.ask(settle("a"))
    bench.answer()
    [balance] = queries.balances(bench.connection, [A])
    assert (balance.spent_nanousd, balance.held_nanousd) == (8, 1)
    assert queries.differences(bench.connection) == []
