"""What may happen to a Redis, and that no cent is lost or gained by it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import orjson
import pytest

from gateway.accounts import PLACES, REQUESTS, Account, Claim, Hold, Use
from gateway.errors import Excess, Failure, Kind, Refusal
from gateway.store import Settlement, redis_recovery
from gateway.store import redis as store_redis
from gateway.store.redis import RedisStore
from gateway.store.redis_upkeep import sweep
from tests.harness.redis_servers import make_store

CENT = 10_000_000
DOLLAR = 100 * CENT
DAY = Account("team:search", "day:2026-11-20")
MONTH = Account("global", "month:2026-11")
RESETS_AT = 4_000_000_000
AOF = ("--appendonly", "yes", "--appendfsync", "always")


def claim(account: Account = DAY, amount: int = CENT, limit: int | None = DOLLAR) -> Claim:
    return Claim(account, amount, limit, "search-daily" if limit is not None else "", "day", RESETS_AT)


def settlement(call_id: str, cost: int, *accounts: Account, outcome: str = "completed") -> Settlement:
    record = {"call_id": call_id, "correlation_id": call_id, "cost_nanousd": cost, "outcome": outcome}
    return Settlement(call_id, cost, outcome, accounts or (DAY,), orjson.dumps(record), "2026-11-20T10:00:00.000Z")


@asynccontextmanager
async def opened(*stores: RedisStore) -> AsyncIterator[None]:
    """All of them, closed again whatever happens."""
    for store in stores:
        await store.open()
    try:
        yield
    finally:
        for store in stores:
            await store.close()


async def balance(store: RedisStore, account: Account = DAY) -> tuple[int, int]:
    (found,) = await store.read([account])
    return (found.spent_nanousd, found.held_nanousd)


async def until(question: Callable[[], Awaitable[bool] | bool], patience_s: float = 30) -> None:
    async with asyncio.timeout(patience_s):
        while True:
            try:
                answer = question()
                if answer if isinstance(answer, bool) else await answer:
                    return
            except Failure:
                pass
            await asyncio.sleep(0.02)


async def is_paid(*stores: RedisStore) -> bool:
    return all(store.is_up and not store.owed for store in stores)


@pytest.mark.parametrize("server", [(), AOF], ids=["memory", "log"], indirect=True)
async def test_a_killed_server_loses_nothing(server, tmp_path):
    """kill -9 with calls that hold, calls that settle meanwhile, and one that nobody told: spent and held are right again
    when it is back, with its log or without, and nothing was admitted on empty books.
    """
    one, two = make_store(server, tmp_path, "one"), make_store(server, tmp_path, "two")
    async with opened(one, two):
        for number in range(40):
            store = (one, two)[number % 2]
            assert isinstance(await store.reserve(f"c{number}", [claim(), claim(MONTH, CENT, None)]), Hold)
        for number in range(20):
            store = (one, two)[number % 2]
            await store.settle(settlement(f"c{number}", CENT // 2, DAY, MONTH))
        await until(lambda: bool(one._lane.others and two._lane.others))
        server.kill()
        for number in range(20, 30):  # these end while it is away
            store = (one, two)[number % 2]
            assert (await store.settle(settlement(f"c{number}", CENT // 2, DAY, MONTH))).cost_nanousd == CENT // 2
        with pytest.raises(Failure) as refused:
            await one.reserve("late", [claim()])
        assert refused.value.kind is Kind.STORE_UNAVAILABLE
        server.start()
        await until(lambda: is_paid(one, two))
        for account in (DAY, MONTH):
            assert await balance(one, account) == (30 * CENT // 2, 10 * CENT)
        assert (await one.check(), await one.holds()) == (0, 10)
        answers = [await one.reserve(f"d{number}", [claim()]) for number in range(100)]
        assert sum(isinstance(answer, Hold) for answer in answers) == 75  # a dollar, less 15 cents spent and 10 held
        assert (await one.find("c25"))["cost_nanousd"] == CENT // 2


async def test_an_emptied_server_is_filled_again(server, tmp_path):
    """FLUSHALL under load from two processes: the limit holds, the books agree, each call is booked once."""
    one, two = make_store(server, tmp_path, "one"), make_store(server, tmp_path, "two")
    random, spent = Random(5), 0
    async with opened(one, two):
        await until(lambda: bool(one._lane.others and two._lane.others))

        async def worker(store: RedisStore, name: str) -> int:
            paid = 0
            for number in range(150):
                call = f"{name}{number}"
                try:
                    answer = await store.reserve(call, [claim()])
                except Failure:
                    await store.settle(settlement(call, 0, outcome="refused"))
                    await asyncio.sleep(0.02)
                    continue
                if isinstance(answer, Refusal):
                    continue
                await asyncio.sleep(random.random() * 0.01)
                cost = random.randrange(CENT)
                await store.settle(settlement(call, cost))
                paid += cost
            return paid

        async def emptier() -> None:
            for _ in range(3):
                await asyncio.sleep(0.25)
                server.say("FLUSHALL")

        *paid, _ = await asyncio.gather(*(worker(s, f"{n}-") for n, s in enumerate([one, two] * 4)), emptier())
        spent = sum(paid)
        await until(lambda: is_paid(one, two))
        assert spent <= DOLLAR
        await until(lambda: has_balance(one, spent))  # the heartbeat finds what was lost last
        assert await balance(one) == (spent, 0)
        assert (await one.check(), await one.holds()) == (0, 0)


async def test_an_emptied_server_knows_again_how_many_calls_run(server, tmp_path):
    """Places are put back with their holds; requests and tokens are counted anew, which is no money."""
    one = make_store(server, tmp_path, "one")
    places, requests = Use("global", PLACES, 1, 2, "all"), Use("global", REQUESTS, 1, 3, "all")
    answers: list[Hold | Refusal] = []

    async def answered() -> bool:
        answers.append(await one.reserve(f"again{len(answers)}", [claim()], uses=(places, requests)))
        return True

    async with opened(one):
        for number in range(2):
            assert isinstance(await one.reserve(f"c{number}", [claim()], uses=(places, requests)), Hold)
        server.say("FLUSHALL")
        await until(answered)
        assert isinstance(answers[0], Refusal)
        assert answers[0].excess == Excess("all", "global", PLACES, 2, 2, 1)
        await one.settle(replace(settlement("c0", CENT), uses=(places, requests), tokens=5))
        assert isinstance(await one.reserve("next", [claim()], uses=(places, requests)), Hold)
        assert isinstance(await one.reserve("over", [claim()], uses=(places, requests)), Refusal)
        assert await one.check() == 0


async def test_price_books_outlive_what_the_server_forgets(server, tmp_path):
    """Records name them, and outlive it too: an audit must be able to price them again. Also one that came while it was away."""
    one = make_store(server, tmp_path, "one")

    async def price_books() -> set[bytes]:
        return set(await one._link.commands.hkeys(one._keys.books))

    async with opened(one):
        await one.keep_book("v1", lambda: b"packed")
        assert await price_books() == {b"v1"}
        server.say("FLUSHALL")
        with pytest.raises(Failure):
            await one.reserve("unheard", [claim()])
        await one.keep_book("v2", lambda: b"packed too")
        await until(lambda: is_paid(one))
        await until(lambda: one.is_up)
        assert await price_books() == {b"v1", b"v2"}


async def test_price_books_that_alone_are_missing_come_back(server, tmp_path):
    """They came in the moment in which others were put back, or their command was lost: no connection tells. The one in use is none
    of the oldest, also where it had been in use before (a reload that is taken back).
    """
    one = make_store(server, tmp_path, "one", lease_s=0.3)
    async with opened(one):
        for number in [*range(store_redis.MAX_PRICE_BOOKS), 0, store_redis.MAX_PRICE_BOOKS]:
            await one.keep_book(f"v{number}", lambda: b"packed")
        server.say("DEL", one._keys.books)

        async def found() -> set[bytes]:
            return set(await one._link.commands.hkeys(one._keys.books))

        async def are_back() -> bool:
            return len(await found()) == store_redis.MAX_PRICE_BOOKS

        await until(are_back)
        assert {b"v0", b"v%d" % store_redis.MAX_PRICE_BOOKS} < await found()


async def test_who_is_alive_after_a_flush_has_a_lease_before_its_next_heartbeat(server, tmp_path, monkeypatch):
    """Else a call that is admitted at once is charged as lost by whoever looks first."""
    monkeypatch.setattr(store_redis, "HEARTBEAT_S", 1000.0)
    one = make_store(server, tmp_path, "one", lease_s=3000.0)
    two = make_store(server, tmp_path, "two", lease_s=3000.0)
    async with opened(one, two):
        await one.reserve("before", [claim()])
        await two.settle(settlement("x", CENT))
        server.say("FLUSHALL")
        for store in (one, two):
            with pytest.raises(Failure):
                await store.reserve("unheard", [claim()])
        await until(lambda: is_paid(one, two))
        assert isinstance(await one.reserve("after", [claim()]), Hold)
        await sweep(two._lane, {two._lane.owner}, 0.0)
        assert await two.holds() == 2
        assert await balance(two) == (CENT, 2 * CENT)
        for each in ("before", "after"):
            await one.settle(settlement(each, CENT))
        assert await one.check() == 0


async def test_a_frozen_server_carries_out_late_what_nobody_waits_for(server, tmp_path, caplog):
    """SIGSTOP: whoever asks is told in good time; what thaws with the server holds and charges nothing; one line each way."""
    store = make_store(server, tmp_path, "one")
    async with opened(store):
        await store.reserve("before", [claim()])
        with caplog.at_level(logging.WARNING, "gateway.store"):
            server.freeze()
            asked = [asyncio.create_task(store.reserve(f"c{number}", [claim()])) for number in range(20)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(answer, Failure) for answer in answers)
            for number in range(20):
                await store.settle(settlement(f"c{number}", 0, outcome="refused"))
            await store.settle(settlement("before", 3))
            await asyncio.sleep(1.0)
            server.thaw()
            await until(lambda: is_paid(store))
        assert await balance(store) == (3, 0)
        assert (await store.holds(), await store.check()) == (0, 0)
        lines = [record.message for record in caplog.records]
        assert [line.partition(":")[0] for line in lines] == ["the store is down", "the store is back"]
        with pytest.raises(Failure):
            await store.reserve("c3", [claim()])  # it was told to be over


async def test_a_killed_process_leaves_a_journal_that_the_next_one_books(server, tmp_path):
    """What it owed while the server was away is paid by whoever starts next on that machine, once."""
    first = make_store(server, tmp_path, "first")
    await first.open()
    await first.reserve("a", [claim()])
    server.kill()
    await first.settle(settlement("a", 7))
    await first.settle(settlement("b", 11))
    await abandon(first)
    server.start()
    second = make_store(server, tmp_path, "second")
    async with opened(second):
        assert (await balance(second), second.owed) == ((18, 0), 0)
        assert (await second.find("b"))["cost_nanousd"] == 11
        server.say("FLUSHALL")
        await until(lambda: is_restored(second, 18))
        assert await second.check() == 0
    third = make_store(server, tmp_path, "third")
    async with opened(third):
        assert await balance(third) == (18, 0)


async def is_restored(store: RedisStore, spent: int) -> bool:
    return (await balance(store))[0] == spent


async def abandon(store: RedisStore) -> None:
    """As kill -9 leaves it: nothing is given back, the lock of the journal is gone with the process."""
    store._stop.set()
    await store._upkeep
    store._lane._closing = True
    store._lane._wake.set()
    store._lane.is_up = False
    await store._lane._task
    os.close(store._journal._file)
    store._journal._file = -1
    await store._link.close()


async def test_books_without_records_are_restored_from_shares(server, tmp_path):
    """When the journal began anew, only sums are known of what was booked before: they come back all the same."""
    store = make_store(server, tmp_path, "one")
    store._journal._large_bytes = 2_000
    async with opened(store):
        for number in range(60):
            await store.settle(settlement(f"c{number}", CENT // 10, DAY, MONTH))
        assert len(list(store._journal.kept())) < 60
        server.say("FLUSHALL")
        await until(lambda: is_restored(store, 60 * CENT // 10))
        assert await balance(store, MONTH) == (60 * CENT // 10, 0)
        assert await store.check() == 0


async def test_a_full_server_fails_closed_and_loses_nothing(server, tmp_path):
    """maxmemory without eviction: nothing is granted, nothing is lost."""
    store = make_store(server, tmp_path, "one")
    async with opened(store):
        await store.reserve("a", [claim()])
        server.say("CONFIG", "SET", "maxmemory", "1")
        server.say("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await store.settle(settlement("a", 5))
        with pytest.raises(Failure):
            await store.reserve("b", [claim()])
        server.say("CONFIG", "SET", "maxmemory", "0")
        await until(lambda: is_paid(store))
        assert (await balance(store), await store.holds(), await store.check()) == ((5, 0), 0, 0)


async def test_a_server_that_became_a_replica_is_no_store(server, tmp_path):
    """Read-only: as if it were away, until it is a primary again."""
    store = make_store(server, tmp_path, "one")
    async with opened(store):
        server.say("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(Failure):
            await store.reserve("a", [claim()])
        await store.settle(settlement("b", 5))
        server.say("REPLICAOF", "NO", "ONE")
        await until(lambda: is_paid(store))
        assert await balance(store) == (5, 0)


# -- local slices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", [(), AOF], ids=["memory", "log"], indirect=True)
async def test_slices_let_calls_go_on_and_never_overshoot(server, tmp_path):
    """While the server is away each process grants from its own slice and no further; afterwards the books are exact."""
    one, two = (make_store(server, tmp_path, name, on_outage="local") for name in ("one", "two"))
    small = claim(amount=CENT // 20)
    async with opened(one, two):
        for store in (one, two):
            await store.reserve(f"first-{store._lane.name}", [small])
            await store.settle(settlement(f"first-{store._lane.name}", CENT // 20))
        await until(lambda: all(store._slices.back_names() for store in (one, two)))
        held = (await balance(one))[1]
        assert 0 < held <= DOLLAR // 5
        server.kill()
        paid, running = 2 * (CENT // 20), []
        for store in (one, two):
            for number in range(1000):
                call = f"{store._lane.name}-{number}"
                try:
                    await store.reserve(call, [small])
                except Failure:
                    await store.settle(settlement(call, 0, outcome="refused"))
                    continue
                if number % 3:
                    await store.settle(settlement(call, CENT // 25))
                    paid += CENT // 25
                else:
                    running.append((store, call))
        assert 0 < len(running) * (CENT // 20) + paid - 2 * (CENT // 20) <= held
        server.start()
        await until(lambda: is_paid(one, two))
        for store, call in running:  # a lease that ran out in the meantime is charged, and corrected by this
            await store.settle(settlement(call, CENT // 30))
            paid += CENT // 30
        await until(lambda: has_balance(one, paid))
        await until(lambda: is_right(one))  # slices are sized anew while it looks
        spent, still_held = await balance(one)
        assert spent == paid
        assert spent + still_held <= DOLLAR
    assert Path(tmp_path / "journal").is_dir()


async def is_right(store: RedisStore) -> bool:
    return await store.check() == 0


async def has_balance(store: RedisStore, spent: int) -> bool:
    return (await balance(store))[0] == spent


async def test_limits_are_kept_alone_and_cost_a_slice_nothing(server, tmp_path):
    """While the server is away: a call that a limit refuses takes nothing of the slice. At the next outage they begin anew."""
    store = make_store(server, tmp_path, "one", on_outage="local")
    small, requests = claim(amount=CENT // 10), (Use("global", REQUESTS, 1, 1, "all"),)
    async with opened(store):
        await store.reserve("first", [small])
        await until(lambda: bool(store._slices.back_names()))
        for outage in range(2):
            server.kill()
            answers = [await store.reserve(f"{outage}-{number}", [small], uses=requests) for number in range(60)]
            assert [isinstance(answer, Hold) for answer in answers] == [True] + [False] * 59
            free = [await store.reserve(f"{outage}-free-{number}", [small]) for number in range(60)]
            assert all(isinstance(answer, Hold) for answer in free)
            for call in (f"{outage}-0", *(f"{outage}-free-{number}" for number in range(60))):
                await store.settle(settlement(call, 1))
            server.start()
            await until(lambda: is_paid(store))
            await until(lambda: bool(store._slices.back_names()))
        await store.settle(settlement("first", 1))
        await until(lambda: has_balance(store, 2 * 61 + 1))


async def test_a_budget_near_its_end_has_no_slices(server, tmp_path):
    """Nothing is taken from others where a slice would be of no use."""
    store = make_store(server, tmp_path, "one", on_outage="local")
    large = replace(claim(amount=DOLLAR // 10))
    async with opened(store):
        for number in range(10):
            assert isinstance(await store.reserve(f"c{number}", [large]), Hold)
        await asyncio.sleep(1.2)
        assert await balance(store) == (0, DOLLAR)
        server.kill()
        with pytest.raises(Failure):
            await store.reserve("d", [large])
        server.start()


# -- books that are not whole -------------------------------------------------------------------------------------------


async def test_books_that_are_behind_are_found_out(server, tmp_path):
    """A replica that lagged takes over: the same books, older than what was confirmed. Nothing is admitted on them."""
    store = make_store(server, tmp_path, "one")
    async with opened(store):
        await store.settle(settlement("a", CENT))
        commands = store._link.commands
        copy = {key: await commands.dump(key) async for key in commands.scan_iter("*")}
        await store.settle(settlement("b", 97 * CENT))
        await store.reserve("c", [claim()])
        async with commands.pipeline(transaction=True) as together:
            together.flushall()
            for key, text in copy.items():
                together.restore(key, 0, text)
            await together.execute()
        with pytest.raises(Failure):
            await store.reserve("d", [claim(amount=2 * CENT)])
        await until(lambda: is_paid(store))
        assert await balance(store) == (98 * CENT, CENT)
        assert isinstance(await store.reserve("e", [claim(amount=2 * CENT)]), Refusal)
        assert await store.check() == 0


async def test_books_that_are_lost_again_while_they_are_restored_are_not_whole(server, tmp_path, monkeypatch):
    """One process has replayed what it knows when the server is emptied again and another one, who does not know of it, restores
    its own part: the first one begins anew.
    """
    one, two = make_store(server, tmp_path / "a", "one"), make_store(server, tmp_path / "b", "two")
    put_back, emptied = redis_recovery._put_holds_back, asyncio.Event()

    async def and_then_lose_it(lane):
        await put_back(lane)
        if lane is one._lane and not emptied.is_set():
            emptied.set()
            server.say("FLUSHALL")
            await redis_recovery.recover(two._lane)

    async with opened(one, two):
        await one.settle(settlement("a", 60 * CENT))
        await two.settle(settlement("b", 30 * CENT))
        one._lane.others = two._lane.others = set()
        for store in (one, two):
            store._stop.set()
            await store._upkeep
        monkeypatch.setattr(redis_recovery, "_put_holds_back", and_then_lose_it)
        server.say("FLUSHALL")
        await redis_recovery.recover(one._lane)
        assert emptied.is_set()
        assert await balance(one) == (90 * CENT, 0)


async def test_books_that_are_lost_again_between_records_and_shares_count_nothing_twice(server, tmp_path, monkeypatch):
    """What a share lacks is added to it when all its records are there, and they are not in a server that was emptied meanwhile."""
    store = make_store(server, tmp_path, "one")
    async with opened(store):
        await store.settle(settlement("a", 60 * CENT))
        run, emptied = store._lane.run_steps, []

        async def empty_before_shares(steps, **more):
            if not emptied and getattr(steps[0], "kind", "") == "share":
                emptied.append(server.say("FLUSHALL"))
            return await run(steps, **more)

        monkeypatch.setattr(store._lane, "run_steps", empty_before_shares)
        server.say("FLUSHALL")
        with pytest.raises(Failure):
            await store.reserve("b", [claim()])
        await until(lambda: is_paid(store))
        assert emptied
        assert await balance(store) == (60 * CENT, 0)


@pytest.mark.parametrize("server", [AOF], ids=["log"], indirect=True)
async def test_a_restart_that_lost_nothing_costs_no_replay(server, tmp_path, monkeypatch):
    """Whoever finds its last word in the books goes on at once, however long its journal is."""
    store = make_store(server, tmp_path, "one")
    async with opened(store):
        for number in range(5):
            await store.settle(settlement(f"c{number}", CENT))
        await store.reserve("held", [claim()])
        monkeypatch.setattr(store._journal, "kept", lambda: pytest.fail("nothing is missing"))
        server.kill()
        with pytest.raises(Failure):
            await store.reserve("away", [claim()])
        server.start()
        await until(lambda: is_paid(store))
        assert await balance(store) == (5 * CENT, CENT)
        assert isinstance(await store.reserve("d", [claim()]), Hold)
