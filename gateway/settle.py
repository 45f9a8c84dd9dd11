"""The story of a call when nobody waits any more: usage, cost, books, sinks.

Finished calls come in through a bounded queue and are worked off in batches. When the queue is full the caller does the
work itself, so that nothing is ever dropped. A store that cannot take a settlement is asked again until it can; what is
still open at shutdown is logged with its amount.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.accounts import account_of
from gateway.admission.scopes import Facts
from gateway.call import Call, Metered, Receipt, Record, Said, as_json
from gateway.dialects.table import by_operation
from gateway.errors import Failure, Kind
from gateway.metering.meter import meter_work
from gateway.observe import Batch
from gateway.record import booked, record_of
from gateway.store import Settlement
from gateway.store.rollups import USUAL, spend_of
from gateway.value import value
from gateway.works import correction, record_of_work
from pricing.money import Cost
from pricing.usage import Usage

if TYPE_CHECKING:
    from gateway.accounts import Account, Claim
    from gateway.dialects import Work
    from gateway.store import Store
    from gateway.watch import Watch

Capture = Callable[["Watch", Record], Callable[[], Said] | None]
log = logging.getLogger("gateway.settle")

QUEUE_CALLS = 10_000
BATCH_CALLS = 256
RETRY_SECONDS = 1.0
AT_A_TIME = 8
"""Calls that are worked off before the loop is let go: some 0.4 ms."""
TOLD_AT_A_TIME = 64
"""Records that all sinks are told of before the loop is let go: 0.9 ms with every sink there is."""
GATHER_S = 0.01
"""Calls that end within so much time are booked together, unless somebody waits for their room: alone one costs 63 us, of many 18."""
MAX_UNPRICED = 1000
WE_ENDED_IT = frozenset(("client_disconnected", "cut"))
"""Outcomes after which a provider most likely bills what it had begun: not its doing that the answer ended."""


@value
class Finished:
    """A call that has left ``handle``, and the watch that saw its answer."""

    call: Call
    watch: Watch


class Settler:
    """Works finished calls off. ``take_all`` receives the records, in order of settlement."""

    def __init__(
        self,
        store: Store,
        take_all: Callable[[Batch], None],
        spend_by: Sequence[str] = USUAL,
    ) -> None:
        """``spend_by``: what sums of spend are told apart by."""
        self._spend_by = tuple(spend_by)
        self.on_booked: Callable[[float], None] = _say_no_time
        """Gets the seconds that the store took for a batch."""
        self.on_settled: Callable[[float], None] = _say_no_time
        """Gets the seconds that all of a batch took, from its first call to the last that it told of."""
        self.capture: Capture | None = None
        """For a call of which somebody wants to know what was said: how to tell it, which may take milliseconds."""
        self._store = store
        self._take_all = take_all
        self._queue: deque[Finished] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._owed: deque[Settlement] = deque()
        self._works: deque[tuple[Finished, Record, Work]] = deque()
        self._open: set[str] = set()
        self._booked = asyncio.Event()
        self._waiting = 0
        self._uncompared = 0
        self._unpriced: set[tuple[str, str]] = set()
        self.on_overdraft: Callable[[Claim, int], None] = _say_nothing
        """Gets each limit that a settlement went past, with the nano-dollars beyond it."""
        self.on_unpriced: Callable[[Record], None] = _say_nothing_of
        """Gets the first call of each model that has no price."""

    @property
    def depth(self) -> int:
        """Calls that wait to be settled."""
        return len(self._queue) + len(self._owed)

    def is_open(self, call_id: str) -> bool:
        """Whether a call has ended and is not in the books yet."""
        return call_id in self._open

    async def booked(self, timeout_s: float) -> None:
        """Until a batch was booked, which gives room back; no longer than that."""
        self._waiting += 1
        try:
            await asyncio.wait_for(self._booked.wait(), timeout_s)
        except TimeoutError:
            return
        finally:
            self._waiting -= 1

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._run(), name="settle")

    def submit(self, finished: Finished) -> bool:
        """Hand a finished call over. False when the queue is full: then the caller has to ``settle`` it itself."""
        if len(self._queue) >= QUEUE_CALLS:
            return False
        self._open.add(finished.call.call_id)
        self._queue.append(finished)
        self._wake.set()
        return True

    async def close(self) -> None:
        """Settle all that was handed over, then stop."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        await self._pay_owed()
        for settlement in self._owed:
            _say_lost(settlement)
        for _, teller, work in self._works:
            told = teller.call_id, work.key[:80]
            log.error("work that call %s told of is not booked: %s", *told, extra={"call_id": teller.call_id})

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._closing:
                    return
                self._wake.clear()
                await self._wait()
                await self._pay_owed()
                continue
            if len(self._queue) < BATCH_CALLS and not (self._closing or self._waiting):
                await asyncio.sleep(GATHER_S)
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_CALLS))]
            try:
                await self.settle(batch)
            except Exception:
                first = batch[0].call.call_id
                log.exception("a bug while settling %d calls, %s first", len(batch), first, extra={"call_id": first})
            del batch  # prompts and answers do not wait for the next

    async def _wait(self) -> None:
        """Until there is work; while something is owed, no longer than a retry."""
        if not (self._owed or self._works):
            await self._wake.wait()
            return
        try:
            await asyncio.wait_for(self._wake.wait(), RETRY_SECONDS)
        except TimeoutError:
            return

    async def settle(self, batch: Sequence[Finished]) -> None:
        """Account, book and tell a batch of calls."""
        began = time.perf_counter()
        said: dict[str, Said] = {}
        written: list[tuple[Finished, Record, Settlement]] = []
        for number, finished in enumerate(batch, 1):
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)  # calls that run come first
            try:
                if finished.call.usage is None:
                    await _account(finished)
                if self._is_compared(finished):
                    await self._compare(finished)
                record, settlement = self._written(finished.call)
                if self.capture is not None:
                    await self._capture(self.capture, finished.watch, record, said)
                written.append((finished, record, settlement))
            except Exception:  # one call takes no other with it
                call_id = finished.call.call_id
                self._open.discard(call_id)
                log.exception("a bug while settling call %s: its hold stays", call_id, extra={"call_id": call_id})
        settlements = [settlement for _, _, settlement in written]
        try:
            answers = await self._book(settlements)
        finally:
            await self._tell([record for _, record, _ in written], settlements, said)
        for (finished, record, _), answer in zip(written, answers, strict=True):
            if isinstance(answer, Receipt):
                finished.call.receipt = answer
            if finished.watch.dialect.follows:
                self._works += [(finished, record, work) for work in finished.watch.works]
        await self._settle_works()
        self.on_settled(time.perf_counter() - began)

    def _written(self, call: Call) -> tuple[Record, Settlement]:
        """What is told of a call, and what is booked of it."""
        record = record_of(call)
        if record.unpriced:
            self._say_unpriced(record)
        claims = booked(call)
        limits = [claim for claim in claims if claim.limit_nanousd is not None or claim.shadow_nanousd is not None]
        return record, self._settlement(record, [claim.account for claim in claims], limits, call)

    async def _tell(
        self, records: Sequence[Record], settlements: Sequence[Settlement], said: Mapping[str, Said]
    ) -> None:
        """All sinks, a part of the batch at a time: calls that run come first."""
        texts = [settlement.record for settlement in settlements]
        for start in range(0, len(records), TOLD_AT_A_TIME):
            if start:
                await asyncio.sleep(0)
            part = slice(start, start + TOLD_AT_A_TIME)
            self._take_all(Batch(records[part], texts[part], said))

    async def _settle_works(self) -> None:
        """Book what answers told of; while the store cannot be asked whether it knows of it, later."""
        while self._works:
            told = self._works.popleft()
            try:
                await self._settle_work(*told)
            except Failure as failure:
                if failure.kind is Kind.STORE_UNAVAILABLE:
                    self._works.appendleft(told)
                    return
                teller = told[1].call_id
                log.error(
                    "work that call %s told of is not booked: %s", teller, failure.message, extra={"call_id": teller}
                )

    async def _settle_work(self, finished: Finished, teller: Record, work: Work) -> None:
        """Book what an answer told of, unless it is in the books already; then it is told once as well."""
        call, snapshot = finished.call, finished.watch.snapshot
        dialect = by_operation(teller.protocol, work.operation)
        metered = meter_work(dialect, work) if dialect is not None else None
        if metered is None or call.caller is None:
            return
        record = record_of_work(teller, work, metered, snapshot.book, int(call.started_at))
        original = await self._store.awaiting(teller.provider, work.key)
        if original is not None:
            record = correction(original, record)
        else:
            facts = Facts(model=work.model, provider=record.provider, upstream=record.upstream)
            claims = snapshot.ledger.claims(call.caller, call.started_at, 0, 0, facts)
            record = replace(record, accounts=tuple(str(claim.account) for claim in claims))
        settlement = self._settlement(record, [account_of(each) for each in record.accounts])
        (answer,) = await self._book([settlement])
        if isinstance(answer, Receipt) and not answer.again:
            self._take_all(Batch([record], [settlement.record]))

    def _settlement(
        self, record: Record, accounts: Sequence[Account], limits: Sequence[Claim] = (), call: Call | None = None
    ) -> Settlement:
        """What the store is to book of a record."""
        uses = (call.uses or ()) if call is not None and call.hold is not None else ()
        return Settlement(
            record.call_id,
            record.cost_nanousd,
            record.outcome,
            tuple(accounts),
            as_json(record),
            record.started_at,
            tuple(limits),
            spend_of(record, self._spend_by),
            uses,
            _tokens(call) if uses else None,
            record.correlation_id,
            record.awaits,
        )

    def _is_compared(self, finished: Finished) -> bool:
        """One in so many of the calls that their provider metered."""
        usage = finished.call.usage
        if usage is None or usage.source != "provider":
            return False
        self._uncompared += 1
        every = finished.watch.snapshot.compare_every
        if not every or self._uncompared < every:
            return False
        self._uncompared = 0
        return True

    @staticmethod
    async def _capture(capture: Capture, watch: Watch, record: Record, said: dict[str, Said]) -> None:
        """In a thread, where somebody wants it: it is text, and may be long."""
        try:
            tell = capture(watch, record)
            if tell is not None:
                said[record.call_id] = await asyncio.to_thread(tell)
        except Exception as error:
            log.error("could not tell what was said in call %s: %s", record.call_id, type(error).__name__)

    @staticmethod
    async def _compare(finished: Finished) -> None:
        """Count it too. In a thread: it is text, and may be long."""
        try:
            await asyncio.to_thread(finished.watch.compare)
        except Exception:
            call_id = finished.call.call_id
            log.exception("could not count call %s", call_id, extra={"call_id": call_id})

    def _say_unpriced(self, record: Record) -> None:
        """Once a model: somebody has to add its price. Names come from callers, so there is an end to it."""
        key = (record.provider, record.model_served or record.model_requested)
        if key not in self._unpriced and len(self._unpriced) < MAX_UNPRICED:
            self._unpriced.add(key)
            self.on_unpriced(record)

    async def _book(self, settlements: Sequence[Settlement]) -> Sequence[Receipt | Failure]:
        """What the store is too ill to take is owed; what it could never take is told with its amount."""
        began = time.perf_counter()
        answers = await self._store.settle_all(settlements)
        self.on_booked(time.perf_counter() - began)
        for settlement, answer in zip(settlements, answers, strict=True):
            if isinstance(answer, Receipt):
                self._open.discard(settlement.call_id)
                for claim, past_nanousd in answer.overdrafts:
                    self.on_overdraft(claim, past_nanousd)
                continue
            if answer.kind is not Kind.STORE_UNAVAILABLE:
                self._open.discard(settlement.call_id)
                _say_lost(settlement)
                continue
            if not self._owed:
                log.error("the store cannot take settlements, they are kept and tried again: %s", answer.message)
            self._owed.append(settlement)
        if self._waiting:
            self._booked.set()
            self._booked = asyncio.Event()
        return answers

    async def _pay_owed(self) -> None:
        """Ask again, a batch at a time, until all is booked or a whole batch fails."""
        while self._owed:
            batch = [self._owed.popleft() for _ in range(min(len(self._owed), BATCH_CALLS))]
            answers = await self._book(batch)
            if all(isinstance(answer, Failure) and answer.kind is Kind.STORE_UNAVAILABLE for answer in answers):
                return
        await self._settle_works()


def _tokens(call: Call | None) -> int | None:
    """All that were read and written; None where nobody knows it."""
    if call is None or call.usage is None or call.usage.method == "hold":
        return None
    return call.usage.usage.input_tokens + call.usage.usage.output_tokens


def _say_nothing(claim: Claim, nanousd: int) -> None:
    """Nobody listens."""


def _say_nothing_of(record: Record) -> None:
    """Nobody listens."""


def _say_no_time(seconds: float) -> None:
    """Nobody listens."""


def _say_lost(settlement: Settlement) -> None:
    call_id = settlement.call_id
    log.error("not booked: call %s, %d nano-dollars", call_id, settlement.cost_nanousd, extra={"call_id": call_id})


async def _account(finished: Finished) -> None:
    """Usage and cost, where the answer's head did not need them already; long texts are counted in a thread."""
    call, watch = finished.call, finished.watch
    billable = _is_billable(call, watch)
    try:
        if billable and not watch.told:
            await asyncio.to_thread(watch.account, billable=True)
        else:
            watch.account(billable=billable)
    except Exception:
        log.exception("could not account call %s: its hold is charged", call.call_id, extra={"call_id": call.call_id})
        held = call.hold.amount_nanousd if call.hold is not None else 0
        call.usage, call.cost = Metered(Usage(), "estimated", "hold"), Cost(held)


def _is_billable(call: Call, watch: Watch) -> bool:
    """Whether the provider can be expected to charge: it answered with 2xx, or it was still working when we gave it up."""
    ending = call.ending
    if ending is None or not ending.sent_ns:
        return False
    given_up = ending.outcome in WE_ENDED_IT or ending.error_type == "upstream_timeout"
    if given_up:
        return watch.answered or not ending.first_byte_ns
    return watch.answered and call.refusal is None
