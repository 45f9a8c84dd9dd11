"""What a process keeps of its bookings beside the books in Redis."""

from __future__ import annotations

from pathlib import Path

from gateway.accounts import Account
from gateway.store import Settlement
from gateway.store.journal import Journal


def test_a_journal_that_begins_anew_forgets_accounts_whose_windows_are_over(tmp_path: Path) -> None:
    """A process that runs for years has had many days; one total is never over."""
    journal = Journal(tmp_path, sync=False, large_bytes=2_000)
    journal.open(0.0)
    for year in (2020, 2999):
        for number in range(10):
            accounts = (Account("user:ann", f"day:{year}-01-0{number % 9 + 1}"), Account("global", "total"))
            journal.owe(
                [Settlement(f"{year}-{number}", 5, "completed", accounts, b"{}", f"{year}-01-01T00:00:00.000Z")]
            )
            journal.paid([f"{year}-{number}"], "run")
    assert journal.own.spent["global/total"] == 100
    assert {name[:13] for name in journal.own.spent if name != "global/total"} == {"user:ann/day:"}
    assert not [name for name in journal.own.spent if ":2020-" in name]
    assert journal.own.until.keys() == journal.own.spent.keys()
    journal.close()
