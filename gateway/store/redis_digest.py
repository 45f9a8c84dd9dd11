"""What a page asks of the books in Redis again and again: sums by one dimension, and which accounts there are.

Both are read in slices of a millisecond and put together by SQLite in a thread (see ``digest``). Sums of an hour or a day are read
again when the number of its records has changed; which accounts there are is found by a scan, in the background, while somebody asks.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import orjson

from gateway.accounts import Account, account_of
from gateway.store import Which, queries, redis_queries
from gateway.store.apart import Apart
from gateway.store.digest import Digest, Parts, Report, Write
from gateway.store.keys import Keys
from gateway.store.redis_queries import literal

if TYPE_CHECKING:
    from gateway.store.redis_link import Link

log = logging.getLogger("gateway.store")

SLICE = 250
"""Fields or keys that are read in one go."""
DAY_CHARS = 10
FRESH_S = 10.0
"""How far behind the list of accounts may be before it is read again."""
FORGOTTEN_S = 3600.0
_ACCOUNTS = 'CREATE TABLE {} (scope TEXT, "window" TEXT, spent INTEGER, held INTEGER, PRIMARY KEY ("window", scope)) WITHOUT ROWID'
_STAGE = "INSERT OR REPLACE INTO staged SELECT {} FROM json_each(?)".format(  # noqa: S608 - numbers from this program
    ", ".join(f"json_extract(value, '$[{at}]')" for at in range(4))
)


class Digesting:
    """Digests of what is in Redis."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._parts = Apart("store-digest", Parts)
        self._one_at_a_time = asyncio.Lock()

    async def close(self) -> None:
        """Forget what was read."""
        await self._parts.close()

    async def digest(self, by: str, now: Sequence[str], before: Sequence[str]) -> Digest:
        """See ``Store.digest``."""
        async with self._one_at_a_time:
            await self._read_parts(by, [*before, *now])
            return await self._parts.ask(lambda parts: parts.digest(by, now, before))

    async def report(self, by: Sequence[str], periods: Mapping[str, Sequence[str]], most: int, write: Write) -> Report:
        """See ``Store.report``."""
        names = ",".join(by)
        async with self._one_at_a_time:
            await self._read_parts(names, [unit for units in periods.values() for unit in units])
            return await self._parts.ask(lambda parts: parts.report(names, periods, most, write))

    async def _read_parts(self, by: str, units: Sequence[str]) -> None:
        """Whatever has changed since it was read, of days of which there is something."""
        days = set(await redis_queries.days(self._link, self._keys))
        marked = await self._marked([unit for unit in units if unit[:DAY_CHARS] in days])
        for unit in await self._parts.ask(lambda parts: parts.wanted(by, marked)):
            await self._read(by, unit, marked[unit])

    async def _marked(self, units: Sequence[str]) -> dict[str, int]:
        """Each hour and day with the number of records that there are of it."""
        hours = [
            (unit, hour)
            for unit in units
            for hour in ([f"{unit}T{at:02d}" for at in range(24)] if len(unit) == DAY_CHARS else [unit])
        ]
        marked = dict.fromkeys(units, 0)
        counts = await redis_queries.cardinalities(self._link, [self._keys.starts(hour) for _, hour in hours])
        for (unit, _), count in zip(hours, counts, strict=True):
            marked[unit] += count
        return marked

    async def _read(self, by: str, unit: str, mark: int) -> None:
        rows: list[tuple[str, str]] = []
        async for dims, counts in self._link.commands.hscan_iter(self._keys.sums(unit), count=SLICE):
            rows.append((dims.decode(), counts.decode()))
            if len(rows) >= SLICE:
                some, rows = rows, []
                await self._parts.ask(lambda parts, some=some: parts.stage(some))  # type: ignore[misc]
        await self._parts.ask(lambda parts: parts.stage(rows))
        await self._parts.ask(lambda parts: parts.take(by, unit, mark))


class KnownAccounts:
    """Which accounts there are of the windows that somebody asks for."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._known = Apart("store-pages", _empty)
        self._read_at: dict[str, float] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Forget them."""
        for task in self._reading.values():
            task.cancel()
        await asyncio.gather(*self._reading.values(), return_exceptions=True)
        await self._known.close()

    async def page(self, which: Which) -> list[Account]:
        """As they were at the last look; the first one is waited for."""
        window = which.window
        read_at = self._read_at.get(window)
        if (read_at is None or time.monotonic() - read_at > FRESH_S) and window not in self._reading:
            self._reading[window] = task = asyncio.create_task(self._scan(window), name="store-accounts")
            task.add_done_callback(lambda task: self._scanned(window, task))
        if read_at is None:
            await asyncio.shield(self._reading[window])
        found = await self._known.ask(lambda connection: queries.accounts(connection, which))
        return [each.account for each in found]

    def _scanned(self, window: str, task: asyncio.Task[None]) -> None:
        del self._reading[window]
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.debug("the accounts of a window could not be read: %s", type(fault).__name__)

    async def _scan(self, window: str) -> None:
        """Read all of a window, then let it take the place of what was known."""
        began = time.monotonic()
        prefix = self._keys.account("")
        names: list[str] = []
        async for name in self._link.commands.scan_iter(f"{literal(prefix)}*/{literal(window)}", count=4 * SLICE):
            names.append(name.decode().removeprefix(prefix))
            if len(names) >= SLICE:
                some, names = names, []
                await self._stage(some)
        await self._stage(names)
        old = [each for each, at in self._read_at.items() if began - at > FORGOTTEN_S]
        await self._known.ask(lambda connection: _replace(connection, window, old))
        for each in old:
            del self._read_at[each]
        self._read_at[window] = began

    async def _stage(self, names: Sequence[str]) -> None:
        if not names:
            return
        found = await redis_queries.balances(self._link, [self._keys.account(name) for name in names])
        accounts = map(account_of, names)
        rows = [(each.scope, each.window, *pair) for each, pair in zip(accounts, found, strict=True)]
        text = orjson.dumps(rows).decode()
        await self._known.ask(lambda connection: connection.execute(_STAGE, (text,)))


def _replace(connection: sqlite3.Connection, window: str, old: Sequence[str]) -> None:
    connection.execute("BEGIN")
    gone = orjson.dumps([*old, window]).decode()
    connection.execute('DELETE FROM accounts WHERE "window" IN (SELECT value FROM json_each(?))', (gone,))
    connection.execute('INSERT INTO accounts SELECT * FROM staged WHERE "window" = ?', (window,))
    connection.execute('DELETE FROM staged WHERE "window" = ?', (window,))
    connection.execute("COMMIT")


def _empty() -> sqlite3.Connection:
    connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for table in ("accounts", "staged"):
        connection.execute(_ACCOUNTS.format(table))
    return connection
