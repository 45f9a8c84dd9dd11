"""A thread of its own for questions that take long, so that short ones are not queued behind them.

Owns the thread and what is asked there; both come to be with the first question. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

from gateway.store.answers import closed
from gateway.store.faults import as_failure, patiently

PATIENCE_S = 5.0


class Interruptible(Protocol):
    """A SQLite connection, or what is made of one."""

    def interrupt(self) -> None:
        """End what runs, with an error there."""

    def close(self) -> None:
        """Nothing is asked any more."""


A = TypeVar("A", bound=Interruptible)
T = TypeVar("T")


class Apart(Generic[A]):
    """``make`` is called in the thread, when something is asked for the first time."""

    def __init__(self, name: str, make: Callable[[], A]) -> None:
        self._name = name
        self._make = make
        self._thread: ThreadPoolExecutor | None = None
        self._asked: A | None = None
        self._is_closed = False

    async def ask(self, question: Callable[[A], T]) -> T:
        """The answer; Failure(STORE_UNAVAILABLE) where the file cannot be read, or all is closed."""
        if self._is_closed:
            raise closed()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, question)
        except sqlite3.Error as error:
            raise as_failure(error) from None

    async def close(self) -> None:
        """Whatever still runs is ended. A second time changes nothing."""
        self._is_closed = True
        if self._thread is None:
            return
        if self._asked is not None:
            self._asked.interrupt()
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        if self._asked is not None:
            await asyncio.to_thread(self._asked.close)  # what was read may be a large file
        self._thread = self._asked = None

    def _answer(self, question: Callable[[A], T]) -> T:
        if self._is_closed:
            raise closed()
        if self._asked is None:
            self._asked = patiently(self._make, PATIENCE_S)
        asked = self._asked
        return patiently(lambda: question(asked), PATIENCE_S)
