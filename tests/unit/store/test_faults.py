"""SQLite's errors in the words of the house, and the patience with locks."""

from __future__ import annotations

import sqlite3

import pytest

from gateway.errors import Kind, Whose
from gateway.store.faults import FAULTS, as_failure, is_lock, patiently


def error(name: str) -> sqlite3.OperationalError:
    made = sqlite3.OperationalError("unable to open /home/somebody/secret.db")
    made.sqlite_errorname = name
    return made


@pytest.mark.parametrize(
    "name", [name for name, _, _ in FAULTS] + ["SQLITE_IOERR_FSYNC", "SQLITE_READONLY_DIRECTORY", "SQLITE_NOMEM"]
)
def test_every_error_is_a_failure_of_ours_without_a_path(name):
    """The message may go to a client."""
    failure = as_failure(error(name))
    assert (failure.kind, failure.whose) == (Kind.STORE_UNAVAILABLE, Whose.OURS)
    assert "secret" not in failure.message
    assert failure.message.startswith("The store ")


def test_an_error_without_a_name_is_a_failure_too():
    """Older ways of raising carry none."""
    assert as_failure(sqlite3.ProgrammingError("closed")).kind is Kind.STORE_UNAVAILABLE


@pytest.mark.parametrize(("name", "again"), [("SQLITE_BUSY", True), ("SQLITE_FULL", True), ("SQLITE_CORRUPT", False)])
def test_trying_again_is_advised_where_it_may_help(name, again):
    """A lock goes away, a damaged file does not mend."""
    assert as_failure(error(name)).may_retry is again


def test_a_lock_is_waited_for():
    """Until it is gone."""
    errors = [error("SQLITE_BUSY"), error("SQLITE_BUSY_SNAPSHOT")]

    def action() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert patiently(action, 10.0) == "done"


def test_patience_ends():
    """After the time given the lock is an error like any other."""

    def action() -> None:
        raise error("SQLITE_BUSY")

    with pytest.raises(sqlite3.OperationalError):
        patiently(action, 0.0)


def test_other_errors_are_not_waited_for():
    """They would not go away."""
    attempts = []

    def action() -> None:
        attempts.append(1)
        raise error("SQLITE_FULL")

    with pytest.raises(sqlite3.OperationalError):
        patiently(action, 10.0)
    assert (len(attempts), is_lock(error("SQLITE_FULL")), is_lock(ValueError())) == (1, False, False)
