"""The books in Redis (or Valkey), shared by any number of processes on any number of machines.

Owns opening and closing, and what may be asked. How it is sent is in ``redis_lane``, what every step means in ``redis_books.lua``,
what the keys are called in ``keys``; what the server forgets is restored by ``redis_recovery`` from the ``journal``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from gateway.accounts import Account, Balance, Claim, Hold, Notice, Use
from gateway.call import Receipt
from gateway.changes import Change, Changed, Conflict, Entry, check
from gateway.errors import Failure, Kind, Refusal, Whose
from gateway.selection import Page, Selection
from gateway.store import Settlement, Spend, Which, redis_listing, redis_queries, redis_tallies
from gateway.store.answers import check_amount, check_cost, closed
from gateway.store.digest import Digest, Report, Write
from gateway.store.journal import Journal
from gateway.store.keys import SCHEMA, Keys
from gateway.store.limits import OwnLimits
from gateway.store.redis_digest import Digesting, KnownAccounts
from gateway.store.redis_entries import Entries
from gateway.store.redis_lane import Lane, away, kept
from gateway.store.redis_link import ERRORS, Link, Lost, as_failure
from gateway.store.redis_recovery import recover
from gateway.store.redis_script import Times
from gateway.store.redis_steps import Release, Reserve, Simple, Step
from gateway.store.redis_upkeep import give_slices_back, renew, size_slices, sweep
from gateway.store.slices import Slices
from gateway.tallies import Tally

log = logging.getLogger("gateway.store")

T = TypeVar("T")
MAX_PRICE_BOOKS = 8
"""Of some 100 kB each."""
HEARTBEAT_S = 1.0
"""How soon each process learns that the server has forgotten something, at the latest."""


class RedisStore:
    """See ``gateway.store.Store`` for what each method promises. ``owner`` names this process among those that run at the same
    time; ``journal`` is its own.
    """

    def __init__(
        self,
        link: Link,
        *,
        prefix: str,
        lease_s: float,
        times: Times,
        owner: str,
        journal: Journal,
        on_outage: str = "closed",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._link = link
        self._keys = Keys(prefix)
        self._entries = Entries(link, self._keys)
        self._journal = journal
        self._lane = Lane(link, self._keys, owner, journal, times, lease_s)
        self._lane.connect = self._connect
        self._may_start_down = on_outage != "closed"
        self._slices = Slices(journal.own.name) if on_outage == "local" else None
        self._own_limits = OwnLimits(clock)
        self._lease_s = lease_s
        self._clock = clock
        self._accounts = KnownAccounts(link, self._keys)
        self._digesting = Digesting(link, self._keys)
        self._upkeep: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._price_books: dict[str, bytes] = {}
        """Those that this process's records name, by version, oldest first."""
        self._open = False

    @property
    def tell(self) -> Callable[[Sequence[Notice]], None]:
        """Gets the thresholds that were crossed."""
        return self._lane.tell

    @tell.setter
    def tell(self, tell: Callable[[Sequence[Notice]], None]) -> None:
        self._lane.tell = tell

    @property
    def is_up(self) -> bool:
        """Whether the server answered last."""
        return self._lane.is_up

    @property
    def owed(self) -> int:
        """Settlements that stand in the journal and not in the books."""
        return len(self._journal.unpaid)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, take over what a dead process of this name left behind, begin to work."""
        try:
            await asyncio.to_thread(self._journal.open, self._clock())
        except OSError as error:
            raise Failure(
                Kind.STORE_UNAVAILABLE, Whose.OURS, f"The journal cannot be opened: {error.strerror} (store.journal)."
            ) from None
        is_up = True
        try:
            await self._connect()
        except BaseException as error:
            if not (self._may_start_down and isinstance(error, ERRORS)):
                await self._link.close()
                self._journal.close()
                raise (as_failure(error) if isinstance(error, ERRORS) else error) from None
            log.error("the store is down: %s Calls go on as store.on_outage says.", as_failure(error).message)
            is_up = False
        self._open = True
        self._lane.start(is_up=is_up)
        self._upkeep = asyncio.create_task(self._keep_up(), name="store-upkeep")

    async def _connect(self, *, again: bool = False) -> None:
        """Connect, or see whether the server is back; make its books whole; book what is owed."""
        if not self._link.is_open:
            await self._link.open()
            await self._check_schema()
            await self._take_over()
        else:
            await self._link.commands.ping()
        await recover(self._lane, again=again)
        await self._put_price_books()
        await self._lane.pay()
        await give_slices_back(self._lane, self._slices)
        self._own_limits.forget()
        await self._lane.pay()

    async def close(self) -> None:
        """Finish what was asked, give the lease back, disconnect. A second time changes nothing."""
        if not self._open or self._upkeep is None:
            return
        self._open = False
        await asyncio.gather(self._accounts.close(), self._digesting.close())
        self._stop.set()  # not cancelled: redis-py swallows that in the middle of a command
        await self._upkeep
        await self._lane.finish()
        if self._lane.is_up:
            with contextlib.suppress(*ERRORS, Lost):
                await self._lane.pay()
                await self._lane.run_steps([Simple("leave", {})], force=True)
        if self._journal.unpaid:
            log.warning("%d settlements are left in the journal for the next start", len(self._journal.unpaid))
        self._journal.close()
        await self._link.close()

    async def _check_schema(self) -> None:
        found = await self._link.commands.get(self._keys.schema)
        if found is None:
            await self._link.commands.set(self._keys.schema, str(SCHEMA), nx=True)
        elif int(found) > SCHEMA:
            raise Failure(
                Kind.STORE_UNAVAILABLE, Whose.OURS, "The store's keys were written by a later version of Tollgate."
            )

    async def _take_over(self) -> None:
        """Names are unique among the processes that run at one time: what an earlier one of this name held is lost."""
        owners = await self._link.commands.zrange(self._keys.owners, 0, -1)
        dead = [each for each in owners if each.decode().rpartition("#")[0] == self._lane.name]
        if dead:
            await self._link.commands.zrem(self._keys.owners, *dead)

    async def _keep_up(self) -> None:
        """A heartbeat, and now and then a look for what dead processes left, or what is missing of price books."""
        every_s = min(HEARTBEAT_S, self._lease_s / 3)
        next_sweep = 0.0
        while not self._stop.is_set():
            if self._lane.is_up:
                try:
                    live = await renew(self._lane)
                    if time.monotonic() >= next_sweep:
                        next_sweep = time.monotonic() + self._lease_s / 3
                        await sweep(self._lane, live, self._clock())
                        await self._put_price_books()
                    if self._slices is not None:
                        await size_slices(
                            self._lane, self._slices, await self.read(self._slices.accounts()), self._clock()
                        )
                except (*ERRORS, Failure) as error:
                    log.debug("upkeep of the store failed: %s", type(error).__name__)
                except Exception:
                    log.exception("a bug in the upkeep of the store")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), every_s)

    # -- writing ------------------------------------------------------------------------------------------------------

    async def reserve(
        self, call_id: str, claims: Sequence[Claim], mark_nanousd: int | None = None, uses: Sequence[Use] = ()
    ) -> Hold | Refusal:
        """All claims and uses or none."""
        return await self._hold(Reserve(call_id, tuple(claims), mark_nanousd, uses=tuple(uses)))

    async def extend(self, call_id: str, claims: Sequence[Claim], mark_nanousd: int | None = None) -> Hold | Refusal:
        """Raise the hold of a call."""
        return await self._hold(Reserve(call_id, tuple(claims), mark_nanousd, "extend"))

    async def _hold(self, step: Reserve) -> Hold | Refusal:
        if step.amounts:
            check_amount(min(step.amounts))
            check_amount(max(step.amounts))
        if self._slices is None:
            answer: Hold | Refusal = await self._ask(step)
            return answer
        self._slices.used(step.claims, self._clock())
        try:
            answer = await self._ask(step)
        except Failure as failure:
            if failure.kind is not Kind.STORE_UNAVAILABLE or not self._open:
                raise
            own = self._slices.grant(step.call_id, step.claims)
            if own is None:
                raise
            limited = self._own_limits.take(step.call_id, step.uses, 1 + len(self._lane.others))
            if limited is not None:
                self._slices.settled(step.call_id, 0)
            return limited or own
        return answer

    async def settle(self, settlement: Settlement) -> Receipt:
        """Book the cost, drop the hold, keep the record."""
        (answer,) = await self.settle_all([settlement])
        if isinstance(answer, Failure):
            raise answer
        return answer

    async def settle_all(self, settlements: Sequence[Settlement]) -> list[Receipt | Failure]:
        """Written into the journal, then sent. What the server does not take now it gets later: that is a receipt too."""
        if not self._open:
            return [closed() for _ in settlements]
        found: dict[int, Receipt | Failure] = {}
        for index, settlement in enumerate(settlements):
            try:
                check_cost(settlement)
            except ValueError as error:
                log.error("a settlement cannot be booked: %s", error)
                found[index] = Failure(Kind.INTERNAL, Whose.OURS, "A settlement cannot be booked.")
        good = [(index, each) for index, each in enumerate(settlements) if index not in found]
        self._journal.owe([each for _, each in good])
        if self._slices is not None:
            for _, each in good:
                self._slices.settled(each.call_id, each.cost_nanousd)
                self._own_limits.give_back(each.call_id, each.tokens)
        asked = [(index, each, self._lane.put(self._lane.settle_step(each))) for index, each in good]
        for index, settlement, waiting in asked:
            try:
                found[index] = await waiting if waiting is not None else kept(settlement)
            except Failure as failure:
                found[index] = failure
        return [found[index] for index in range(len(settlements))]

    async def release(self, call_id: str) -> None:
        """Drop the hold, charge nothing."""
        await self._ask(Release(call_id))

    async def _ask(self, step: Step) -> Any:
        if not self._open:
            raise closed()
        return await self._lane.ask(step)

    # -- reading ------------------------------------------------------------------------------------------------------

    async def read(self, accounts: Sequence[Account]) -> list[Balance]:
        """Balances, in the order asked for."""
        names = [self._keys.account(str(account)) for account in accounts]
        found = await self._look(lambda: redis_queries.balances(self._link, names))
        return [Balance(account, *pair) for account, pair in zip(accounts, found, strict=True)]

    async def find(self, call_id: str) -> dict[str, Any] | None:
        """One record by call id."""
        return await self._look(lambda: redis_queries.find(self._link, self._keys, call_id))

    async def recent(self, limit: int, before: str = "", correlation_id: str = "") -> list[dict[str, Any]]:
        """Records, newest first."""
        return await self._look(lambda: redis_queries.recent(self._link, self._keys, limit, before, correlation_id))

    async def page(self, wanted: Selection, limit: int, after: str = "") -> Page:
        """Records by what stands in them, newest first."""
        return await self._look(lambda: redis_listing.page(self._link, self._keys, wanted, limit, after))

    async def awaiting(self, provider: str, key: str) -> dict[str, Any] | None:
        """The record of the call that awaits an answer of this name."""
        return await self._look(lambda: redis_queries.awaiting(self._link, self._keys, provider, key))

    async def spend(self, since: str, until: str) -> list[Spend]:
        """Sums of the hours or days in between."""
        return await self._look(lambda: redis_queries.spend(self._link, self._keys, since, until))

    async def digest(self, by: str, now: Sequence[str], before: Sequence[str]) -> Digest:
        """Sums by one dimension."""
        return await self._look(lambda: self._digesting.digest(by, now, before))

    async def report(self, by: Sequence[str], periods: Mapping[str, Sequence[str]], most: int, write: Write) -> Report:
        """Sums by some dimensions."""
        return await self._look(lambda: self._digesting.report(by, periods, most, write))

    async def accounts(self, which: Which) -> list[Balance]:
        """A page of the accounts of a window, with their balances of now."""
        found = await self._look(lambda: self._accounts.page(which))
        return await self.read(found)

    async def tally(self, tallies: Sequence[Tally]) -> None:
        """Add to how well targets are met."""
        await self._look(lambda: redis_tallies.add(self._link, self._keys, tallies))

    async def tallies(self, since: int, until: int) -> list[Tally]:
        """How well targets were met in between."""
        return await self._look(lambda: redis_tallies.read(self._link, self._keys, since, until))

    async def change(self, changes: Sequence[Change]) -> list[Entry] | Conflict:
        """What an operator decided: all of it or nothing."""
        check(changes)
        return await self._look(lambda: self._entries.change(changes))

    async def revision(self) -> int:
        """Of the newest change."""
        return await self._look(self._entries.revision)

    async def entries(self, since: int = 0) -> list[Entry]:
        """Those that changed after a revision."""
        return await self._look(lambda: self._entries.since(since))

    async def changes(self, limit: int, before: int = 0) -> list[Changed]:
        """The log of changes, newest first."""
        return await self._look(lambda: self._entries.log(limit, before))

    async def keep_book(self, version: str, pack: Callable[[], bytes]) -> None:
        """Keep a price book, also where the server is away or forgets it: then it gets it when it is back, or soon."""
        packed = self._price_books.pop(version, None) or pack()
        self._price_books[version] = packed  # behind all others: one that is used again is none of the oldest
        while len(self._price_books) > MAX_PRICE_BOOKS:
            del self._price_books[next(iter(self._price_books))]
        with contextlib.suppress(*ERRORS):
            if self._lane.is_up:
                await self._link.commands.hsetnx(self._keys.books, version, packed)

    async def _put_price_books(self) -> None:
        for version, packed in list(self._price_books.items()):
            if not await self._link.commands.hexists(self._keys.books, version):
                await self._link.commands.hsetnx(self._keys.books, version, packed)

    async def holds(self) -> int:
        """How many calls hold something."""
        return int(await self._look(lambda: self._link.commands.hlen(self._keys.holds)))

    async def check(self) -> int:
        """How many accounts and sums differ from what stands behind them. Reads everything: for tests and audits."""
        accounts = await self._look(lambda: redis_queries.differences(self._link, self._keys))
        sums = await self._look(lambda: redis_queries.spend_differences(self._link, self._keys))
        return len(accounts) + len(sums)

    async def _look(self, asked: Callable[[], Awaitable[T]]) -> T:
        if not self._open:
            raise closed()
        if not self._lane.is_up:
            raise away()
        try:
            return await asked()
        except ERRORS as error:
            raise as_failure(error) from None
