"""The same interleavings against the books in Redis, which also forget everything, or the latest, at any moment."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.accounts import Hold, account_of
from gateway.call import Receipt
from gateway.errors import Failure, Kind, Refusal
from gateway.store import Settlement, Spend, redis_queries
from gateway.store.digest import COST
from gateway.store.journal import Journal
from gateway.store.keys import Keys
from gateway.store.redis_lane import Lane
from gateway.store.redis_link import Link, Lost
from gateway.store.redis_recovery import recover
from gateway.store.redis_script import Times
from gateway.store.redis_steps import Release, Reserve, Step
from tests.harness.redis_servers import shared
from tests.properties.test_store_machine import LIMITS, Napkin, calls, claims, some_accounts

HOUR = "2026-11-20T00"


@pytest.fixture(autouse=True)
def _server():
    if shared("redis") is None:
        pytest.skip("there is no Redis server on this machine")


class Books(RuleBasedStateMachine):
    """Operations pile up into a batch; ``commit`` sends it as one run; ``forget`` takes the books away behind its back."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.link = Link(f"{shared('redis').url}?db=1", 5.0)  # by itself: looking for differences goes through all keys
        self.keys = Keys(secrets.token_hex(6))
        self.journal = Journal(Path(self.folder.name), sync=False)
        self.journal.open(0.0)
        self.lane = Lane(self.link, self.keys, "me", self.journal, Times(1e9))
        self.napkin = Napkin()
        self.batch: list[tuple[Any, ...]] = []
        self.do(self.link.open())
        self.do(self.recover())

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(what)

    async def recover(self) -> None:
        """Its lease is over at once, so that every hold may lapse."""
        await recover(self.lane)
        await self.link.commands.zrem(self.keys.owners, self.lane.owner)

    def teardown(self) -> None:
        self.do(self.wipe())
        self.do(self.link.close())
        self.journal.close()
        self.loop.close()
        self.folder.cleanup()

    async def wipe(self) -> None:
        names = [name async for name in self.link.commands.scan_iter(f"{{{self.keys.prefix}}}*")]
        if names:
            await self.link.commands.delete(*names)

    @rule(call=calls, made=claims)
    def reserve(self, call, made):
        self.batch.append(("reserve", call, made))

    @rule(call=calls, made=claims)
    def extend(self, call, made):
        self.batch.append(("extend", call, made))

    @rule(call=calls, cost=st.integers(0, 20), accounts=some_accounts)
    def settle(self, call, cost, accounts):
        self.batch.append(("settle", call, cost, accounts))

    @rule(call=calls)
    def release(self, call):
        """Nobody releases a call and settles it in one moment, which only a journal could not tell apart."""
        self.commit()
        self.batch.append(("release", call))
        self.commit()

    @rule(call=calls)
    def lapse(self, call):
        """The next batch begins with it: a lapse looks at a hold before it is sent."""
        self.commit()
        self.batch.append(("lapse", call))
        self.commit()

    @rule()
    def commit(self):
        """Every operation answers what the napkin says."""
        steps = [step for step in map(self.step, self.batch) if step is not None]
        operations = [each for each in self.batch if each[0] != "lapse" or self.seen(each[1]) is not None]
        answers = self.do(self.lane.run_steps(steps)) if steps else []
        for operation, answer in zip(operations, answers, strict=True):
            expected = self.expected(operation)
            assert self.outcome(operation, answer) == expected, operation
        self.batch = []

    @precondition(lambda self: not self.batch)
    @rule()
    def forget(self):
        """The server was emptied: whoever asks next is told so, and afterwards everything stands there again."""
        self.do(self.wipe())
        with pytest.raises(Lost):
            self.do(self.lane.run_steps([Release("nobody")]))
        self.do(self.recover())

    def seen(self, call: str) -> bytes | None:
        return self.do(self.link.commands.hget(self.keys.holds, call))

    def step(self, operation: tuple[Any, ...]) -> Step | None:
        kind, call, *rest = operation
        if kind in ("reserve", "extend"):
            return Reserve(call, tuple(rest[0]), None, kind)
        if kind == "release":
            return Release(call)
        if kind == "settle":
            settlement = self.settlement(call, rest[0], "completed", rest[1])
            self.journal.owe([settlement])
            return self.lane.settle_step(settlement)
        text = self.seen(call)
        if text is None:
            return None
        hold = orjson.loads(text)
        accounts = [account_of(name) for name in dict.fromkeys(part[0] for part in hold["p"])]
        lost = self.settlement(call, int(hold["m"]), "lost", accounts)
        self.journal.owe([lost])
        return self.lane.settle_step(lost, text)

    def settlement(self, call: str, cost: int, outcome: str, accounts: list[Any]) -> Settlement:
        record = orjson.dumps({"call_id": call, "correlation_id": call})
        return Settlement(call, cost, outcome, tuple(accounts), record, f"{HOUR}:00:00.000Z", spend=spend_of_cost(cost))

    def outcome(self, operation: tuple[Any, ...], answer: Any) -> str | None:
        if isinstance(answer, Failure):
            return "closed"
        if isinstance(answer, Refusal):
            return "exceeded" if answer.kind is Kind.BUDGET_EXCEEDED else "held"
        if isinstance(answer, Hold):
            return "granted"
        if isinstance(answer, Receipt) and operation[0] == "settle":
            return "again" if answer.again else "booked"
        return None

    def expected(self, operation: tuple[Any, ...]) -> str | None:
        kind, call, *rest = operation
        if kind == "settle":
            return self.napkin.settle(call, rest[0], rest[1], spend_of_cost(rest[0]))
        return getattr(self.napkin, kind)(call, *rest)

    @invariant()
    def the_books_agree(self):
        """Balances, holds, and sums of spend are what the napkin says; nothing differs from what stands behind it."""
        for account in LIMITS:
            found = self.do(self.link.commands.hmget(self.keys.account(str(account)), "s", "h"))
            assert tuple(int(each or 0) for each in found) == self.napkin.balance(account)
        assert self.do(self.link.commands.hlen(self.keys.holds)) == len(self.napkin.held)
        assert self.do(redis_queries.differences(self.link, self.keys)) == []
        sums = self.do(redis_queries.spend(self.link, self.keys, "", "9"))
        charged = [cost for cost, _, _ in self.napkin.charged.values()]
        assert sum(each.counts[0] for each in sums) == len(charged)
        assert sum(each.counts[COST] for each in sums) == sum(charged)


def spend_of_cost(cost: int) -> Spend:
    """One call."""
    return Spend(HOUR, '{"team":"a"}', (1, 0, 0, 0, 0, 0, cost))


TestRedisBooks = Books.TestCase
TestRedisBooks.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
