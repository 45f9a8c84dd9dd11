"""The settler when things go wrong: what a store cannot take now is owed, what it can never take is told, all in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.accounts import Account, Claim, Hold, Use
from gateway.call import Ask, Call, Caller, Ending, Metered, Receipt, Record, Request
from gateway.errors import Failure, Kind, Refusal, Whose
from gateway.record import record_of
from gateway.settle import BATCH_CALLS, QUEUE_CALLS, Finished, Settler
from gateway.store import Settlement
from gateway.store.sqlite import SqliteStore
from pricing.money import Cost
from pricing.usage import Usage

ACCOUNT = Account("team:a", "day:2026-11-21")


class Moody(SqliteStore):
    """A real store whose way to the writer can be closed."""

    def __init__(self) -> None:
        super().__init__(":memory:", lease_s=60, durability="normal", retention_s=86400, owner="test")
        self.ill = False
        self.asked: list[list[str]] = []
        self.settlements: list[Settlement] = []

    async def settle_all(self, settlements: Sequence[Settlement]) -> list[Receipt | Failure]:
        self.asked.append([each.call_id for each in settlements])
        self.settlements += settlements
        if self.ill:
            return [Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, "The store is ill.") for _ in settlements]
        return await super().settle_all(settlements)


def finished(call_id: str, cost_nanousd: int = 7) -> Finished:
    """A call that was admitted, answered and priced."""
    claim = Claim(ACCOUNT, 10)
    call = Call(call_id, time.time(), time.monotonic_ns())
    call.request = Request(
        "POST", "/v1/chat/completions", (), {}, "openai", "openai", "/v1/chat/completions", "openai", b""
    )
    call.ask, call.caller = Ask("chat", metered=True, model="m"), Caller(team="a", correlation_id=call_id)
    call.claims, call.hold = (claim,), Hold(call_id, 10, (claim,))
    call.ending = Ending("completed", status=200, ended_ns=time.monotonic_ns())
    call.usage, call.cost = Metered(Usage(output=1), "provider"), Cost(cost_nanousd)
    watch: Any = SimpleNamespace(
        dialect=SimpleNamespace(follows=False), snapshot=SimpleNamespace(compare_every=0)
    )  # everything else that it would tell is on the call already
    return Finished(call, watch)


async def spent(store: SqliteStore) -> int:
    return (await store.read([ACCOUNT]))[0].spent_nanousd


async def test_an_ill_store_is_asked_again_until_it_has_everything(caplog: pytest.LogCaptureFixture) -> None:
    """One line in the log when it begins, no cent lost, and the records are told at once."""
    store, told = Moody(), []
    await store.open()
    settler = Settler(store, lambda batch: told.extend(batch.records))
    store.ill = True
    with caplog.at_level(logging.ERROR, "gateway.settle"):
        for number in range(BATCH_CALLS + 5):
            await settler.settle([finished(f"c{number}")])
    assert (len(told), settler.depth, await spent(store)) == (BATCH_CALLS + 5, BATCH_CALLS + 5, 0)
    assert len(caplog.records) == 1
    store.ill = False
    await settler.close()
    assert (settler.depth, await spent(store)) == (0, 7 * (BATCH_CALLS + 5))
    await store.close()


async def test_a_long_batch_is_told_in_parts_with_running_calls_between() -> None:
    """256 records take all sinks together 3.5 ms; in order, each once, and before anything else happens to them."""
    store, told, steps = Moody(), [], [0]
    await store.open()

    async def run() -> None:
        while True:
            steps[0] += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(run())
    settler = Settler(store, lambda batch: told.append((steps[0], [each.call_id for each in batch.records])))
    calls = [f"c{number}" for number in range(BATCH_CALLS)]
    await settler.settle([finished(call_id) for call_id in calls])
    running.cancel()
    assert [call_id for _, told_ids in told for call_id in told_ids] == calls
    assert max(len(told_ids) for _, told_ids in told) <= 64
    assert len({step for step, _ in told}) == len(told)
    await store.close()


@pytest.mark.parametrize(
    ("metered", "is_held", "tokens"),
    [
        (Metered(Usage(input=5, cached_input=20, output=7, reasoning=3), "provider"), True, 35),
        (Metered(Usage(), ""), True, 0),
        (Metered(Usage(), "estimated", "hold"), True, None),
        (Metered(Usage(output=9), "counted"), False, None),
    ],
    ids=["told", "nothing billed", "could not be counted", "went on without the store"],
)
async def test_limits_get_back_what_a_call_did_not_use(metered: Metered, is_held: bool, tokens: int | None) -> None:
    """All tokens read and written, cached ones too; where nobody knows them, what was guessed stays. Only what was granted."""
    store = Moody()
    await store.open()
    each = finished("c1")
    each.call.uses = (Use("team:a", "tokens_per_minute", 50, 1000, "x"),)
    each.call.usage = metered
    each.call.hold = each.call.hold if is_held else None
    await Settler(store, lambda batch: None).settle([each])
    (settlement,) = store.settlements
    assert (settlement.uses, settlement.tokens) == (each.call.uses if is_held else (), tokens)
    await store.close()


async def test_what_is_still_owed_at_the_end_is_told_with_its_amount(caplog: pytest.LogCaptureFixture) -> None:
    """The log is then the only book."""
    store = Moody()
    await store.open()
    settler = Settler(store, lambda batch: None)
    store.ill = True
    await settler.settle([finished("c1", 5), finished("c2", 6)])
    with caplog.at_level(logging.ERROR, "gateway.settle"):
        await settler.close()
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if line.startswith("not booked")] == [
        "not booked: call c1, 5 nano-dollars",
        "not booked: call c2, 6 nano-dollars",
    ]
    assert len(store.asked) == 2
    await store.close()


async def test_one_settlement_that_can_never_be_booked_keeps_none_back(caplog: pytest.LogCaptureFixture) -> None:
    """It is told with its amount, the others are booked and told, and nothing is asked for ever."""
    store, told = Moody(), []
    await store.open()
    settler = Settler(store, lambda batch: told.extend(batch.records))
    with caplog.at_level(logging.ERROR):
        await settler.settle([finished("c1"), finished("huge", 1 << 60), finished("c2")])
    assert await spent(store) == 14
    assert [record.call_id for record in told] == ["c1", "huge", "c2"]
    assert settler.depth == 0
    assert f"not booked: call huge, {1 << 60} nano-dollars" in [record.getMessage() for record in caplog.records]
    await settler.close()
    await store.close()


async def test_a_call_that_cannot_be_written_down_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong with it: the others of its batch are booked and told, and the log names it."""
    store, told = Moody(), []
    await store.open()
    settler = Settler(store, lambda batch: told.extend(each.call_id for each in batch.records))
    batch = [finished("a"), finished("b"), finished("c")]
    broken: Any = "no ending"
    batch[1].call.ending = broken
    with caplog.at_level(logging.ERROR, "gateway.settle"):
        await settler.settle(batch)
    assert (told, await spent(store)) == (["a", "c"], 14)
    assert "a bug while settling call b" in caplog.text
    await store.close()


async def test_a_full_queue_makes_the_caller_do_the_work() -> None:
    """Nothing is dropped, memory has a bound."""
    store = Moody()
    await store.open()
    told: list[Record] = []
    settler = Settler(store, lambda batch: told.extend(batch.records))
    accepted = sum(settler.submit(finished(f"c{number}")) for number in range(QUEUE_CALLS + 3))
    assert accepted == QUEUE_CALLS
    settler.start()
    await settler.close()
    assert len(told) == QUEUE_CALLS
    assert await spent(store) == 7 * QUEUE_CALLS
    await store.close()


async def test_a_sick_store_gets_well_while_the_settler_runs() -> None:
    """Nobody has to come by: what is owed is paid a second later, also when no call comes any more."""
    store = Moody()
    await store.open()
    settler = Settler(store, lambda batch: None)
    settler.start()
    store.ill = True
    settler.submit(finished("c1"))
    async with asyncio.timeout(10):
        while not store.asked:
            await asyncio.sleep(0.01)
        store.ill = False
        while await spent(store) != 7:
            await asyncio.sleep(0.01)
    await settler.close()
    await store.close()


async def test_a_call_is_open_from_its_end_until_it_is_in_the_books() -> None:
    """Whoever asks for its cost in between must not hear that there is no such call."""
    store = Moody()
    await store.open()
    settler = Settler(store, lambda batch: None)
    store.ill = True
    assert not settler.is_open("c1")
    settler.submit(finished("c1"))
    assert settler.is_open("c1")
    settler.start()
    async with asyncio.timeout(10):
        while settler.depth != 1 or not store.asked:
            await asyncio.sleep(0.01)
        assert settler.is_open("c1")
        store.ill = False
        while settler.is_open("c1"):
            await asyncio.sleep(0.01)
    assert await spent(store) == 7
    await settler.close()
    await store.close()


def test_the_budget_that_refused_a_call_stands_first() -> None:
    """The metric of refusals reads it there."""
    call = Call("c", 1.0, 0)
    names = ("team", "global", "user")
    call.claims = tuple(Claim(Account(name, "day"), 1, 1, budget=name) for name in names)
    assert record_of(call).budgets == names
    call.refusal = Refusal(Kind.BUDGET_EXCEEDED, "no room", budget="global")
    assert record_of(call).budgets == ("global", "team", "user")


async def test_a_model_without_a_price_is_told_once() -> None:
    """With its provider."""
    store = Moody()
    await store.open()
    settler = Settler(store, lambda batch: None)
    calls = [finished(f"c{number}") for number in range(5)]
    for each, model in zip(calls, ("new", "new", "odd\nline", "new", "other"), strict=True):
        each.call.ask = Ask("chat", metered=True, model=model)
        each.call.cost = Cost(7, unpriced=model != "other")
    told: list[tuple[str, str]] = []
    settler.on_unpriced = lambda record: told.append((record.provider, record.model_requested))
    await settler.settle(calls)
    assert told == [("openai", "new"), ("openai", "odd\nline")]
    await settler.close()
    await store.close()
