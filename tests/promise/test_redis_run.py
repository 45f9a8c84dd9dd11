"""What one run of the script remembers of its own steps is what stands in Redis."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

import orjson
import pytest

from gateway.accounts import Account, Claim
from gateway.call import CORRECTED
from gateway.store import Settlement, Spend
from gateway.store.journal import Journal
from gateway.store.keys import Keys
from gateway.store.redis_lane import Lane
from gateway.store.redis_link import Link
from gateway.store.redis_recovery import recover
from gateway.store.redis_script import Times
from gateway.store.redis_steps import Release, Reserve
from gateway.store.rollups import USUAL, spend_of
from tests.harness.redis_servers import shared

DAY = Account("global", "day:2026-11-20")
HOUR = "2026-11-20T10"
EXACT = 1 << 53
"""Past it, a Lua number has not every integer."""


@pytest.fixture
async def lane(tmp_path):
    """Its steps go out as they are given, in one run."""
    server = shared("redis")
    if server is None:
        pytest.skip("there is no Redis server on this machine")
    link = Link(server.url, 5.0)
    journal = Journal(tmp_path, sync=False)
    journal.open(0.0)
    lane = Lane(link, Keys(secrets.token_hex(6)), "me", journal, Times(1e9))
    await link.open()
    await recover(lane)
    yield lane
    journal.close()
    await link.close()


def settlement(call_id: str, cost: int, outcome: str = "completed") -> Settlement:
    started_at = f"{HOUR}:00:00.000Z"
    record = {
        "call_id": call_id,
        "correlation_id": "x",
        "cost_nanousd": cost,
        "outcome": outcome,
        "started_at": started_at,
    }
    return Settlement(call_id, cost, outcome, (DAY,), orjson.dumps(record), started_at, spend=spend_of(record, USUAL))


def kept_by_the_hour(lane: Lane, call_id: str) -> list[str]:
    """The keys that a settlement writes, and that go by themselves."""
    keys = lane.keys
    sums = [keys.sums(HOUR), keys.sums(HOUR[:10])]
    return [keys.account(str(DAY)), keys.record(call_id), keys.starts(HOUR), keys.correlated("x"), *sums]


async def ends_of(lane: Lane, names: list[str]) -> list[int]:
    return [await lane.link.commands.ttl(name) for name in names]


async def test_what_a_run_has_emptied_and_filled_again_still_has_an_end(lane):
    """A key that loses its last field is gone, and what takes its place is another one, kept for ever unless it is told."""
    await lane.run_steps([lane.settle_step(settlement("a", 5, "lost"))])
    lost = lane.settle_step(settlement("b", 7, "lost"))
    await lane.run_steps([Release("a"), lost, Release("b"), lane.settle_step(settlement("b", 7))])
    assert min(await ends_of(lane, kept_by_the_hour(lane, "b"))) > 0
    assert await lane.link.commands.hget(lane.keys.account(str(DAY)), "s") == b"7"


async def test_sums_that_come_to_nothing_in_between_still_have_an_end(lane):
    """A correction takes away what an earlier one has added."""
    costs = {"a": 5, "b": -5, "c": 7}
    made = {name: Spend(HOUR, '{"team":"a"}', (0, 0, 0, 0, 0, 0, cost)) for name, cost in costs.items()}
    await lane.run_steps(
        [
            lane.settle_step(replace(settlement(name, costs[name], CORRECTED), spend=spend))
            for name, spend in made.items()
        ]
    )
    assert min(await ends_of(lane, kept_by_the_hour(lane, "c"))) > 0


async def test_all_settlements_of_a_run_have_an_end(lane):
    """It is set once for what they share."""
    await lane.run_steps([lane.settle_step(settlement(name, 1)) for name in "abc"])
    for name in "abc":
        assert min(await ends_of(lane, kept_by_the_hour(lane, name))) > 0


async def test_balances_past_what_a_number_has_are_told_to_the_last_digit(lane):
    """Moved and looked at in one run, where it is remembered."""
    spent = (EXACT, EXACT - 1, 2)
    claim = Claim(DAY, 3, 1 << 60, "global", "day", 1_795_219_200)
    steps = [lane.settle_step(settlement(str(number), each)) for number, each in enumerate(spent)]
    *_, first, second = await lane.run_steps([*steps, Reserve("a", (claim,), None), Reserve("b", (claim,), None)])
    assert first.least_left_nanousd == (1 << 60) - sum(spent) - 3
    assert second.least_left_nanousd == (1 << 60) - sum(spent) - 6


async def test_a_run_that_is_asked_again_answers_all_steps_in_order(lane):
    """A hold on accounts that its settlement does not name: the books ask for their keys, and go on from there."""
    other = Account("team:a", "day:2026-11-20")
    await lane.run_steps([Reserve("b", (Claim(other, 3),), None)])
    steps = [
        Reserve("a", (Claim(DAY, 1),), None),
        lane.settle_step(settlement("b", 2)),
        Reserve("c", (Claim(DAY, 1),), None),
    ]
    one, two, three = await asyncio.wait_for(lane.run_steps(steps), 10)
    assert (one.call_id, two.call_id, two.cost_nanousd, three.call_id) == ("a", "b", 2, "c")
    assert await lane.link.commands.hmget(lane.keys.account(str(other)), "s", "h") == [None, b"0"]
