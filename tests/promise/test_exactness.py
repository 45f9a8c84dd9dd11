"""Strict budgets are exact: 500 calls at once, one to four processes' stores, twenty seeds, every kind of store."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from gateway.accounts import Hold
from tests.promise.test_store import CENT, DOLLAR, MONTH, balance, claim, opened, settlement

__all__ = ["opened"]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("processes", [1, 2, 4])
async def test_a_dollar_is_a_hundred_cents(opened, processes, seed):
    """Holds come and go at random moments, some calls settle for less, some are released: no moment is over the limit."""
    random = Random(seed)
    async with asyncio.timeout(60):
        stores = []
        contexts = [opened(f"store-{number}") for number in range(processes)]
        for context in contexts:
            stores.append(await context.__aenter__())
        costs: dict[str, int] = {}

        async def call(number: int) -> bool:
            store = random.choice(stores)
            answer = await store.reserve(f"c{number}", [claim(), claim(MONTH, CENT, None)])
            if not isinstance(answer, Hold):
                return False
            await asyncio.sleep(random.random() * 0.005)
            how = random.random()
            if how < 0.1:
                await store.release(f"c{number}")
                return False
            costs[f"c{number}"] = CENT if how < 0.8 else random.randrange(CENT)
            await store.settle(settlement(f"c{number}", costs[f"c{number}"]))
            return True

        await asyncio.gather(*(call(number) for number in range(500)))
        assert await balance(stores[0]) == (sum(costs.values()), 0)
        assert sum(costs.values()) <= DOLLAR
        first = await stores[0].reserve("more", [claim(amount=DOLLAR - sum(costs.values()))])
        over = await stores[-1].reserve("over", [claim(amount=1)])
        assert isinstance(first, Hold)
        assert not isinstance(over, Hold)
        assert await stores[0].check() == 0
        for context in contexts:
            await context.__aexit__(None, None, None)
