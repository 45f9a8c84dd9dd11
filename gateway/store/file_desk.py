"""What operators decide, in the file, without a running gateway: for the command line. Running ones follow within a second."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from gateway.accounts import Account, Balance
from gateway.changes import Change, Changed, Conflict, Entry, check
from gateway.errors import Failure, Kind, Whose
from gateway.store import entries, queries
from gateway.store.faults import as_failure, patiently
from gateway.store.tables import connect, prepare

T = TypeVar("T")
PATIENCE_S = 5.0


class FileDesk:
    """See ``gateway.store.Store`` for what each method promises. Only a change makes a file where there is none."""

    def __init__(self, path: str, durability: str) -> None:
        if path == ":memory:":
            raise Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, "A store in memory belongs to its gateway alone.")
        self._path = path
        self._durability = durability

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def change(self, changes: Sequence[Change]) -> list[Entry] | Conflict:
        """All of them or none."""
        check(changes)
        return await self._in_thread(lambda: self._change(changes))

    async def entries(self, since: int = 0) -> list[Entry]:
        """Those that changed after a revision."""
        return await self._look(lambda connection: entries.since(connection, since), [])

    async def changes(self, limit: int, before: int = 0) -> list[Changed]:
        """The log, newest first."""
        return await self._look(lambda connection: entries.log(connection, limit, before), [])

    async def read(self, accounts: Sequence[Account]) -> list[Balance]:
        """Balances, in the order asked for."""
        nothing = [Balance(account, 0, 0) for account in accounts]
        return await self._look(lambda connection: queries.balances(connection, accounts), nothing)

    def _change(self, changes: Sequence[Change]) -> list[Entry] | Conflict:
        with contextlib.closing(connect(self._path, self._durability, write=True)) as connection:
            prepare(connection)
        return entries.change(self._path, self._durability, changes)

    async def _look(self, question: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        def answer() -> T:
            if not Path(self._path).is_file():
                return nothing
            with contextlib.closing(connect(self._path, self._durability, write=True)) as connection:
                prepare(connection)
                return question(connection)

        return await self._in_thread(answer)

    async def _in_thread(self, asked: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(patiently, asked, PATIENCE_S)
        except sqlite3.Error as error:
            raise as_failure(error) from None
