"""The one thread of a process that writes: takes what was asked, books it in one transaction, hands the answers back.

Owns the thread, the connection it writes with and the moments of upkeep; knows no event loop (answers go to a callable).
Laws: what is asked in one batch is applied in that order, and so is what is asked of one call; it is answered only after COMMIT. Calls
wait for room, and nobody for a settlement: batches of nothing else come after what was asked later, a part at a time, and every turn
books one. A batch that fails is taken apart, so that one operation takes no other with it; whatever was asked before ``stop``
is answered before the thread ends.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from gateway.accounts import Notice
from gateway.errors import Failure
from gateway.store import upkeep
from gateway.store.books import Operation, Settle
from gateway.store.faults import as_failure, is_lock, patiently
from gateway.store.kept import Kept
from gateway.store.page import Page
from gateway.store.pages import load, save
from gateway.store.tables import roll_back

log = logging.getLogger("gateway.store")

F = TypeVar("F")

BATCH_OPERATIONS = 256
PART_OPERATIONS = 64
"""Settlements of one transaction, some 2 ms: a call that asks for room meanwhile waits no longer than that."""
PATIENCE_S = 1.0
"""How long a batch waits for another process to finish writing; that one needs milliseconds unless something is wrong."""
MORE_SOON_S = 0.02
"""Between two steps of upkeep when there is a backlog: calls come in between."""


Asked = tuple[Operation, F]
"""One operation, and a token: whatever its asker wants to see again beside the answer. Plain, as two of them are made for each call:
a named tuple costs 2,500 instructions more.
"""
Answer = tuple[F, object, Exception | None]
"""The token, what was answered, and None when the operation was carried out; otherwise nothing of it was, and why."""


class Writer(threading.Thread, Generic[F]):
    """Takes batches with ``ask``; calls ``deliver`` with the answers and ``tell`` with thresholds that were crossed, from its own
    thread.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        tenure: upkeep.Tenure,
        clock: Callable[[], float],
        deliver: Callable[[list[Answer[F]]], None],
        tell: Callable[[Sequence[Notice]], None],
    ) -> None:
        super().__init__(name="store-write", daemon=True)  # daemon: a process without close() must still be able to end
        self._connection = connection
        self._tenure = tenure
        self._clock = clock
        self._deliver = deliver
        self._tell = tell
        self._inbox: SimpleQueue[list[Asked[F]] | None] = SimpleQueue()
        self._behind: deque[Asked[F]] = deque()
        self._calls_behind: set[str] = set()
        self._kept = Kept()
        self._next_upkeep = 0.0
        self._stopping = False
        self.idle = threading.Event()
        """Set while nothing that was asked is unanswered."""

    def ask(self, batch: list[Asked[F]]) -> None:
        """Hand a batch over. Never blocks."""
        self.idle.clear()
        self._inbox.put(batch)

    def stop(self) -> None:
        """End after everything that was asked before; ``join`` waits for it."""
        self._inbox.put(None)

    def run(self) -> None:
        """The life of the thread."""
        while self._behind or not self._stopping:
            batch = self._take()
            if time.monotonic() >= self._next_upkeep:
                self._upkeep()
            if batch:
                self._deliver(self._answers(batch))
            if self._behind:
                self._deliver(self._answers(self._part()))
            self._rest()
        try:
            patiently(lambda: upkeep.end_tenure(self._connection, self._tenure), PATIENCE_S)
        except sqlite3.Error as error:
            log.warning("the store closed without giving its lease back: %s", as_failure(error).message)
        self._connection.close()

    def _rest(self) -> None:
        """Say that all is answered; looked at twice, since a batch may come in between the look and the word."""
        if self._inbox.empty() and not self._behind:
            self.idle.set()
            if not self._inbox.empty():
                self.idle.clear()

    def _take(self) -> list[Asked[F]]:
        """All that somebody waits for, up to a batch; blocks until there is something to do or upkeep is due."""
        batch: list[Asked[F]] = []
        timeout: float | None = max(0.0, self._next_upkeep - time.monotonic())
        try:
            while len(batch) < BATCH_OPERATIONS and not self._stopping:
                more = self._inbox.get(block=not (batch or self._behind), timeout=timeout)
                if more is None:
                    self._stopping = True
                elif self._can_wait(more):
                    self._behind += more
                    self._calls_behind.update([operation.call_id for operation, _ in more])
                else:
                    batch += more
        except Empty:
            pass
        return batch

    def _can_wait(self, batch: list[Asked[F]]) -> bool:
        """Nobody waits for a settlement; and nothing may come before what was asked of the same call."""
        if all(isinstance(operation, Settle) for operation, _ in batch):
            return True
        return not self._calls_behind.isdisjoint([operation.call_id for operation, _ in batch])

    def _part(self) -> list[Asked[F]]:
        """The first of what can wait."""
        part = [self._behind.popleft() for _ in range(min(len(self._behind), PART_OPERATIONS))]
        if not self._behind:
            self._calls_behind.clear()
        return part

    def _answers(self, batch: list[Asked[F]]) -> list[Answer[F]]:
        """What became of each operation. After a failure each is tried alone, unless all would wait for the same lock."""
        try:
            return patiently(lambda: self._book(batch), PATIENCE_S)
        except Exception as error:
            log.warning("a batch of %d operations failed: %s: %s", len(batch), type(error).__name__, error)
            if len(batch) > 1 and not is_lock(error):
                return [answer for asked in batch for answer in self._answers([asked])]
            return [(token, None, _told(error)) for _, token in batch]

    def _book(self, batch: list[Asked[F]]) -> list[Answer[F]]:
        """One transaction."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._kept.look(connection)
            operations = [operation for operation, _ in batch]
            page = load(connection, operations, self._clock(), self._tenure.owner, self._kept)
            answers = [_answer(operation, token, page) for operation, token in batch]
            save(connection, page)
            connection.execute("COMMIT")
        except BaseException:
            self._kept.forget()
            roll_back(connection)
            raise
        if page.crossed:
            self._tell(page.crossed)
        return answers

    def _upkeep(self) -> None:
        """Three times per lease, so that two may fail. A lost call is never silent."""
        self._kept.forget()
        wait_s = self._tenure.lease_s / 3
        try:
            found = patiently(lambda: upkeep.step(self._connection, self._tenure, self._clock()), PATIENCE_S)
            for hold in found.lost:
                log.warning(
                    "call %s was lost: its hold of %d nano-dollars is charged", hold.call_id, hold.amount_nanousd
                )
            if found.untold:
                self._tell(found.untold)
            wait_s = MORE_SOON_S if found.more else wait_s
        except Exception as error:
            log.exception("the store could not renew its lease: %s", type(error).__name__)
        self._next_upkeep = time.monotonic() + wait_s


def _answer(operation: Operation, token: F, page: Page) -> Answer[F]:
    """An operation that fails has changed nothing on the page (law of ``books``)."""
    try:
        return token, operation.apply(page), None
    except (Failure, ValueError) as error:
        return token, None, error


def _told(error: Exception) -> Exception:
    return as_failure(error) if isinstance(error, sqlite3.Error) else error
