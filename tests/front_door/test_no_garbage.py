"""What a call leaves behind: nothing. What refers to itself stays until the garbage collector looks, with a prompt and an answer in it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.simulator import Simulator
from tests.front_door.conftest import Serve
from tests.harness.books import CALLS, post
from tests.harness.messages import CutOff
from tests.harness.raw_client import ask, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

OF_A_CALL = frozenset(
    ("Arrival", "Call", "Reply", "Relay", "Request", "Watch", "Tap", "Reading", "Record", "HttpResponseParser")
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
def uncollected() -> Iterator[None]:
    """The garbage collector does not run."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left() -> Counter[str]:
    """What there is of calls, reachable or not."""
    return Counter(kind for each in gc.get_objects() if (kind := type(each).__name__) in OF_A_CALL)


async def one_of_each(gateway: Any) -> None:
    """Also one that is refused, and one whose client leaves."""
    for target, body, wish in CALLS.values():
        assert (await ask(gateway.front_port, post(target, body, wish))).status == 200
    target, body, _ = CALLS["chat"]
    assert (await ask(gateway.front_port, post(target, body, "", ("X-Tollgate-Team", "\x01")))).status == 400
    async with connected(gateway.front_port) as client:
        await client.send(post(target, body | {"stream": True}, "pace=0.05"))
        with contextlib.suppress(CutOff):
            await client.head()
        client.reset()


BUDGET = {"scope": "global", "limit_usd": 1000}


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("budgets", [[], [BUDGET]], ids=["unlimited", "with holds that grow"])
async def test_a_call_leaves_nothing_for_the_garbage_collector(
    provider: Simulator, serve: Serve, budgets: list[dict[str, Any]]
) -> None:
    """Memory is flat without it, and it has nothing to do while calls are served."""
    gateway = await serve(provider.url, budgets=budgets)
    await one_of_each(gateway)
    await settled(gateway)
    before = left()
    for _ in range(3):
        await one_of_each(gateway)
    await settled(gateway)
    more = left() - before
    assert sum(more.values()) <= len(OF_A_CALL), more  # of 33 calls at most the last one is still somewhere


async def settled(gateway: Any) -> None:
    """Until all calls are over and booked."""
    async with asyncio.timeout(20):
        while gateway.inspected().active or gateway.inspected().queue_depth:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
