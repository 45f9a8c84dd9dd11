"""The one line to Redis: what is asked in one moment goes out as one run of the script, one run at a time.

So each run is atomic, and what came first is done first. Owns what this process knows of the books (the holds that it was granted,
how far it was heard, who else is alive) and whether the server is there. While it is away whoever asks for room is refused at
once, and settlements wait in the journal; a probe every tenth of a second sees when it is back.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.accounts import Account, Hold, Notice
from gateway.call import Receipt
from gateway.errors import Failure, Kind, Whose
from gateway.store import Settlement
from gateway.store.answers import tell_nobody
from gateway.store.journal import Journal
from gateway.store.keys import Keys
from gateway.store.redis_link import ERRORS, Link, Lost, as_failure
from gateway.store.redis_script import Script, Times
from gateway.store.redis_steps import Release, Reserve, Settle, Simple, Step, notices_of

log = logging.getLogger("gateway.store")

BATCH_STEPS = 64
"""Steps of one run: some 25 us each, during which the server does nothing else."""
PROBE_S = 0.1
MAX_TOLD = 10_000


class Lane:
    """``owner`` is this process's own name in the books. ``is_up`` says whether the server answered last."""

    def __init__(
        self, link: Link, keys: Keys, owner: str, journal: Journal, times: Times, lease_s: float = 30.0
    ) -> None:
        self.link = link
        self.keys = keys
        self.name = owner
        self.owner = f"{owner}#{secrets.token_hex(6)}"
        self.journal = journal
        self.lease_s = lease_s
        self.is_up = False
        self.token = ""
        """The recovery since which the books are whole, as far as this process knows."""
        self.server = ""
        """The life of the server at that time."""
        self.acked = 0
        """The last run of the script that was confirmed."""
        self.granted: dict[str, bytes | Reserve] = {}
        """What each call holds: as the books write it, or what was granted."""
        self.others: set[str] = set()
        """Processes that were alive when last looked."""
        self.tell: Callable[[Sequence[Notice]], None] = tell_nobody
        self.connect: Callable[..., Awaitable[None]]
        """Makes the books whole when the server is back; set before ``start``."""
        self.times = times
        self._asked: list[tuple[Step, asyncio.Future[Any] | None]] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._stale = False
        self._seq = 0
        self._told: set[tuple[Account, str, int, int, int]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self, *, is_up: bool) -> None:
        """Begin to work; where the server is not there yet, with looking for it."""
        self.is_up = is_up
        self._task = asyncio.create_task(self._work(), name="store")

    async def finish(self) -> None:
        """Carry out what was asked, and end."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    # -- asking -------------------------------------------------------------------------------------------------------

    async def ask(self, step: Step) -> Any:
        """The answer to one step. Failure while the server is away."""
        waiting = self.put(step)
        if waiting is None:
            raise away()
        return await waiting

    def put(self, step: Step) -> asyncio.Future[Any] | None:
        """Into the next run. None while the server is away: then nobody waits for it."""
        if not self.is_up:
            return None
        waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._asked:
            self._wake.set()
        self._asked.append((step, waiting))
        return waiting

    def settle_step(self, settlement: Settlement, seen: bytes | None = None) -> Settle:
        """The step that books a settlement under the own share; ``seen`` is the hold that lapses with it."""
        return Settle(settlement, self.journal.share_of(settlement), seen)

    def settle_again(self, settlement: Settlement, share: str) -> Settle:
        """The step that books what a journal has kept, under the share that it belongs to."""
        return Settle(settlement, share)

    # -- the one who talks to the server ------------------------------------------------------------------------------

    async def _work(self) -> None:
        """One run at a time; while the server is away, one look every ``PROBE_S``."""
        while True:
            if not self.is_up:
                if self._closing:
                    return
                await asyncio.sleep(PROBE_S)
                await self._probe()
                continue
            if not self._asked:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch, self._asked = self._asked[:BATCH_STEPS], self._asked[BATCH_STEPS:]
            await self._carry_out(batch)

    async def _carry_out(self, batch: list[tuple[Step, asyncio.Future[Any] | None]]) -> None:
        try:
            answers = await self.run_steps([step for step, _ in batch])
        except (*ERRORS, Lost) as error:
            self._gone(error, batch)
            return
        except Exception as error:
            log.exception("a bug while booking %d steps", len(batch))
            answers = [error] * len(batch)
        for (_, waiting), answer in zip(batch, answers, strict=True):
            _resolve(waiting, answer)

    async def run_steps(self, steps: Sequence[Step], *, force: bool = False) -> list[Any]:
        """The answers, failures among them; again with their accounts for those of which only the books knew them."""
        answers: list[Any] = []
        while len(answers) < len(steps):
            left = steps[len(answers) :]
            for step, (said, *reply) in zip(left, await self._run(left, force=force), strict=True):
                status = said.decode()
                if status == "more":  # and nothing of what comes after it is done
                    step.more = (*step.more, *(each.decode() for each in reply))
                    break
                answers.append(self._answer(step, status, reply))
        self._strike_out(steps)
        return answers

    async def _run(self, steps: Sequence[Step], *, force: bool) -> list[list[bytes]]:
        script = Script(self.keys, self.times)
        for step in steps:
            step.put(script)
        seq = 0 if force else self._seq + 1
        self._seq = max(self._seq, seq)
        if not force and self.link.run and self.link.run != self.server:
            raise Lost(stale=False)
        arguments = script.arguments(token=self.token, owner=self.owner, acked=self.acked, seq=seq, force=force)
        async with asyncio.timeout(self.link.timeout_s * 2):
            replies = await self.link.books(script.names, arguments)
        if replies and replies[0][0] == b"recover":
            raise Lost(stale=replies[0][1].decode() == self.token)
        if not force:
            self.acked = seq
        return replies

    def _answer(self, step: Step, status: str, reply: list[bytes]) -> Any:
        try:
            answer = step.answer(status, reply)
        except Failure as failure:
            return failure
        if isinstance(step, Settle):
            step.own, step.again = step.is_own(status, reply), status == "again"
            self.granted.pop(step.settlement.call_id, None)
            if reply:
                self._cross(step, status, reply)
        elif isinstance(step, Reserve):
            if isinstance(answer, Hold):
                self.granted[step.call_id] = step.kept(status, reply)
            else:
                self._cross(step, status, reply)
        elif isinstance(step, Release):
            self.granted.pop(step.call_id, None)
            if reply:  # it had been charged as lost
                self.journal.paid([], self.token, [step.call_id])
        return answer

    def _cross(self, step: Reserve | Settle, status: str, reply: list[bytes]) -> None:
        ids = step.crossed(status, reply)
        if ids:
            self.tell_of(notices_of(step, ids, status, reply), ids)

    def _strike_out(self, steps: Sequence[Step]) -> None:
        """What is in the books need not be owed any more; nor what never can be."""
        booked: list[str] = []
        again: list[str] = []
        elsewhere: list[str] = []
        for step in steps:
            if isinstance(step, Settle):
                (elsewhere if not step.own else again if step.again else booked).append(step.settlement.call_id)
        if booked or elsewhere or again:
            self.journal.paid(booked, self.token, elsewhere, again)

    def tell_of(self, notices: Sequence[Notice], ids: Sequence[bytes]) -> None:
        """Told first and struck out afterwards: a process that dies in between leaves them to another one."""
        fresh = [each for each in notices if _threshold(each) not in self._told]
        try:
            if fresh:
                self.tell(fresh)
        except Exception:
            log.exception("a threshold could not be told")
            return
        if len(self._told) > MAX_TOLD:
            self._told.clear()
        self._told.update(map(_threshold, fresh))
        self._asked.append((Simple("heard", {"ids": [each.decode() for each in ids]}), None))
        self._wake.set()

    # -- away and back ------------------------------------------------------------------------------------------------

    def _gone(self, error: Exception, batch: Sequence[tuple[Step, asyncio.Future[Any] | None]]) -> None:
        """The server is away, or has forgotten: one line in the log, everybody who waits is told."""
        if self.is_up:
            self.is_up = False
            what = "has lost what was booked" if isinstance(error, Lost) else as_failure(error).message
            log.error("the store is down: %s Settlements are kept in the journal.", what)
        self._stale = isinstance(error, Lost) and error.stale
        waiting, self._asked = [*batch, *self._asked], []
        self.journal.uncertain.update(step.settlement.call_id for step, _ in batch if isinstance(step, Settle))
        for step, future in waiting:
            if isinstance(step, Settle):
                _resolve(future, kept(step.settlement))
            else:
                _resolve(future, away())

    async def _probe(self) -> None:
        try:
            await self.connect(again=self._stale)
        except (*ERRORS, Lost, Failure):
            return
        except Exception:  # nobody else would try again
            log.exception("a bug while taking the store up again")
            return
        self._stale = False
        self.is_up = True
        log.warning("the store is back")

    def renewed(self, token: str, server: str) -> None:
        """The books hold all that this process knows."""
        self.token, self.server = token, server

    async def pay(self) -> None:
        """Book what is owed, oldest first."""
        while self.journal.unpaid:
            some = list(self.journal.unpaid.values())[:BATCH_STEPS]
            await self.run_steps([self.settle_step(each) for each in some], force=True)


def _resolve(waiting: asyncio.Future[Any] | None, answer: Any) -> None:
    if waiting is None or waiting.done():
        return
    if isinstance(answer, Exception):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)


def kept(settlement: Settlement) -> Receipt:
    """It stands in the journal, which is a book too."""
    return Receipt(settlement.call_id, settlement.cost_nanousd)


def away() -> Failure:
    return Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, "The store cannot be reached.", may_retry=True)


def _threshold(notice: Notice) -> tuple[Account, str, int, int, int]:
    """What makes it one with another."""
    return (notice.account, notice.budget, notice.percent, notice.limit_nanousd, notice.forgiven_nanousd)
