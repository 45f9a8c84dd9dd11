"""What every store promises of limits: never more than is allowed, places given back exactly once, all or none with the budgets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from dataclasses import replace

from gateway.accounts import PLACES, REQUESTS, TOKENS, Hold, Use
from gateway.errors import Kind, Refusal
from tests.promise.test_store import CENT, DAY, DOLLAR, LEASE_S, balance, claim, opened, settlement, until

__all__ = ["opened"]


def use(unit: str, allowed: int, amount: int = 1, scope: str = "team:search") -> Use:
    return Use(scope, unit, amount, allowed, "team:*")


async def reserve(store, call_id, *uses, claims=()):
    return await store.reserve(call_id, claims, uses=uses)


def over(call_id, *uses, tokens=None, cost=0):
    return replace(settlement(call_id, cost), uses=uses, tokens=tokens)


def refused(answer) -> tuple[str, int, int]:
    """Unit, what is used, the wait."""
    assert isinstance(answer, Refusal), answer
    assert (answer.kind, answer.excess.limit, answer.excess.scope) == (Kind.RATE_LIMIT, "team:*", "team:search")
    return answer.excess.unit, answer.excess.used, answer.retry_after_ms


async def test_so_many_requests_as_are_allowed_and_then_one_after_the_other(opened):
    """A burst of all there are at once; the wait that a refusal names is long enough, and hardly longer."""
    async with opened() as store:
        asked = use(REQUESTS, 300)
        answers = await asyncio.gather(*(reserve(store, f"c{number}", asked) for number in range(400)))
        let_in = sum(isinstance(answer, Hold) for answer in answers)
        assert 300 <= let_in <= 310  # five a second leak while they ask
        last = answers[-1] if isinstance(answers[-1], Refusal) else await reserve(store, "x", asked)
        unit, used, wait_ms = refused(last)
        assert (unit, used) == (REQUESTS, 300)
        assert 0 < wait_ms <= 200
        await asyncio.sleep(wait_ms / 1000)
        assert isinstance(await reserve(store, "later", asked), Hold)


async def test_the_same_call_is_counted_once(opened):
    """Asking again grants what was granted: a retry inside the gateway is no request of the app's."""
    async with opened() as store:
        asked = (use(REQUESTS, 2), use(PLACES, 2))
        for _ in range(5):
            assert isinstance(await reserve(store, "a", *asked), Hold)
        assert isinstance(await reserve(store, "b", *asked), Hold)
        assert refused(await reserve(store, "c", *asked))[0] == REQUESTS


async def test_places_come_back_exactly_once_however_a_call_ends(opened):
    """Settled, settled twice, released, released after that: never more free places than there are."""
    async with opened() as store:
        places = use(PLACES, 2)
        for ending in range(6):
            names = (f"a{ending}", f"b{ending}")
            for name in names:
                assert isinstance(await reserve(store, name, places), Hold), ending
            assert refused(await reserve(store, f"x{ending}", places))[:2] == (PLACES, 2)
            for name in names:
                if ending % 3 == 0:
                    await store.settle(over(name, places))
                    await store.settle(over(name, places))
                elif ending % 3 == 1:
                    await store.release(name)
                    await store.release(name)
                else:
                    await store.settle(over(name))  # whoever settles need not know of them
        assert isinstance(await reserve(store, "last", places), Hold)


async def test_all_or_none_of_limits_and_budgets(opened):
    """Where one says no, nothing of the others is used up."""
    async with opened() as store:
        assert isinstance(await reserve(store, "full", use(PLACES, 1)), Hold)
        for number in range(5):
            blocked = (use(REQUESTS, 2, scope="global"), use(PLACES, 1))
            assert refused(await reserve(store, f"p{number}", *blocked, claims=[claim()]))[0] == PLACES
        assert await balance(store) == (0, 0)
        for number in range(5):
            answer = await reserve(store, f"m{number}", use(REQUESTS, 2), claims=[claim(amount=2 * DOLLAR)])
            assert isinstance(answer, Refusal)
            assert answer.kind is Kind.BUDGET_EXCEEDED
        granted = [await reserve(store, f"g{number}", use(REQUESTS, 2), claims=[claim()]) for number in range(2)]
        assert all(isinstance(answer, Hold) for answer in granted)
        assert await balance(store) == (0, 2 * CENT)


async def test_tokens_are_set_aside_and_corrected(opened):
    """What was guessed too much is free at once; what was guessed too little is owed."""
    async with opened() as store:
        asked = use(TOKENS, 1000, amount=600)
        assert isinstance(await reserve(store, "a", asked), Hold)
        unit, used, wait_ms = refused(await reserve(store, "b", asked))
        assert unit == TOKENS
        assert 590 <= used <= 600
        assert 11_000 <= wait_ms <= 12_000  # 200 tokens of a thousand a minute
        await store.settle(over("a", asked, tokens=100))
        assert isinstance(await reserve(store, "b", asked), Hold)
        await store.settle(over("b", asked, tokens=3000))
        unit, used, wait_ms = refused(await reserve(store, "c", use(TOKENS, 1000, amount=1)))
        assert 3000 <= used <= 3100
        assert 115_000 <= wait_ms <= 127_000


async def test_tokens_that_nobody_counted_stay_as_they_were_guessed(opened):
    """Neither free nor dearer."""
    async with opened() as store:
        asked = use(TOKENS, 1000, amount=900)
        await reserve(store, "a", asked)
        await store.settle(over("a", asked, tokens=None))
        assert refused(await reserve(store, "b", asked))[0] == TOKENS


async def test_a_call_larger_than_the_whole_limit_is_not_told_to_come_back(opened):
    """Waiting would not help."""
    async with opened() as store:
        answer = await reserve(store, "a", use(TOKENS, 1000, amount=1001))
        assert refused(answer) == (TOKENS, 0, 0)
        assert not answer.may_retry


async def test_the_longest_wait_is_told(opened):
    """Of several limits that have no room: after it, all of them have."""
    async with opened() as store:
        asked = (use(TOKENS, 1000, amount=600), use(REQUESTS, 1), use(PLACES, 1))
        await reserve(store, "a", *asked)
        for order in (asked, asked[::-1]):
            unit, used, wait_ms = refused(await reserve(store, "b", *order))
            assert (unit, used) == (REQUESTS, 1)
            assert 50_000 < wait_ms <= 60_000


async def test_limits_of_one_scope_do_not_touch_those_of_another(opened):
    """A team is not slowed by its neighbour; a number of tokens is no number of requests."""
    async with opened() as store:
        for scope in ("team:a", "team:b", "team:a+model:x"):
            assert isinstance(await reserve(store, scope, use(REQUESTS, 1, scope=scope)), Hold)
        assert isinstance(await reserve(store, "tokens", use(TOKENS, 1, scope="team:a")), Hold)


async def test_a_limit_that_is_changed_holds_for_the_next_call(opened):
    """What has been counted counts on under the new one."""
    async with opened() as store:
        for number in range(3):
            assert isinstance(await reserve(store, f"c{number}", use(REQUESTS, 3)), Hold)
        assert refused(await reserve(store, "d", use(REQUESTS, 3)))[0] == REQUESTS
        assert isinstance(await reserve(store, "e", use(REQUESTS, 5)), Hold)
        assert refused(await reserve(store, "f", use(REQUESTS, 2)))[0] == REQUESTS


async def test_two_processes_share_a_limit(opened):
    """As many as one would let in."""
    async with opened("one") as one, opened("two") as two:
        both = (one, two)
        asked = (use(REQUESTS, 60), use(PLACES, 40))
        answers = await asyncio.gather(*(reserve(both[n % 2], f"c{n}", *asked) for n in range(100)))
        granted = [f"c{n}" for n, answer in enumerate(answers) if isinstance(answer, Hold)]
        assert len(granted) == 40
        for number, name in enumerate(granted):
            await both[number % 2].settle(over(name, *asked))
        again = await asyncio.gather(*(reserve(both[n % 2], f"d{n}", *asked) for n in range(100)))
        assert 20 <= sum(isinstance(answer, Hold) for answer in again) <= 30


CHILD = """
import asyncio, sys
from pathlib import Path
from gateway.accounts import Use
from tests.promise.test_store import STORES
async def main():
    store = STORES[sys.argv[1]](Path(sys.argv[2]), "child", float(sys.argv[3]))
    await store.open()
    for number in range(3):
        await store.reserve(f"child-{number}", [], uses=[Use("team:search", "concurrent", 1, 3, "team:*")])
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_places_of_a_killed_process_come_back_after_its_lease(opened, request, tmp_path):
    """Not before: it may only be slow."""
    kind = request.node.callspec.params["opened"]
    async with opened("other", LEASE_S) as store:
        child = subprocess.Popen([sys.executable, "-c", CHILD, kind, str(tmp_path), "2"], stdout=subprocess.PIPE)
        try:
            assert child.stdout is not None
            assert await asyncio.to_thread(child.stdout.readline) == b"ready\n"
            places = use(PLACES, 3)
            assert refused(await reserve(store, "a", places))[:2] == (PLACES, 3)
        finally:
            child.kill()
            child.communicate()
        killed = time.monotonic()
        names = iter(range(1000))

        async def is_free() -> bool:
            return isinstance(await reserve(store, f"n{next(names)}", places), Hold)

        await until(is_free)
        assert time.monotonic() - killed > 0.5
        assert [isinstance(await reserve(store, f"m{number}", places), Hold) for number in range(3)] == [
            True,
            True,
            False,
        ]
        assert await store.check() == 0


async def test_a_call_without_a_budget_has_a_place_and_costs_nothing(opened):
    """What no provider bills is limited all the same; its hold is of nothing."""
    async with opened() as store:
        assert isinstance(await reserve(store, "a", use(PLACES, 1)), Hold)
        assert isinstance(await reserve(store, "a", use(PLACES, 1)), Hold)
        assert await store.holds() == 1
        receipt = await store.settle(replace(over("a", use(PLACES, 1)), accounts=()))
        assert receipt.cost_nanousd == 0
        assert await store.holds() == 0
        assert (await store.read([DAY]))[0].spent_nanousd == 0
