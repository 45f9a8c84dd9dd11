"""The embedded store: one SQLite file, shared by the processes of one machine.

Owns the hand-over between the event loop and the two threads that touch the file: everything asked in one tick of the loop
goes to the writer as one batch, with one wake-up there and one back; reading has a connection and a thread of its own and
never waits for writers. What an operation means is in ``books``, how it is written in ``pages``.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from gateway.accounts import Account, Balance, Claim, Hold, Notice, Use
from gateway.call import Receipt
from gateway.changes import Change, Changed, Conflict, Entry, check
from gateway.errors import Failure, Kind, Refusal, Whose
from gateway.selection import Page, Selection
from gateway.store import Settlement, Spend, Which, entries, listing, queries, sums
from gateway.store.answers import closed, tell_nobody
from gateway.store.apart import Apart
from gateway.store.books import Count, Extend, Heard, Operation, Release, Reserve, Settle
from gateway.store.digest import Digest, Parts, Report, Write
from gateway.store.faults import as_failure, patiently
from gateway.store.rollups import Rollups
from gateway.store.tables import connect, keep_book, move_log, prepare
from gateway.store.upkeep import Tenure, begin_tenure
from gateway.store.writer import Answer, Asked, Writer
from gateway.tallies import Tally

log = logging.getLogger("gateway.store")

T = TypeVar("T")
Waiting = asyncio.Future[Any]

OPEN_PATIENCE_S = 5.0
"""How long opening waits for other processes that open, upgrade or write."""
MAKE_WAY_AFTER_S = 0.002
MAKE_WAY_S = 0.002
MAKE_WAY_SELDOM_S = 0.1
"""A busy event loop starves other threads: it gives the GIL up for each system call and has it back before they wake
(measured on two cores: 33 s for one batch). So when a batch is unanswered after the first time, the loop stands still
until it is answered, at most for the second; it does so ever more seldom while it is a disk that is slow, or a lock.
"""
CHECKPOINT_S = 1.0
"""How often what was written is moved from the log into the file, by the reading thread: it ends with an fsync, and where the
writer itself did that every thousand pages, one call in a hundred waited 5 ms for it (measured at 400 calls a second).
"""


class SqliteStore:
    """See ``gateway.store.Store`` for what each method promises.

    ``path`` may be ``:memory:``: the books then live in a temporary file that is gone when the store is closed.
    ``durability`` is normal (survives the death of the process) or full (also of the power). ``owner`` names this process
    among those that share the file and run at the same time. ``rollups`` says how sums of spend are kept. ``clock`` gives Unix
    seconds.
    """

    def __init__(
        self,
        path: str,
        *,
        lease_s: float,
        durability: str,
        retention_s: float,
        owner: str,
        rollups: Rollups | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tell: Callable[[Sequence[Notice]], None] = tell_nobody
        self._path = self._file = path
        self._durability = durability
        self._clock = clock
        self._tenure = Tenure(
            f"{owner}#{secrets.token_hex(6)}",
            owner,
            lease_s,
            retention_s,
            rollups if rollups is not None else Rollups(),
        )
        self._asked: list[Asked[Waiting]] = []
        self._writer: Writer[Waiting] | None = None
        self._reader: sqlite3.Connection | None = None
        self._reading: ThreadPoolExecutor | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pages = Apart("store-pages", self._open_pages)
        self._parts = Apart("store-digest", lambda: Parts(self._file))
        self._digesting = asyncio.Lock()
        self._making_way = False
        self._written = False
        self._checkpoint: asyncio.TimerHandle | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def owed(self) -> int:
        """None: what this store takes is in its books."""
        return 0

    async def open(self) -> None:
        """Create or upgrade the file, take over from a dead process of this name, start to write and to renew."""
        self._loop = asyncio.get_running_loop()
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="store-read")
        try:
            connection = await self._loop.run_in_executor(self._reading, self._open_file)
        except BaseException as error:
            self._reading.shutdown(wait=False)
            self._reading = None
            if isinstance(error, sqlite3.Error):
                raise as_failure(error) from None
            raise
        self._writer = Writer(connection, self._tenure, self._clock, self._answers, self._crossed)
        self._writer.start()
        self._plan_checkpoint()

    async def close(self) -> None:
        """Answer all that was asked, give the lease back, close the file. A second time changes nothing."""
        writer, reading, reader = self._writer, self._reading, self._reader
        if writer is None or reading is None or reader is None:
            return
        self._hand_over()
        if self._checkpoint is not None:
            self._checkpoint.cancel()
        self._writer = self._reading = self._reader = None
        writer.stop()
        await asyncio.gather(self._pages.close(), self._parts.close())
        await asyncio.to_thread(writer.join)
        await asyncio.to_thread(reading.shutdown)
        reader.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _open_file(self) -> sqlite3.Connection:
        path = self._path
        if path == ":memory:":
            self._folder = tempfile.TemporaryDirectory(prefix="tollgate-")
            path = str(Path(self._folder.name) / "books.db")
        self._file = path
        connection = patiently(lambda: connect(path, self._durability, write=True), OPEN_PATIENCE_S)
        try:
            patiently(lambda: prepare(connection), OPEN_PATIENCE_S)
            patiently(lambda: begin_tenure(connection, self._tenure), OPEN_PATIENCE_S)
            self._reader = patiently(lambda: connect(path, self._durability, write=False), OPEN_PATIENCE_S)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_pages(self) -> sqlite3.Connection:
        """With room for ten thousand accounts of each window: they are read here and there (9 ms; 6 with it)."""
        connection = connect(self._file, self._durability, write=False)
        connection.execute("PRAGMA cache_size=-16000")
        return connection

    # -- writing ------------------------------------------------------------------------------------------------------

    async def reserve(
        self, call_id: str, claims: Sequence[Claim], mark_nanousd: int | None = None, uses: Sequence[Use] = ()
    ) -> Hold | Refusal:
        """All claims and uses or none."""
        answer: Hold | Refusal = await self._ask(Reserve(call_id, tuple(claims), mark_nanousd, tuple(uses)))
        return answer

    async def extend(self, call_id: str, claims: Sequence[Claim], mark_nanousd: int | None = None) -> Hold | Refusal:
        """Raise the hold of a call."""
        answer: Hold | Refusal = await self._ask(Extend(call_id, tuple(claims), mark_nanousd))
        return answer

    async def settle(self, settlement: Settlement) -> Receipt:
        """Book the cost, drop the hold, keep the record."""
        receipt: Receipt = await self._ask(Settle(settlement))
        return receipt

    async def settle_all(self, settlements: Sequence[Settlement]) -> list[Receipt | Failure]:
        """The same for several calls, without a task for each."""
        if self._writer is None:
            return [closed() for _ in settlements]
        waiting = [self._ask(Settle(settlement)) for settlement in settlements]
        found: list[Receipt | Failure] = []
        for each in waiting:
            try:
                found.append(await each)
            except Failure as failure:
                found.append(failure)
            except Exception:
                log.exception("a settlement cannot be booked")
                found.append(Failure(Kind.INTERNAL, Whose.OURS, "A settlement cannot be booked."))
        return found

    async def release(self, call_id: str) -> None:
        """Drop the hold, charge nothing."""
        await self._ask(Release(call_id))

    async def tally(self, tallies: Sequence[Tally]) -> None:
        """Add to how well targets are met."""
        await self._ask(Count(tuple(tallies)))

    def _ask(self, operation: Operation) -> Waiting:
        """Put an operation into the batch of this tick. The first one of a tick arranges that the batch goes off."""
        loop = self._loop
        if self._writer is None or loop is None:
            raise closed()
        waiting: Waiting = loop.create_future()
        self._asked.append((operation, waiting))
        if len(self._asked) == 1:
            loop.call_soon(self._hand_over)
        return waiting

    def _hand_over(self) -> None:
        if not self._asked or self._writer is None or self._loop is None:
            return
        batch, self._asked = self._asked, []
        self._written = True
        self._writer.ask(batch)
        if not self._making_way:
            self._making_way = True
            self._loop.call_later(MAKE_WAY_AFTER_S, self._make_way, MAKE_WAY_AFTER_S)

    def _plan_checkpoint(self) -> None:
        """Now if something was written, and again in a while."""
        if self._loop is None or self._reading is None or self._reader is None:
            return
        if self._written:
            self._written = False
            self._reading.submit(move_log, self._reader)
        self._checkpoint = self._loop.call_later(CHECKPOINT_S, self._plan_checkpoint)

    def _make_way(self, after_s: float) -> None:
        """Let the writer have the GIL, if it has not come to its work since ``after_s`` (see ``MAKE_WAY_AFTER_S``)."""
        if self._writer is None or self._loop is None or self._writer.idle.wait(MAKE_WAY_S):
            self._making_way = False
            return
        later_s = min(2 * after_s, MAKE_WAY_SELDOM_S)
        self._loop.call_later(later_s, self._make_way, later_s)

    def _answers(self, answers: list[Answer[Waiting]]) -> None:
        """Called by the writer: one wake-up of the loop for the whole batch. A loop that is gone has nobody waiting."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, answers)

    def _crossed(self, notices: Sequence[Notice]) -> None:
        """Called by the writer."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell_of, tuple(notices))

    def _tell_of(self, notices: tuple[Notice, ...]) -> None:
        """Told first and marked afterwards: a process that dies in between leaves them to another one."""
        self.tell(notices)
        if self._writer is not None:
            self._ask(Heard(notices))

    # -- reading ------------------------------------------------------------------------------------------------------

    async def read(self, accounts: Sequence[Account]) -> list[Balance]:
        """Balances, in the order asked for."""
        return await self._look(lambda connection: queries.balances(connection, accounts))

    async def spend(self, since: str, until: str) -> list[Spend]:
        """Sums of hours or days."""
        return await self._look(lambda connection: sums.spend(connection, since, until))

    async def digest(self, by: str, now: Sequence[str], before: Sequence[str]) -> Digest:
        """Sums by one dimension."""
        async with self._digesting:
            await self._read_parts(by, [*before, *now])
            return await self._parts.ask(lambda parts: parts.digest(by, now, before))

    async def report(self, by: Sequence[str], periods: Mapping[str, Sequence[str]], most: int, write: Write) -> Report:
        """Sums by some dimensions."""
        names = ",".join(by)
        async with self._digesting:
            await self._read_parts(names, [unit for units in periods.values() for unit in units])
            return await self._parts.ask(lambda parts: parts.report(names, periods, most, write))

    async def _read_parts(self, by: str, units: Sequence[str]) -> None:
        """Whatever has changed since it was read."""
        marked = dict.fromkeys(units, 0)
        await self._parts.ask(Parts.touched)
        for unit in await self._parts.ask(lambda parts: parts.wanted(by, marked)):
            await self._parts.ask(lambda parts, unit=unit: parts.read(by, unit))  # type: ignore[misc]

    async def accounts(self, which: Which) -> list[Balance]:
        """A page of the accounts of a window."""
        return await self._pages.ask(lambda connection: queries.accounts(connection, which))

    async def find(self, call_id: str) -> dict[str, Any] | None:
        """One record by call id."""
        return await self._look(lambda connection: queries.find(connection, call_id))

    async def awaiting(self, provider: str, key: str) -> dict[str, Any] | None:
        """The record of the call that awaits what the provider calls by this name."""
        return await self._look(lambda connection: queries.awaiting(connection, provider, key))

    async def recent(self, limit: int, before: str = "", correlation_id: str = "") -> list[dict[str, Any]]:
        """Records, newest first."""
        return await self._look(lambda connection: queries.recent(connection, limit, before, correlation_id))

    async def page(self, wanted: Selection, limit: int, after: str = "") -> Page:
        """Records by what stands in them, newest first."""
        return await self._look(lambda connection: listing.page(connection, wanted, limit, after))

    async def tallies(self, since: int, until: int) -> list[Tally]:
        """How well targets were met in between."""
        return await self._look(lambda connection: queries.tallies(connection, since, until))

    async def holds(self) -> int:
        """How many calls hold something at the moment."""
        return await self._look(queries.holds)

    async def check(self) -> int:
        """Accounts whose balance is not the sum of its records and holds, and sums of spend that are not that of their
        records: 0 when the books are right.
        """
        return len(await self._look(queries.differences)) + len(await self._look(sums.differences))

    async def keep_book(self, version: str, pack: Callable[[], bytes]) -> None:
        """Keep a price book for audits."""
        path, packed = self._file, cache(pack)  # tried again while the file is locked, and packed once
        await self._in_thread(lambda: keep_book(path, version, packed))

    async def change(self, changes: Sequence[Change]) -> list[Entry] | Conflict:
        """What an operator decided: all of it or nothing."""
        check(changes)
        path = self._file
        return await self._in_thread(lambda: entries.change(path, self._durability, changes))

    async def revision(self) -> int:
        """Of the newest change."""
        return await self._look(entries.revision)

    async def entries(self, since: int = 0) -> list[Entry]:
        """Those that changed after a revision."""
        return await self._look(lambda connection: entries.since(connection, since))

    async def changes(self, limit: int, before: int = 0) -> list[Changed]:
        """The log of changes, newest first."""
        return await self._look(lambda connection: entries.log(connection, limit, before))

    async def _look(self, question: Callable[[sqlite3.Connection], T]) -> T:
        reader = self._reader
        if reader is None:
            raise closed()
        return await self._in_thread(lambda: question(reader))

    async def _in_thread(self, asked: Callable[[], T]) -> T:
        """In the thread that reads; it is asked again while the file is locked."""
        reading, loop = self._reading, self._loop
        if reading is None or loop is None:
            raise closed()
        try:
            return await loop.run_in_executor(reading, lambda: patiently(asked, OPEN_PATIENCE_S))
        except sqlite3.Error as error:
            raise as_failure(error) from None


def _resolve(answers: list[Answer[Waiting]]) -> None:
    for waiting, value, error in answers:
        if waiting.done():  # its asker has gone; what it asked for was carried out all the same
            continue
        if error is None:
            waiting.set_result(value)
        else:
            waiting.set_exception(error)
