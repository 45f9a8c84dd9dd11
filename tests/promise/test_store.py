"""The promise of a store, for every store: all claims or none, once, whatever dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from gateway.accounts import Account, Balance, Claim, Hold, Notice
from gateway.errors import Failure, Kind, Refusal
from gateway.selection import LOOKED_AT_MOST, Selection
from gateway.store import FIRST_COUNTS, Settlement, Store, Which
from gateway.store.digest import COST
from gateway.store.journal import Journal
from gateway.store.redis import RedisStore
from gateway.store.redis_link import Link
from gateway.store.redis_script import Times
from gateway.store.rollups import USUAL, spend_of
from gateway.store.sqlite import SqliteStore
from gateway.tallies import Tally
from tests.harness.redis_servers import shared

CENT = 10_000_000
DOLLAR = 100 * CENT
DAY = Account("team:search", "day:2026-11-20")
MONTH = Account("global", "month:2026-11")
RESETS_AT = 1795219200
LEASE_S = 0.3

Open = Callable[..., AsyncIterator[Store]]


def sqlite(folder: Path, owner: str, lease_s: float) -> SqliteStore:
    return SqliteStore(str(folder / "books.db"), lease_s=lease_s, durability="normal", retention_s=1e10, owner=owner)


def of_server(kind: str) -> Callable[[Path, str, float], RedisStore]:
    """A store on the shared server of this kind, with a prefix of this test's own."""

    def make(folder: Path, owner: str, lease_s: float) -> RedisStore:
        return RedisStore(
            Link((folder / "url").read_text(), 5.0),
            prefix=folder.name,
            lease_s=lease_s,
            times=Times(1e9),
            owner=owner,
            journal=Journal(folder / "journal", sync=False),
        )

    make.kind = kind
    return make


STORES: dict[str, Callable[[Path, str, float], SqliteStore | RedisStore]] = {
    "sqlite": sqlite,
    "redis": of_server("redis"),
    "valkey": of_server("valkey"),
}


def prepare(kind: str, folder: Path) -> None:
    """What a store of this kind needs beside a folder."""
    if kind != "sqlite":
        server = shared(kind)
        if server is None:
            pytest.skip(f"there is no {kind} server on this machine")
        (folder / "url").write_text(server.url)


@pytest.fixture(params=STORES)
def opened(request, tmp_path):
    """Opens a store on the books of this test; a second one is another process's."""
    prepare(request.param, tmp_path)

    @asynccontextmanager
    async def opening(owner: str = "one", lease_s: float = 60.0):
        store = STORES[request.param](tmp_path, owner, lease_s)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    return opening


def claim(account: Account = DAY, amount: int = CENT, limit: int | None = DOLLAR) -> Claim:
    return Claim(account, amount, limit, "search-daily" if limit is not None else "", "day", RESETS_AT)


def settlement(
    call_id: str, cost: int, *accounts: Account, outcome: str = "completed", at: int = 0, tie: str = ""
) -> Settlement:
    started_at = f"2026-11-20T10:00:00.{at:03d}Z"
    record = {
        "call_id": call_id,
        "correlation_id": tie or call_id,
        "cost_nanousd": cost,
        "outcome": outcome,
        "started_at": started_at,
    }
    return Settlement(
        call_id, cost, outcome, accounts or (DAY,), orjson.dumps(record), started_at,
        spend=spend_of(record, USUAL), correlation_id=record["correlation_id"],
    )  # fmt: skip


async def balance(store: Store, account: Account = DAY) -> tuple[int, int]:
    (found,) = await store.read([account])
    return (found.spent_nanousd, found.held_nanousd)


async def until(question: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what background work brings about."""
    async with asyncio.timeout(30):
        while not await question():
            await asyncio.sleep(0.02)


async def test_a_hold_is_set_aside_and_settled(opened):
    """Held while the call runs, then spent; the record is kept."""
    async with opened() as store:
        hold = await store.reserve("a", [claim()])
        assert hold == Hold("a", CENT, (claim(),), DOLLAR - CENT)
        assert (await balance(store), await store.holds()) == ((0, CENT), 1)
        receipt = await store.settle(settlement("a", 3))
        assert (receipt.call_id, receipt.cost_nanousd, receipt.again) == ("a", 3, False)
        assert (await balance(store), await store.holds()) == ((3, 0), 0)
        assert (await store.find("a"))["cost_nanousd"] == 3
        assert await store.check() == 0


async def test_five_hundred_at_once_get_exactly_what_there_is(opened):
    """A dollar is a hundred cents, however many ask for one in the same moment; later calls get what was not used."""
    async with opened() as store:
        answers = await asyncio.gather(*(store.reserve(f"c{number}", [claim()]) for number in range(500)))
        granted = [answer for answer in answers if isinstance(answer, Hold)]
        assert len(granted) == 100
        assert {answer.kind for answer in answers if isinstance(answer, Refusal)} == {Kind.BUDGET_HELD}
        await asyncio.gather(*(store.settle(settlement(hold.call_id, CENT // 2)) for hold in granted))
        again = await asyncio.gather(*(store.reserve(f"d{number}", [claim()]) for number in range(500)))
        assert sum(isinstance(answer, Hold) for answer in again) == 50
        assert await balance(store) == (DOLLAR // 2, DOLLAR // 2)
        assert await store.check() == 0


async def test_all_claims_are_granted_or_none(opened):
    """A claim without room leaves no trace on the accounts beside it."""
    async with opened() as store:
        refusal = await store.reserve("a", [claim(DAY), claim(MONTH, CENT, CENT - 1)])
        assert isinstance(refusal, Refusal)
        assert refusal.scope == "global"
        assert await store.read([DAY, MONTH]) == [Balance(DAY, 0, 0), Balance(MONTH, 0, 0)]
        assert await store.holds() == 0


async def test_a_refusal_names_the_claim_in_the_way(opened):
    """Budget, scope, window, figures and reset, for a program and for a person."""
    async with opened() as store:
        await store.settle(settlement("spent", 95 * CENT))
        await store.reserve("held", [claim(amount=3 * CENT)])
        waiting = await store.reserve("a", [claim(amount=4 * CENT)])
        assert isinstance(waiting, Refusal)
        assert (waiting.kind, waiting.retry_after_ms) == (Kind.BUDGET_HELD, 250)
        exceeded = await store.reserve("b", [claim(amount=6 * CENT)])
        assert exceeded == Refusal(
            kind=Kind.BUDGET_EXCEEDED, message=exceeded.message, budget="search-daily", scope="team:search", window="day",
            limit_nanousd=DOLLAR, spent_nanousd=95 * CENT, held_nanousd=3 * CENT, needed_nanousd=6 * CENT,
            resets_at=RESETS_AT,
        )  # fmt: skip
        for part in (
            "'search-daily'",
            "team:search",
            "$1.00",
            "$0.95 is spent",
            "$0.03 is held",
            "$0.06",
            "2026-11-21T00:00:00Z",
        ):
            assert part in exceeded.message


async def test_what_will_never_fit_is_told_before_what_only_waits(opened):
    """A client that is told to try again must have a chance."""
    async with opened() as store:
        await store.reserve("other", [claim(DAY, DOLLAR)])
        refusal = await store.reserve("a", [claim(DAY), claim(MONTH, CENT, 1)])
        assert isinstance(refusal, Refusal)
        assert (refusal.kind, refusal.scope) == (Kind.BUDGET_EXCEEDED, "global")


async def test_the_first_claim_on_an_account_is_checked_too(opened):
    """A hold above the limit does not slip in because the account is new."""
    async with opened() as store:
        assert isinstance(await store.reserve("a", [claim(amount=DOLLAR + 1)]), Refusal)
        assert isinstance(await store.reserve("b", [claim(amount=DOLLAR)]), Hold)


async def test_an_account_without_a_limit_only_counts(opened):
    """Spend is known whether or not somebody limits it."""
    async with opened() as store:
        hold = await store.reserve("a", [claim(amount=5 * DOLLAR, limit=None)])
        assert isinstance(hold, Hold)
        assert hold.least_left_nanousd is None
        assert await balance(store) == (0, 5 * DOLLAR)


async def test_reserving_again_grants_the_same_hold(opened):
    """The retry of a call whose answer was lost sets nothing more aside, also where there is no room any more."""
    async with opened() as store:
        first = await store.reserve("a", [claim(amount=DOLLAR)])
        again = await store.reserve("a", [claim(amount=7)])
        assert isinstance(first, Hold)
        assert isinstance(again, Hold)
        assert (again.call_id, again.amount_nanousd, again.claims) == ("a", DOLLAR, first.claims)
        assert await balance(store) == (0, DOLLAR)


async def test_a_settled_call_is_closed(opened):
    """A reserve that arrives late must not hold money that nobody gives back."""
    async with opened() as store:
        await store.settle(settlement("a", 0, outcome="refused"))
        with pytest.raises(Failure):
            await store.reserve("a", [claim()])
        assert (await balance(store), await store.holds()) == ((0, 0), 0)


async def test_settling_again_changes_nothing(opened):
    """Whoever tells it a second time hears what was booked the first time."""
    async with opened() as store:
        await store.reserve("a", [claim()])
        await store.settle(settlement("a", 3))
        receipt = await store.settle(settlement("a", 999, outcome="cut"))
        assert (receipt.cost_nanousd, receipt.again) == (3, True)
        assert await balance(store) == (3, 0)
        assert (await store.find("a"))["outcome"] == "completed"


async def test_a_call_can_be_settled_that_was_never_held(opened):
    """The store forgot, or was away when the call began: what it cost is booked all the same, past the limit if need be."""
    async with opened() as store:
        await store.settle(settlement("a", 2 * DOLLAR))
        assert await balance(store) == (2 * DOLLAR, 0)
        assert isinstance(await store.reserve("b", [claim(amount=1)]), Refusal)
        assert await store.check() == 0


async def test_a_refused_call_drops_its_hold_without_a_charge(opened):
    """A settlement without accounts leaves a record and nothing else."""
    async with opened() as store:
        await store.reserve("a", [claim()])
        await store.settle(replace(settlement("a", 0, outcome="refused"), accounts=()))
        assert (await balance(store), await store.holds(), await store.check()) == ((0, 0), 0, 0)


async def test_a_hold_can_be_given_back(opened):
    """Release charges nothing, twice as little as once; and a settled call stays settled."""
    async with opened() as store:
        await store.reserve("a", [claim()])
        await store.release("a")
        await store.release("a")
        await store.release("unknown")
        assert (await balance(store), await store.holds()) == ((0, 0), 0)
        await store.settle(settlement("b", 5))
        await store.release("b")
        assert await balance(store) == (5, 0)


async def test_one_that_cannot_be_booked_takes_no_other_with_it(opened):
    """In one batch: what is impossible fails by itself."""
    async with opened() as store:
        good, bad, more = await asyncio.gather(
            store.reserve("a", [claim()]),
            store.reserve("b", [claim(amount=-1)]),
            store.settle(settlement("c", 5)),
            return_exceptions=True,
        )
        assert isinstance(good, Hold)
        assert isinstance(bad, ValueError)
        assert more.cost_nanousd == 5
        assert await balance(store) == (5, CENT)


async def test_asked_in_one_moment_is_done_in_order(opened):
    """Reserve, settle, reserve again, release of another: as if one after the other."""
    async with opened() as store:
        results = await asyncio.gather(
            store.reserve("a", [claim(amount=DOLLAR)]),
            store.settle(settlement("a", 40 * CENT)),
            store.reserve("b", [claim(amount=60 * CENT)]),
            store.release("b"),
            store.reserve("c", [claim(amount=61 * CENT)]),
            store.reserve("d", [claim(amount=60 * CENT)]),
        )
        assert [type(result).__name__ for result in results] == [
            "Hold",
            "Receipt",
            "Hold",
            "NoneType",
            "Refusal",
            "Hold",
        ]
        assert await balance(store) == (40 * CENT, 60 * CENT)


async def test_a_hold_can_be_given_back_and_taken_again_in_one_moment(opened):
    """What stands in the books from before is replaced, whatever comes together."""
    async with opened() as store:
        await store.reserve("a", [claim(amount=7)])
        _, again = await asyncio.gather(store.release("a"), store.reserve("a", [claim(amount=9)]))
        assert isinstance(again, Hold)
        assert (await balance(store), await store.holds(), await store.check()) == ((0, 9), 1, 0)


async def test_records_are_listed_newest_first(opened):
    """With a cursor, and for one correlation id."""
    async with opened() as store:
        await asyncio.gather(*(store.settle(settlement(f"c{at}", at, at=at % 4, tie=f"t{at % 2}")) for at in range(10)))
        order = [record["call_id"] for record in await store.recent(100)]
        assert order == ["c7", "c3", "c6", "c2", "c9", "c5", "c1", "c8", "c4", "c0"]
        assert [record["call_id"] for record in await store.recent(3, before="c6")] == ["c2", "c9", "c5"]
        assert [record["call_id"] for record in await store.recent(2, "c6", "t0")] == ["c2", "c8"]
        assert await store.recent(5, before="nobody") == []
        assert await store.find("nobody") is None


def described(number: int, hours: int = 3, **fields: object) -> Settlement:
    """A call with whatever stands in its record; ``number`` decides when it began, within some hours."""
    at = datetime(2026, 11, 20, 10, tzinfo=UTC) + timedelta(minutes=number * hours * 60 // 64, milliseconds=number)
    started_at = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = {
        **dict.fromkeys(("team", "user", "agent", "key_name", "upstream", "model_requested", "model_served"), ""),
        "call_id": f"d{number}",
        "correlation_id": f"d{number}",
        "outcome": "completed",
        "status": 200,
        "cost_nanousd": 1,
        "started_at": started_at,
        **fields,
    }
    return Settlement(f"d{number}", 1, record["outcome"], (DAY,), orjson.dumps(record), started_at)


async def all_pages(store: Store, wanted: Selection, limit: int) -> list[str]:
    """The ids on all pages, in order."""
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await store.page(wanted, limit, after)
        assert len(page.records) <= limit
        found += [record["call_id"] for record in page.records]
        assert len(found) == len(set(found))
        after = page.following
    return found


SELECTIONS = {
    "everything": Selection(),
    "of a team": Selection(team="a"),
    "of a team with quotes": Selection(team='q"\\\u2603'),
    "without a team": Selection(team=""),
    "of several things": Selection(team="a", user="u1", outcome="completed", upstream="up"),
    "of a key and an agent": Selection(key_name="k", agent="planner"),
    "of a model asked for": Selection(model="gpt-a"),
    "of a model that answered": Selection(model="gpt-b-2026"),
    "of a status": Selection(status=(429, 429)),
    "of a kind of status": Selection(status=(400, 499)),
    "of a correlation id": Selection(correlation_id="run"),
    "of a correlation id that is a call's own": Selection(correlation_id="d4"),
    "of a correlation id, refused": Selection(correlation_id="run", outcome="refused"),
    "since a moment": Selection(since="2026-11-20T11:01:00.000Z"),
    "until a moment": Selection(until="2026-11-20T11:01:00.000Z"),
    "within an hour": Selection(since="2026-11-20T11:10:00.000Z", until="2026-11-20T11:40:00.000Z", team="a"),
    "of a correlation id, for a while": Selection(correlation_id="run", until="2026-11-20T11:40:00.000Z"),
    "at an exact moment": Selection(since="2026-11-20T11:26:15.031Z", until="2026-11-20T11:26:15.032Z"),
    "of nobody": Selection(user="nobody"),
    "before all of them": Selection(until="2026-11-19T00:00:00.000Z"),
    "after all of them": Selection(since="2026-12-01T00:00:00.000Z"),
}


async def test_pages_show_every_record_that_is_wanted_once(opened):
    """Newest first, whatever the size of a page and whatever is wanted."""
    teams, models = ["a", 'q"\\\u2603', ""], [("gpt-a", "gpt-a"), ("gpt-b", "gpt-b-2026"), ("", "")]
    made = [
        described(
            number,
            team=teams[number % 3],
            user=f"u{number % 2}",
            upstream="up" if number % 5 else "other",
            agent="planner" if number % 7 == 0 else "",
            key_name="k" if number % 4 == 0 else "",
            model_requested=models[number % 3][0],
            model_served=models[number % 3][1],
            status=(200, 429, 403, 0)[number % 4],
            outcome="refused" if number % 4 == 1 else "completed",
            correlation_id="run" if number % 2 else f"d{number}",
        )
        for number in range(64)
    ]
    async with opened() as store:
        await store.settle_all(made)
        everything = await store.recent(500)
        assert [record["call_id"] for record in everything] == [f"d{number}" for number in reversed(range(64))]
        found = 0
        for name, wanted in SELECTIONS.items():
            right = [record["call_id"] for record in everything if wanted.takes(record)]
            found += len(right)
            for limit in (1, 7, 64, 500):
                assert await all_pages(store, wanted, limit) == right, (name, limit)
        assert found > 300
        assert (await store.page(Selection(), 5, "nobody")).following is None
        assert (await store.page(Selection(), 5, "nobody")).records == []


async def test_a_page_looks_at_so_many_records_and_no_more(opened):
    """However rare what is wanted is: the page is empty then, and says where to go on."""
    count = 2 * LOOKED_AT_MOST + 100
    async with opened() as store:
        await store.settle_all([described(0, team="rare")])
        for start in range(1, count, 1000):
            await store.settle_all([described(at, hours=0) for at in range(start, min(start + 1000, count))])
        first = await store.page(Selection(team="rare"), 50)
        assert (first.records, first.following) == ([], f"d{count - LOOKED_AT_MOST}")
        second = await store.page(Selection(team="rare"), 50, first.following)
        assert (second.records, second.following) == ([], f"d{count - 2 * LOOKED_AT_MOST}")
        third = await store.page(Selection(team="rare"), 50, second.following)
        assert ([record["call_id"] for record in third.records], third.following) == (["d0"], None)


async def test_the_books_outlive_the_store(opened):
    """Closed and opened again, everything is there; asking a closed one is a failure, closing it twice is none."""
    async with opened() as store:
        await store.settle(settlement("a", 3))
        await store.close()
        for ask in (store.reserve("b", []), store.settle(settlement("a", 1)), store.release("a"), store.holds()):
            with pytest.raises(Failure):
                await ask
    async with opened() as store:
        assert await balance(store) == (3, 0)


async def test_closing_finishes_what_was_asked(opened):
    """Nothing that was handed over is dropped."""
    async with opened() as store:
        asked = [asyncio.ensure_future(store.settle(settlement(f"c{number}", 1))) for number in range(300)]
        await asyncio.sleep(0)
        await store.close()
        assert len(await asyncio.gather(*asked)) == 300
    async with opened() as store:
        assert await balance(store) == (300, 0)


async def test_an_asker_that_left_disturbs_nobody(opened):
    """Cancelled while waiting: carried out all the same, and the others get their answers."""
    async with opened() as store:
        leaving = asyncio.ensure_future(store.reserve("a", [claim()]))
        staying = asyncio.ensure_future(store.reserve("b", [claim()]))
        await asyncio.sleep(0)
        leaving.cancel()
        assert isinstance(await staying, Hold)
        assert await balance(store) == (0, 2 * CENT)


# -- growing holds ------------------------------------------------------------------------------------------------------


async def test_a_hold_can_grow(opened):
    """To the new amounts, all of them or none; asked again it grows no more; what it cost replaces all of it."""
    async with opened() as store:
        await store.reserve("a", [claim(DAY, CENT), claim(MONTH, CENT, None)])
        grown = await store.extend("a", [claim(DAY, 4 * CENT), claim(MONTH, 3 * CENT, None)])
        assert isinstance(grown, Hold)
        assert (grown.amount_nanousd, grown.least_left_nanousd) == (4 * CENT, 96 * CENT)
        assert isinstance(await store.extend("a", [claim(DAY, 4 * CENT)]), Hold)
        assert isinstance(await store.extend("a", [claim(DAY, 2 * CENT)]), Hold)
        assert await store.read([DAY, MONTH]) == [Balance(DAY, 0, 4 * CENT), Balance(MONTH, 0, 3 * CENT)]
        await store.settle(settlement("a", 5, DAY, MONTH))
        assert await store.read([DAY, MONTH]) == [Balance(DAY, 5, 0), Balance(MONTH, 5, 0)]
        assert await store.check() == 0


async def test_a_hold_can_grow_onto_another_account(opened):
    """Of which it held nothing: what it cost replaces that as well."""
    async with opened() as store:
        await store.reserve("a", [claim(DAY, CENT)])
        assert isinstance(await store.extend("a", [claim(DAY, 2 * CENT), claim(MONTH, 3 * CENT, None)]), Hold)
        assert await store.read([DAY, MONTH]) == [Balance(DAY, 0, 2 * CENT), Balance(MONTH, 0, 3 * CENT)]
        assert await store.check() == 0
        await store.settle(settlement("a", 5, DAY))
        assert await store.read([DAY, MONTH]) == [Balance(DAY, 5, 0), Balance(MONTH, 0, 0)]


async def test_a_hold_that_cannot_grow_stays(opened):
    """The refusal says what stands in the way; the call goes on with what it has."""
    async with opened() as store:
        await store.reserve("other", [claim(amount=60 * CENT)])
        await store.reserve("a", [claim(DAY, 30 * CENT), claim(MONTH, 30 * CENT, None)])
        held = await store.extend("a", [claim(MONTH, 50 * CENT, None), claim(DAY, 50 * CENT)])
        assert isinstance(held, Refusal)
        assert (held.kind, held.needed_nanousd, held.held_nanousd) == (Kind.BUDGET_HELD, 20 * CENT, 90 * CENT)
        assert await store.read([DAY, MONTH]) == [Balance(DAY, 0, 90 * CENT), Balance(MONTH, 0, 30 * CENT)]
        exceeded = await store.extend("a", [claim(DAY, 200 * CENT)])
        assert isinstance(exceeded, Refusal)
        assert exceeded.kind is Kind.BUDGET_EXCEEDED
        assert await store.check() == 0


async def test_only_what_is_held_can_grow(opened):
    """A call that was settled, or never held anything, gets nothing by the back door."""
    async with opened() as store:
        await store.settle(settlement("a", 5))
        for call in ("a", "unknown"):
            with pytest.raises(Failure):
                await store.extend(call, [claim()])
        assert await balance(store) == (5, 0)


# -- what is told -------------------------------------------------------------------------------------------------------


async def test_a_budget_that_looks_on_says_what_it_would_have_refused(opened):
    """And refuses nothing."""
    async with opened() as store:
        looking = Claim(DAY, 60 * CENT, None, "trial", "day", RESETS_AT, shadow_nanousd=DOLLAR)
        answers = [await store.reserve(f"c{number}", [looking]) for number in range(3)]
        assert [answer.would_refuse for answer in answers] == [(), ("trial",), ("trial",)]


async def test_what_goes_past_a_limit_is_told(opened):
    """Of each settlement the part beyond; nothing while there is room."""
    async with opened() as store:
        limits = (claim(),)
        first = await store.settle(replace(settlement("a", 90 * CENT), limits=limits))
        second = await store.settle(replace(settlement("b", 30 * CENT), limits=limits))
        third = await store.settle(replace(settlement("c", 5 * CENT), limits=limits))
        again = await store.settle(replace(settlement("c", 5 * CENT), limits=limits))
        past = [[nanousd for _, nanousd in receipt.overdrafts] for receipt in (first, second, third, again)]
        assert past == [[], [20 * CENT], [5 * CENT], []]


async def test_a_threshold_is_told_once(opened):
    """By whom it is crossed, of many at once and of two processes; in a new window again."""
    told: list[Notice] = []
    limits = (replace(claim(), notify_at=(50, 80, 100)),)
    tomorrow = (replace(limits[0], account=Account("team:search", "day:2026-11-21")),)
    async with opened("one") as one, opened("two") as two:
        one.tell = two.tell = told.extend
        await asyncio.gather(
            *(
                store.settle(replace(settlement(f"c{number}", CENT), limits=limits))
                for number, store in enumerate([one, two] * 60)
            )
        )
        await one.settle(replace(settlement("t", 60 * CENT, tomorrow[0].account), limits=tomorrow))
        await until(lambda: _has(told, 4))
        await asyncio.sleep(0.05)
    assert sorted((str(each.account), each.percent) for each in told) == [
        (str(DAY), 50), (str(DAY), 80), (str(DAY), 100), (str(tomorrow[0].account), 50)
    ]  # fmt: skip
    assert all(each.spent_nanousd * 100 >= each.limit_nanousd * each.percent for each in told)


async def test_the_first_refusal_for_want_of_room_is_a_hundred_percent(opened):
    """With holds, spent can end one hold short of a limit for ever."""
    told: list[Notice] = []
    async with opened() as store:
        store.tell = told.extend
        watched = replace(claim(amount=30 * CENT), notify_at=(100,))
        await store.settle(replace(settlement("a", 90 * CENT), limits=(watched,)))
        for call in ("b", "c"):
            assert isinstance(await store.reserve(call, [watched]), Refusal)
        await until(lambda: _has(told, 1))
        await asyncio.sleep(0.05)
    assert [(each.percent, each.spent_nanousd) for each in told] == [(100, 90 * CENT)]


async def test_thresholds_of_a_dead_process_are_told_by_another(opened):
    """It crossed one and died before anybody heard of it."""
    told: list[Notice] = []
    async with opened("one", LEASE_S) as one:
        one.tell = _die
        await one.settle(replace(settlement("a", DOLLAR), limits=(replace(claim(), notify_at=(100,)),)))
        await asyncio.sleep(0.05)
    async with opened("two", LEASE_S) as two:
        two.tell = told.extend
        await until(lambda: _has(told, 1))
        await asyncio.sleep(2 * LEASE_S)
    async with opened("three", LEASE_S) as three:
        three.tell = told.extend
        await asyncio.sleep(2 * LEASE_S)
    assert [each.percent for each in told] == [100]


def _die(notices):
    raise RuntimeError("nobody hears of it")


async def _has(told, count):
    return len(told) >= count


# -- leases -------------------------------------------------------------------------------------------------------------


async def test_a_living_owner_keeps_its_holds(opened):
    """Many leases long, while another process looks for lost calls."""
    async with opened("one", LEASE_S) as one, opened("two", LEASE_S):
        await one.reserve("a", [claim()])
        await asyncio.sleep(4 * LEASE_S)
        assert (await balance(one), await one.find("a")) == ((0, CENT), None)


async def test_the_hold_of_a_dead_owner_is_charged_and_marked(opened):
    """Never zero, never silent: the largest of its claims, on all its accounts, and a record that says lost."""
    async with opened("one", LEASE_S) as one:
        await one.reserve("a", [claim(DAY, CENT), claim(MONTH, 3 * CENT)])
    async with opened("two", LEASE_S) as two:
        await until(lambda: _is_found(two, "a"))
        record = await two.find("a")
        assert record["outcome"] == "lost"
        assert (record["cost_nanousd"], record["held_nanousd"], record["usage_method"]) == (3 * CENT, 3 * CENT, "hold")
        assert (record["team"], record["budgets"]) == ("search", ["search-daily", "search-daily"])
        assert record["accounts"] == [str(DAY), str(MONTH)]
        assert await two.read([DAY, MONTH]) == [Balance(DAY, 3 * CENT, 0), Balance(MONTH, 3 * CENT, 0)]
        assert await two.check() == 0
        assert [found["call_id"] for found in await two.recent(5)] == ["a"]


async def test_a_lost_call_costs_its_mark_where_one_was_set(opened):
    """What it had likely used, raised as its stream grew: not the whole hold."""
    async with opened("one", LEASE_S) as one:
        await one.reserve("a", [claim(amount=50 * CENT)], 3 * CENT)
        await one.extend("a", [claim(amount=60 * CENT)], 7 * CENT)
        await one.reserve("b", [claim(amount=10 * CENT)], 2 * CENT)
        await one.extend("b", [claim(amount=99 * CENT)], 9 * CENT)  # refused, but it did go on
    async with opened("two", LEASE_S) as two:
        await until(lambda: _is_found(two, "a"))
        await until(lambda: _is_found(two, "b"))
        assert await balance(two) == (16 * CENT, 0)
        assert (await two.find("a"))["cost_nanousd"] == 7 * CENT
        assert await two.check() == 0


async def test_a_late_settlement_corrects_a_lost_call(opened):
    """The worker was only away: what was charged for it is replaced by what it cost, once."""
    async with opened("one", LEASE_S) as one:
        await one.reserve("a", [claim(DAY, CENT), claim(MONTH, 3 * CENT)])
    async with opened("two", LEASE_S) as two:
        await until(lambda: _is_found(two, "a"))
        assert not (await two.settle(settlement("a", 7, DAY, MONTH))).again
        assert (await two.settle(settlement("a", 8, DAY, MONTH))).again
        assert await two.read([DAY, MONTH]) == [Balance(DAY, 7, 0), Balance(MONTH, 7, 0)]
        assert (await two.find("a"))["outcome"] == "completed"
        assert await two.check() == 0


async def test_what_was_forgiven_and_then_taken_back_makes_no_room(opened):
    """A call is charged as lost, a reset forgives that, and then the call is settled for little after all: the limit is what it
    was stated to be, and not that and what was forgiven for nothing.
    """
    async with opened("one", LEASE_S) as one:
        await one.reserve("a", [claim(amount=90 * CENT)])
    async with opened("two", LEASE_S) as two:
        await until(lambda: _is_found(two, "a"))
        await two.settle(settlement("a", CENT))

        def after_the_reset(amount: int) -> Claim:
            return replace(claim(amount=amount, limit=DOLLAR + 90 * CENT), forgiven_nanousd=90 * CENT, notify_at=(100,))

        refused = await two.reserve("b", [after_the_reset(101 * CENT)])
        assert (refused.kind, refused.limit_nanousd, refused.spent_nanousd) == (Kind.BUDGET_EXCEEDED, DOLLAR, 0)
        hold = await two.reserve("c", [after_the_reset(99 * CENT)])
        assert hold.least_left_nanousd == CENT
        assert (await two.reserve("d", [after_the_reset(2 * CENT)])).kind is Kind.BUDGET_HELD
        looks_on = replace(after_the_reset(2 * CENT), limit_nanousd=None, shadow_nanousd=DOLLAR + 90 * CENT)
        assert (await two.reserve("e", [looks_on])).would_refuse == ("search-daily",)
        assert await two.check() == 0


async def test_a_late_release_takes_the_charge_of_a_lost_call_back(opened):
    """Nothing was sent, so nothing is owed."""
    async with opened("one", LEASE_S) as one:
        await one.reserve("a", [claim()])
    async with opened("two", LEASE_S) as two:
        await until(lambda: _is_found(two, "a"))
        await two.release("a")
        assert (await balance(two), await two.find("a"), await two.check()) == ((0, 0), None, 0)


async def _is_found(store: Store, call_id: str) -> bool:
    return await store.find(call_id) is not None


# -- sums of spend ------------------------------------------------------------------------------------------------------


async def sums(
    store: Store, since: str = "2026-11-20", until: str = "2026-11-21"
) -> dict[tuple[str, str], tuple[int, ...]]:
    """(hour, dims) -> the first counts; a charge that was taken back may leave a row of zeros. Each combination stands once."""
    found = await store.spend(since, until)
    assert len({(each.hour, each.dims) for each in found}) == len(found)
    return {(each.hour, each.dims): each.counts[:FIRST_COUNTS] for each in found if any(each.counts)}


def spent(call_id: str, team: str, hour: str, *counts: int) -> Settlement:
    """A settlement that adds so much to the sums of an hour."""
    made = settlement(call_id, counts[-1])
    record = orjson.loads(made.record) | {"team": team, "started_at": f"{hour}:30:00.000Z"}
    usage = {"input": counts[3] - counts[4], "cached_input": counts[4], "output": counts[5]}
    outcome = "refused" if counts[2] else "cut" if counts[1] else "completed"
    record |= {"outcome": outcome, "usage": usage, "corrects": "" if counts[0] else "other"}
    return replace(
        made,
        outcome=outcome,
        record=orjson.dumps(record),
        started_at=record["started_at"],
        spend=spend_of(record, USUAL),
    )


def of(team: str) -> str:
    """The dimensions of a call of which nothing else is known."""
    return orjson.dumps({name: team if name == "team" else "" for name in USUAL}).decode()


async def test_spend_is_added_up_by_hour_and_dimensions(opened):
    """However many settle at once and in whichever order; a second settlement of a call adds nothing."""
    async with opened() as store:
        calls = [
            spent(f"{team}-{hour}-{number}", team, f"2026-11-20T{hour}", 1, number % 2, 0, 10, 4, 3, CENT)
            for team in ("a", 'b "\u00e9\n') for hour in ("05", "06") for number in range(50)
        ]  # fmt: skip
        await asyncio.gather(*(store.settle(each) for each in calls))
        await asyncio.gather(*(store.settle(each) for each in calls[::-1]))
        expected = (50, 25, 0, 500, 200, 150, 50 * CENT)
        assert await sums(store) == {
            (f"2026-11-20T{hour}", of(team)): expected for team in ("a", 'b "\u00e9\n') for hour in ("05", "06")
        }
        assert await store.check() == 0


async def test_sums_are_those_of_the_hours_asked_for(opened):
    """From the first one on, to before the last one; days stand for their hours."""
    async with opened() as store:
        for hour in ("2026-11-19T23", "2026-11-20T00", "2026-11-20T23", "2026-11-21T00"):
            await store.settle(spent(hour, "a", hour, 1, 0, 0, 1, 0, 1, 1))
        assert [hour for hour, _ in await sums(store)] == ["2026-11-20T00", "2026-11-20T23"]
        assert [hour for hour, _ in await sums(store, "2026-11-20T23", "2026-11-21T00")] == ["2026-11-20T23"]
        assert len(await sums(store, "", "9999")) == 4
        assert await sums(store, "2026-11-22", "2026-11-23") == {}


async def test_sums_may_fall(opened):
    """A correction takes away what was charged too much, and is no call."""
    async with opened() as store:
        await store.settle(spent("a", "a", "2026-11-20T05", 1, 0, 0, 10, 0, 5, 7))
        await store.settle(replace(spent("a+1", "a", "2026-11-20T05", 0, 0, 0, 0, 0, 0, -9), outcome="corrected"))
        assert await sums(store) == {("2026-11-20T05", of("a")): (1, 0, 0, 10, 0, 5, -2)}


async def test_sums_outlive_the_process(opened):
    """They are settled in the step in which the call is."""
    async with opened("one") as one:
        await one.settle(spent("a", "a", "2026-11-20T05", 1, 0, 0, 10, 0, 5, 7))
    async with opened("two") as two:
        await two.settle(spent("b", "a", "2026-11-20T05", 1, 0, 1, 0, 0, 0, 0))
        assert await sums(two) == {("2026-11-20T05", of("a")): (2, 0, 1, 10, 0, 5, 7)}
        assert await two.check() == 0


@pytest.mark.parametrize("late", ["settled", "released", "never"])
async def test_a_lost_call_is_spend_until_its_own_settlement_comes(opened, late):
    """It counts as a failed call of the team of its hold; what comes late takes exactly that back."""
    async with opened("one", LEASE_S) as one:
        await one.reserve("a", [claim(DAY, CENT), claim(MONTH, 3 * CENT)])
    async with opened("two", LEASE_S) as two:
        await until(lambda: _is_found(two, "a"))
        hour = (await two.find("a"))["started_at"][:13]
        lost = {(hour, of("search")): (1, 1, 0, 0, 0, 0, 3 * CENT)}
        assert await sums(two, "", "9999") == lost
        if late == "settled":
            await two.settle(spent("a", "search", "2026-11-20T05", 1, 0, 0, 10, 0, 5, 7))
            await two.settle(spent("a", "search", "2026-11-20T05", 1, 0, 0, 10, 0, 5, 8))
        elif late == "released":
            await two.release("a")
        settled = {("2026-11-20T05", of("search")): (1, 0, 0, 10, 0, 5, 7)}
        assert await sums(two, "", "9999") == {"settled": settled, "released": {}, "never": lost}[late]
        assert await two.check() == 0


# -- other processes ----------------------------------------------------------------------------------------------------

CHILD = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_store import STORES, claim
from gateway.accounts import Hold

async def main():
    store = STORES[{store!r}](Path({folder!r}), sys.argv[1], 1.0)
    await store.open()
    print("ready", flush=True)
    sys.stdin.readline()
    granted = 0
    for start in range(0, int(sys.argv[2]), 10):
        asked = [store.reserve(f"{{sys.argv[1]}}-{{n}}", [claim()]) for n in range(start, start + 10)]
        granted += sum(isinstance(answer, Hold) for answer in await asyncio.gather(*asked))
    print(granted, flush=True)
    sys.stdin.readline()
    await store.close()

asyncio.run(main())
"""


@pytest.fixture(params=STORES)
def child(request, tmp_path):
    """Starts processes that open the store of this test and reserve cents when they are told to."""
    prepare(request.param, tmp_path)
    started: list[subprocess.Popen[str]] = []

    def start(owner: str, calls: int) -> subprocess.Popen[str]:
        script = CHILD.format(tests=str(Path(__file__).parent), store=request.param, folder=str(tmp_path))
        root = str(Path(__file__).parents[2])
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", script, owner, str(calls)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root},
            )
        )  # fmt: skip
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield start, lambda owner: STORES[request.param](tmp_path, owner, 1.0)
    for process in started:
        process.kill()
        process.communicate()


def say(process: subprocess.Popen[str]) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


async def test_two_processes_share_the_books(child):
    """Together they are granted what there is and not a cent more."""
    start, open_here = child
    processes = [start("one", 200), start("two", 200)]
    for process in processes:
        say(process)
    granted = [int(process.stdout.readline()) for process in processes]
    assert sum(granted) == 100
    store = open_here("three")
    await store.open()
    assert (await balance(store), await store.holds(), await store.check()) == ((0, DOLLAR), 100, 0)
    await store.close()


@pytest.mark.parametrize("successor", ["one", "two"])
async def test_a_killed_process_loses_nothing(child, successor):
    """kill -9 with open holds: its namesake, or after the lease anybody, charges them; records equal counters."""
    start, open_here = child
    process = start("one", 10)
    say(process)
    assert process.stdout.readline() == "10\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = open_here(successor)
    await store.open()
    await until(lambda: _holds_nothing(store))
    assert await balance(store) == (10 * CENT, 0)
    assert {record["outcome"] for record in await store.recent(100)} == {"lost"}
    assert await store.check() == 0
    await store.close()


async def _holds_nothing(store: Store) -> bool:
    return await store.holds() == 0


def this_hour() -> int:
    """Its beginning: tallies of long ago are gone at once."""
    return int(time.time()) // 3600 * 3600


async def test_tallies_of_targets_add_up_over_processes(opened):
    """Whoever adds, in whatever order and however often: one sum for each bucket and target."""
    at = this_hour()
    async with opened("one") as one, opened("two") as two:
        await one.tally([Tally(at, "fast", 3, 1), Tally(at, "odd: name", 1, 0), Tally(at + 300, "fast", 2, 0)])
        await two.tally([Tally(at + 300, "fast", 4, 2), Tally(at, "fast", 10, 0), Tally(at, "fast", 1, 1)])
        await two.tally([])
        expected = [Tally(at, "fast", 14, 2), Tally(at, "odd: name", 1, 0), Tally(at + 300, "fast", 6, 2)]
        for store in (one, two):
            assert await store.tallies(at, at + 600) == expected
    async with opened("three") as later:
        assert await later.tallies(at, at + 600) == expected, "they survive the processes that added them"


async def test_tallies_are_read_from_a_bucket_to_before_another(opened):
    """Over the border of an hour too; of what was never counted there is nothing."""
    at = this_hour()
    rows = [Tally(at + 300 * number, "fast", number + 1, number) for number in range(30)]
    async with opened() as store:
        await store.tally(rows[::-1])
        assert await store.tallies(at, at + 9000) == rows
        assert await store.tallies(at + 1500, at + 5400) == rows[5:18]
        assert await store.tallies(at + 9000, at + 20_000) == []
        assert await store.tallies(at, at) == []
        assert await store.check() == 0


async def test_many_tallies_at_once(opened):
    """More than one statement or packet holds."""
    at = this_hour()
    rows = [Tally(at, f"t{number:03d}", number + 1, number % 2) for number in range(500)]
    async with opened() as store:
        await store.tally(rows)
        await store.tally(rows)
        assert await store.tallies(at, at + 1) == [
            Tally(at, name, 2 * calls, 2 * missed) for _, name, calls, missed in rows
        ]


# -- what pages ask for -------------------------------------------------------------------------------------------------


HOURS = [f"2026-11-20T{hour:02d}" for hour in range(24)]


async def test_a_digest_is_the_sum_of_its_hours_and_days(opened):
    """By any dimension, with hours and days mixed, beside those before; the next one has what came since."""
    async with opened() as store:
        calls = [
            spent(f"c{number}", f"team-{number % 5}", f"2026-11-{19 + number % 2}T{number % 24:02d}", 1, number % 2, 0, number, 0, 1, number)
            for number in range(60)
        ]  # fmt: skip
        await store.settle_all(calls)
        found = await store.digest("team", HOURS, ["2026-11-19"])
        today = [each.spend for each in calls if each.spend.hour.startswith("2026-11-20")]
        before = [each.spend for each in calls if each.spend.hour.startswith("2026-11-19")]
        assert found.totals == tuple(map(sum, zip(*(each.counts for each in today), strict=True)))
        assert found.before == tuple(map(sum, zip(*(each.counts for each in before), strict=True)))
        assert {hour: counts[0] for hour, counts in found.series.items()} == {
            hour: sum(each.hour == hour for each in today) for hour in {each.hour for each in today}
        }
        top = found.top(2)
        assert [name for name, _, _ in top.rows] == ["team-4", "team-2"]
        for name, counts, counts_before in top.rows:
            of_team = [[each.counts for each in some if each.dims == of(name)] for some in (today, before)]
            assert counts == tuple(map(sum, zip(*of_team[0], strict=True)))
            assert counts_before == tuple(map(sum, zip(*of_team[1], strict=True)))
        assert (top.values, top.found) == (5, found.totals)
        assert found.top(9, "AM-3").values == 1
        assert (await store.digest("model", HOURS, [])).top(9).rows == [("", found.totals, (0,) * len(found.totals))]
        assert (await store.digest("nothing", HOURS, [])).top(9).rows == [
            (None, found.totals, (0,) * len(found.totals))
        ]
        await store.settle(spent("late", "team-1", "2026-11-19T03", 1, 0, 0, 5, 0, 5, 1000))
        await store.settle(spent("new", "team-9", "2026-11-20T23", 1, 0, 0, 5, 0, 5, 1000))
        again = await store.digest("team", HOURS, ["2026-11-19"])
        assert again.totals[COST] == found.totals[COST] + 1000
        assert again.before[COST] == found.before[COST] + 1000
        assert again.top(1).rows[0][0] == "team-9"


async def test_the_accounts_of_a_window_come_in_pages(opened):
    """Those that a wildcard stands for and no others, in either order, as they are searched for; each stands on one page."""
    async with opened() as store:
        for number, scope in enumerate(
            ("team:a", "team:B", "team:c", "team:d+e%", "user:x", "user:x+team:a", "team:own")
        ):
            account = Account(scope.replace("+e", "%2Be"), "day:2026-11-20")
            await store.settle(
                settlement(f"c{number}", 100 - number % 3, account, account._replace(window="month:2026-11"))
            )
        await store.reserve("held", [Claim(Account("team:c", "day:2026-11-20"), 50)])
        which = Which("day:2026-11-20", "team:*", 100, without=("team:own",))
        found = await store.accounts(which)
        assert [(each.account.scope, each.spent_nanousd, each.held_nanousd) for each in found] == [
            ("team:c", 98, 50), ("team:a", 100, 0), ("team:d%2Be%", 100, 0), ("team:B", 99, 0),
        ]  # fmt: skip
        assert [each.account.scope for each in await store.accounts(replace(which, search="D%"))] == ["team:d%2Be%"]
        by_name = await store.accounts(replace(which, by_use=False, limit=3))
        assert [each.account.scope for each in by_name] == ["team:B", "team:a", "team:c"]
        rest = await store.accounts(replace(which, by_use=False, after="team:c"))
        assert [each.account.scope for each in rest] == ["team:d%2Be%"]
        rest = await store.accounts(replace(which, most_used=100, after="team:a"))
        assert [each.account.scope for each in rest] == ["team:d%2Be%", "team:B"]
        both = await store.accounts(Which("day:2026-11-20", "user:*+team:*", 9))
        assert [str(each.account) for each in both] == ["user:x+team:a/day:2026-11-20"]
        assert await store.accounts(Which("day:2026-11-21", "team:*", 9)) == []


async def test_estimates_and_missing_prices_are_summed(opened):
    """What is not known of a row of an earlier version stays unknown, and is no difference to its records."""
    async with opened() as store:
        made = settlement("a", 5)
        record = orjson.loads(made.record) | {"usage_source": "estimated", "unpriced": True}
        made = replace(made, record=orjson.dumps(record), spend=spend_of(record, USUAL))
        await store.settle(made)
        (found,) = await store.spend("2026-11-20", "2026-11-21")
        assert found.counts[FIRST_COUNTS:] == (1, 1)
        old = replace(made, call_id="b", record=orjson.dumps(record | {"call_id": "b"}))
        await store.settle(replace(old, spend=replace(made.spend, counts=made.spend.counts[:FIRST_COUNTS])))
        (found,) = await store.spend("2026-11-20", "2026-11-21")
        assert found.counts == (2, 0, 0, 0, 0, 0, 10)
        await store.settle(replace(made, call_id="c", record=orjson.dumps(record | {"call_id": "c"})))
        (found,) = await store.spend("2026-11-20", "2026-11-21")
        assert found.counts == (3, 0, 0, 0, 0, 0, 15)
        assert await store.check() == 0
        assert (await store.digest("team", HOURS, [])).totals == (3, 0, 0, 0, 0, 0, 15, 0, 0)
