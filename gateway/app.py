"""The composition root: Settings become a Snapshot, a Snapshot becomes servers. The only file that names concrete classes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from gateway import checks
from gateway.admin.api import Sources
from gateway.admin.changing import Changing
from gateway.admin.overview import Figures, Overview
from gateway.admin.routes import Route
from gateway.admin.server import AdminServer
from gateway.bill import bill_of
from gateway.call import Headers
from gateway.canonical import canonical
from gateway.changes import Denied
from gateway.compile import MEGABYTE, compile_snapshot, tokens_of, vocabulary
from gateway.decided import NOTHING, Composition, Counts, Decided
from gateway.deciding import decisions
from gateway.desk import Desk
from gateway.desk.log import LogDesk
from gateway.dialects.table import dialect_for
from gateway.errors import Failure
from gateway.follower import Follower
from gateway.handle import Handle, refusal_answer
from gateway.health import Check, Health, Reading
from gateway.inspector import Inspected, Inspector
from gateway.metering.tokens import Counter
from gateway.observe.pace import BY, WINDOWS
from gateway.observe.process import Process
from gateway.observe.store_watch import StoreWatch
from gateway.overview import PERIODS, Overviews
from gateway.place import Place, owner_at
from gateway.reload import Reloader
from gateway.settings import Front as FrontSettings
from gateway.settings import Settings
from gateway.settle import Settler
from gateway.standing import Standings
from gateway.stores import make_store
from gateway.telemetry import Telemetry
from gateway.together import Own, Together
from gateway.wire.front import Front
from gateway.wire.upstreams import Pool
from pricing.book import Book

log = logging.getLogger("gateway.app")

LEAST_CHECK_S = 0.1
LINGER_S = 1.0
"""A process that is replaced keeps idle connections for so long: who asks on one in time hears that it is the last answer there."""


class Gateway:
    """One running gateway: front, admin, store, settler, and the snapshot that new calls start with."""

    def __init__(
        self,
        settings: Settings,
        config_path: Path | None = None,
        *,
        call_log: BinaryIO | None = None,
        place: Place | None = None,
    ) -> None:
        """``config_path`` is watched for changes; ``call_log`` takes the lines of calls instead of standard output; ``place`` is
        this process's among several.
        """
        self.settings = settings
        self._place = place
        self._speaks = place is None or place.is_first
        """Whether it is the one of several that operators hear."""
        self._composition, self._composing = Composition(), asyncio.Lock()
        self._decided = NOTHING
        self._rules = self._composition.of(settings, NOTHING)
        self.snapshot = compile_snapshot(settings, {}, Counter(vocabulary), self._rules)
        self._store = make_store(settings, owner_at(place))
        self._follower = Follower(self._store, self._decide)
        self._telemetry = Telemetry(settings, lambda: self.snapshot.book, call_log, place)
        self._metrics = self._telemetry.metrics
        self._settler = Settler(self._store, self._telemetry.take, settings.spend.by)
        self._settler.capture = self._telemetry.capture
        self._store.tell = self._telemetry.tell_notices
        self._telemetry.targets.connect(self._store, self._running)
        self._settler.on_overdraft = self._telemetry.tell_overdraft
        self._settler.on_unpriced = self._telemetry.tell_unpriced
        self._settler.on_booked = self._metrics.count_booking
        self._settler.on_settled = self._metrics.count_settling
        self.handle = Handle(
            lambda: self.snapshot, self._store, self._settler, goes_on=settings.store.on_outage == "open"
        )
        self.handle.on_unheld = self._metrics.count_unheld
        self.handle.on_set_aside = self._telemetry.tell_set_aside
        self._front = _front(settings.front, self.handle)
        self._desk = Desk(self._store, lambda: self.settings, self._follower.current)
        self._inspector = Inspector(self.inspected, self._store, settings.spend.by)
        self._overviews = Overviews(self._store, settings.spend.by)
        self._standings = Standings(lambda: self.snapshot.ledger, self._about_budget, self._store)
        self._process = Process()
        self._metrics.watch(self._inspector.gauges)
        self._store_watch = StoreWatch(self._unbooked, self._telemetry.tell)
        self._metrics.watch(self._process.readings)
        self._counts = Counts()
        self._metrics.watch(self._counts.gauges)
        self._reloader = self._watcher_of(config_path)
        every_s = max(settings.observability.health.every, LEAST_CHECK_S)
        self._health = Health(self._checks(), every_s=every_s, heard=self._hear)
        self._together = Together(place, self._own())
        self._telemetry.live.connect(self._together.now, self._inspector.version)
        access = self._telemetry.access
        self._admin = AdminServer(
            settings.admin.host,
            settings.admin.port,
            tokens_of(settings.admin),
            self._sources(),
            access.write if access is not None else None,
            self._routes(),
        )
        self._retired: list[Pool] = []
        self._loaded_at = time.time()

    def _watcher_of(self, path: Path | None) -> Reloader | None:
        return Reloader(path, self.settings, self.apply, aloud=self._speaks) if path is not None else None

    # -- addresses ----------------------------------------------------------------------------------------------------

    @property
    def front_port(self) -> int:
        """The front's port."""
        return self._front.port

    @property
    def admin_port(self) -> int:
        """The admin listener's port."""
        return self._admin.port

    @property
    def front_url(self) -> str:
        """Where apps go, without a path."""
        return f"http://{_in_url(self.settings.front.host)}:{self.front_port}"

    @property
    def admin_url(self) -> str:
        """Where operators go."""
        return f"http://{_in_url(self.settings.admin.host)}:{self.admin_port}"

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the books, listen. OSError when an address cannot be had, Failure when the store cannot be opened."""
        self._telemetry.start(self._refresh)
        await self._store.open()
        await self._follower.start()
        await self._keep_book(self.snapshot.book)
        self._settler.start()
        await self._health.start()
        await self._together.open()
        place = self._place
        front = self.settings.front
        await self._front.listen(front.host, front.port, place.front if place is not None else ())
        if self._speaks:  # after the front: who is told that it is ready sends calls
            await self._admin.start(place.admin if place is not None else ())
        if self._reloader is not None:
            self._reloader.start()
        if self._speaks:
            log.info("serving on %s, operators on %s", self.front_url, self.admin_url)
            _warn_of_keys(self.settings)
            _tell_proxies(self.snapshot.pools)

    async def stop(self, grace_s: float, *, replaced: bool = False) -> None:
        """Accept nothing more, finish what runs within ``grace_s`` seconds, settle everything, close. ``replaced``: another process
        listens in its place already, so that no client needs to notice.
        """
        if self._reloader is not None:
            await self._reloader.stop()
        if replaced:
            self._together.hand_over()
            await self._telemetry.live.close()
            await self._admin.stop()
        cut = await self._front.stop(grace_s, LINGER_S if replaced else 0.0)
        if cut:
            log.warning("%d calls were cut at the end of the grace period", cut)
        await self._follower.stop()
        await self._settler.close()
        for pool in [*self.snapshot.pools.values(), *self._retired]:
            pool.close()
        await self._together.tell_the_rest()
        await self._telemetry.stop()
        await self._telemetry.live.close()
        await self._admin.stop()
        await self._overviews.close()
        await self._together.close()
        await self._health.stop()
        await self._store.close()

    def hurry(self) -> None:
        """Asked a second time to stop: do not wait for running calls any longer."""
        self._front.hurry()

    def reload(self) -> None:
        """Read the config again now (SIGHUP)."""
        if self._reloader is not None:
            self._reloader.trigger()

    async def apply(self, settings: Settings) -> None:
        """Take new settings over: calls that start from now on see all of them, running calls none."""
        old, before = self.snapshot, self.settings
        async with self._composing:
            rules = await asyncio.to_thread(self._composition.of, settings, self._decided)
            new = await asyncio.to_thread(compile_snapshot, settings, old.pools, old.counter, rules)
            await self._keep_book(new.book)
            self._rules, self.snapshot, self.settings = rules, new, settings
        self._loaded_at = time.time()
        if self._speaks:
            _warn_of_keys(settings)
            _tell_proxies({name: pool for name, pool in self.snapshot.pools.items() if old.pools.get(name) is not pool})
        self._telemetry.apply(settings)
        self._admin.admit(tokens_of(settings.admin))
        self._front.max_body_bytes = settings.front.max_body_mb * MEGABYTE
        self._front.body_s = settings.front.body_timeout
        kept = set(self.snapshot.pools.values())
        for pool in old.pools.values():
            if pool not in kept:
                pool.retire()
                self._retired.append(pool)
        self._retired = [pool for pool in self._retired if pool.busy]
        if old.version != new.version:
            await self._log_reload(old.version, before)

    async def _log_reload(self, version: str, before: Settings) -> None:
        """For those who ask later since when something is so."""
        try:
            await LogDesk(self._desk).tell_reload((version, before), (self.snapshot.version, self.settings))
        except (Failure, Denied) as error:
            log.warning("the reload stands in no log of changes: %s", error.message)

    async def _decide(self, decided: Decided) -> None:
        """Take over what operators have decided."""
        async with self._composing:
            self._rules = rules = await asyncio.to_thread(self._composition.of, self.settings, decided)
            self._decided = decided
            self._counts.add(decided)
            self.snapshot = replace(self.snapshot, keys=rules.keys, ledger=rules.ledger)

    async def _keep_book(self, book: Book) -> None:
        """Beside the records that will name it, so that an audit can price them again."""
        try:
            await self._store.keep_book(book.version, lambda: book.packed)
        except Failure as failure:
            log.warning("the price book %s could not be kept for audits: %s", book.version, failure.message)

    # -- what is told -------------------------------------------------------------------------------------------------

    def inspected(self) -> Inspected:
        """What there is to look at."""
        return Inspected(
            self.snapshot,
            self.handle.active,
            self._settler.depth,
            self._front.draining,
            self._telemetry.recent,
            self._telemetry.pace,
            self._health,
            self._decided.revision,
            self._loaded_at,
        )

    def _about_budget(self, name: str) -> dict[str, Any]:
        return self._decided.about_budget(name)

    def _checks(self) -> list[Check]:
        """What makes this process unfit, or is worth a look."""
        health, store, inspector = self.settings.observability.health, self.settings.store, self._inspector
        return [
            checks.store(inspector.check_store, lambda: inspector.owed),
            checks.upstreams(self._telemetry.recent.states, required=health.upstreams),
            checks.disk(checks.folder_of(store.url, store.journal), health.disk_free_mb),
            checks.memory(health.memory_mb),
            checks.exporters(self._telemetry.failing),
            checks.config(lambda: self._reloader.failed_at if self._reloader is not None else ""),
        ]

    def _hear(self, check: str, reading: Reading) -> None:
        if check == "store":
            self._store_watch.take(up=reading.status != "failed")

    def _running(self) -> set[str]:
        """The correlation ids of calls that are on their way."""
        return {call.caller.correlation_id for call in self.handle.active.values() if call.caller is not None}

    def _unbooked(self) -> int:
        """Finished calls that are not in the books: in the journal, or in memory."""
        return self._settler.depth + self._inspector.owed

    def _sources(self) -> Sources:
        together = self._together
        return Sources(
            find=self._find,
            recent=self._store.recent,
            page=self._store.page,
            is_active=together.is_active,
            status=together.status,
            spend=self._inspector.spend,
            upstreams=together.upstreams,
            targets=self._telemetry.targets.report,
            config=lambda: canonical(self.settings),
            version=lambda: self.snapshot.version,
            is_draining=lambda: self._front.draining,
            checks=together.checks,
            metrics=together.metrics,
        )

    def _own(self) -> Own:
        return Own(
            self._inspector,
            self._telemetry,
            checks=self._health.told,
            is_active=lambda call_id: call_id in self.handle.active or self._settler.is_open(call_id),
            is_draining=lambda: self._front.draining,
            refresh=self._refresh,
            refresh_process=self._process.refresh,
        )

    async def _find(self, call_id: str) -> dict[str, Any] | None:
        """A record, with its bill where the book in force explains it."""
        record = await self._store.find(call_id)
        return record and {**record, "bill": bill_of(record, self.snapshot.book)}

    def _routes(self) -> list[Route]:
        return [*Overview(self._figures()).routes(), *Changing(decisions(self._desk)).routes()]

    def _figures(self) -> Figures:
        together, live = self._together, self._telemetry.live
        return Figures(
            overview=self._overviews.answer,
            periods=PERIODS,
            dimensions=self.settings.spend.by,
            now=together.now,
            latency=together.latency,
            windows=tuple(WINDOWS),
            latency_by=BY,
            budgets=self._standings.page,
            is_full=lambda: live.is_full,
            listen=live.listen,
        )

    async def _refresh(self) -> None:
        """Read what gauges show, before somebody looks at them."""
        await asyncio.gather(
            self._inspector.refresh(),
            self._telemetry.targets.refresh(),
            asyncio.to_thread(self._process.refresh),
            asyncio.to_thread(self._counts.look, self.settings, self._decided, time.time()),
        )


def _front(told: FrontSettings, handle: Handle) -> Front:
    return Front(
        handle,
        complain,
        max_body_bytes=told.max_body_mb * MEGABYTE,
        max_header_bytes=told.max_header_kb * 1024,
        max_headers=told.max_headers,
        body_s=told.body_timeout,
        keepalive_s=told.keepalive_timeout,
    )


def _warn_of_keys(settings: Settings) -> None:
    """Who lists keys most likely believes that they are asked for."""
    if settings.keys and settings.auth.mode != "keys":
        log.warning("no call needs any of the %d gateway keys: auth.mode is passthrough", len(settings.keys))


def _tell_proxies(pools: Mapping[str, Pool]) -> None:
    """A variable of the environment may have been set for something else."""
    for name, pool in pools.items():
        if pool.endpoint.proxy is not None:
            log.info("upstream %s goes through the proxy %s", name, pool.endpoint.proxy)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def complain(failure: Failure) -> tuple[int, Headers, bytes]:
    """The answer to what never became a call: in OpenAI's dialect, which most clients of this address read."""
    return refusal_answer(failure.refusal(), dialect_for("openai", "", ""), None, time.time())


@asynccontextmanager
async def running(
    settings: Settings, config_path: Path | None = None, *, call_log: BinaryIO | None = None
) -> AsyncIterator[Gateway]:
    """A gateway for as long as the block lasts; what still runs at its end is given ``front.shutdown_grace``."""
    gateway = Gateway(settings, config_path, call_log=call_log)
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.stop(gateway.settings.front.shutdown_grace)
