"""A Redis that is away, as apps and operators see it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, MINI, budgets_of, look, post
from tests.harness.messages import request, response
from tests.harness.raw_client import Answer, ask
from tests.harness.redis_servers import Server, free_port
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

USAGE = {"prompt_tokens": 5000, "completion_tokens": 400}
SPENT = 990_000
"""Nano-dollars of one answer, at gpt-4o-mini's prices."""
PAID = response(
    200,
    ("Content-Type", "application/json"),
    body=json.dumps({"model": "gpt-4o-mini", "choices": [], "usage": USAGE}).encode(),
)
LIMITED = [{"scope": "team:limited", "limit_usd": 1, "window": "month"}]


def block(server: Server, folder: Path, **more: Any) -> dict[str, Any]:
    return {"url": server.tcp_url, "timeout": "2s", "journal": str(folder / "journal"), **more}


async def say(gateway: Any, team: str) -> Answer:
    return await ask(gateway.front_port, post(CHAT, MINI | {"max_tokens": 50}, "", ("X-Tollgate-Team", team)))


async def gauge(gateway: Any, name: str) -> float:
    found = re.search(rb"^" + name.encode() + rb" (\S+)$", await look(gateway, "/metrics"), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def until_down(gateway: Any) -> None:
    async with asyncio.timeout(10):
        while await gauge(gateway, "tollgate_store_up"):
            await asyncio.sleep(0.02)


async def until_owed(gateway: Any, wanted: Callable[[float], bool]) -> None:
    """So many settlements stand in the journal alone; each one does, for the moment that the store takes."""
    async with asyncio.timeout(20):
        while not wanted(await gauge(gateway, "tollgate_journal_settlements")):
            await asyncio.sleep(0.02)


async def until_spent(gateway: Any, nanousd: int, *, held: bool = False) -> None:
    async with asyncio.timeout(20):
        while True:
            answer = await ask(gateway.admin_port, request("GET", "/api/v1/budgets", host="localhost"))
            if answer.status == 200:
                (budget,) = json.loads(answer.body.content)["budgets"]
                if (budget["spent_nanousd"], budget["held_nanousd"] > 0) == (nanousd, held):
                    return
            await asyncio.sleep(0.05)


async def test_closed_refuses_what_is_limited_and_nothing_else(
    upstream: ScriptedUpstream, serve: Serve, server: Server, tmp_path: Path
) -> None:
    """503, at once, worth a retry; who is not limited goes on; a call that runs is booked later; probes and gauges tell it."""
    upstream.answer = [PAID]
    gateway = await serve(store=block(server, tmp_path), budgets=LIMITED)
    assert (await say(gateway, "limited")).status == 200
    await until_spent(gateway, SPENT)
    go_on = asyncio.Event()
    upstream.answer = [go_on, PAID]
    running = asyncio.create_task(say(gateway, "limited"))
    await upstream.request(1)
    server.kill()
    upstream.answer = [PAID]
    for _ in range(3):
        refused = await say(gateway, "limited")
        error = json.loads(refused.body.content)["error"]
        assert (refused.status, error["type"], error["code"]) == (503, "store_unavailable", "store_unavailable")
        assert refused.head.value(b"x-should-retry") == b"true"
    assert (await say(gateway, "free")).status == 200
    go_on.set()
    assert (await running).status == 200
    await until_down(gateway)
    async with asyncio.timeout(20):
        while (ready := await ask(gateway.admin_port, request("GET", "/health/ready", host="localhost"))).status != 503:
            await asyncio.sleep(0.02)
    assert json.loads(ready.body.content)["checks"]["store"]["status"] == "failed"
    await until_owed(gateway, lambda count: count >= 2)
    server.start()
    await until_spent(gateway, 2 * SPENT)
    assert (await say(gateway, "limited")).status == 200
    await until_spent(gateway, 3 * SPENT)
    await until_owed(gateway, lambda count: count == 0)


async def test_open_lets_all_go_on_and_books_them_later(
    upstream: ScriptedUpstream, serve: Serve, server: Server, tmp_path: Path
) -> None:
    """Counted, so that somebody sees it; the spend is there when the store is."""
    upstream.answer = [PAID]
    gateway = await serve(store=block(server, tmp_path, on_outage="open"), budgets=LIMITED)
    assert (await say(gateway, "limited")).status == 200
    await until_spent(gateway, SPENT)
    server.kill()
    assert [(await say(gateway, "limited")).status for _ in range(4)] == [200] * 4
    assert await gauge(gateway, "llm_budget_unheld_calls_total") == 4
    server.start()
    await until_spent(gateway, 5 * SPENT)


async def test_open_and_local_start_without_the_store_and_closed_does_not(
    upstream: ScriptedUpstream, serve: Serve, server: Server, tmp_path: Path
) -> None:
    """A rolling restart in an outage must not end what could go on."""
    upstream.answer = [PAID]
    server.kill()
    with pytest.raises(Exception, match="cannot be reached"):
        await serve(store=block(server, tmp_path), budgets=LIMITED)
    gateway = await serve(store=block(server, tmp_path, on_outage="open"), budgets=LIMITED)
    assert (await say(gateway, "limited")).status == 200
    server.start()
    await until_spent(gateway, SPENT)


async def test_local_goes_on_within_its_slice(
    upstream: ScriptedUpstream, serve: Serve, server: Server, tmp_path: Path
) -> None:
    """And no further: the rest is refused, and the books are exact afterwards. A call costs less than what it holds."""
    cost = 10 * 150 + 50 * 600
    usage = {"prompt_tokens": 10, "completion_tokens": 50}
    body = json.dumps({"model": "gpt-4o-mini", "choices": [], "usage": usage}).encode()
    upstream.answer = [response(200, ("Content-Type", "application/json"), body=body)]
    limited = [{"scope": "team:limited", "limit_usd": "0.02", "window": "month"}]
    gateway = await serve(store=block(server, tmp_path, on_outage="local"), budgets=limited)
    assert (await say(gateway, "limited")).status == 200
    await until_spent(gateway, cost, held=True)  # a slice is taken with the next heartbeat
    held = (await budgets_of(gateway))["team:limited"]["held_nanousd"]
    server.kill()
    statuses = [(await say(gateway, "limited")).status for _ in range(150)]
    let_through = statuses.count(200)
    assert set(statuses) == {200, 503}
    assert 20 <= let_through <= held // cost
    server.start()
    async with asyncio.timeout(20):
        while (await budgets_until(gateway))["spent_nanousd"] != (1 + let_through) * cost:
            await asyncio.sleep(0.05)


async def budgets_until(gateway: Any) -> dict[str, Any]:
    answer = await ask(gateway.admin_port, request("GET", "/api/v1/budgets", host="localhost"))
    return json.loads(answer.body.content)["budgets"][0] if answer.status == 200 else {"spent_nanousd": -1}


async def test_a_wrong_address_is_said_at_the_start(serve: Serve, tmp_path: Path) -> None:
    """In words, without the address's password or a stack."""
    port = free_port()
    with pytest.raises(Exception, match="The store cannot be reached"):
        await serve(store={"url": f"redis://127.0.0.1:{port}", "password": "hush", "journal": str(tmp_path / "j")})


async def test_a_batch_that_is_seen_in_an_outage_is_charged_afterwards(
    upstream: ScriptedUpstream, serve: Serve, server: Server, tmp_path: Path
) -> None:
    """Nobody can say then whether it is in the books already; once somebody can, it is booked, and once."""
    usage = {"input_tokens": 1000, "output_tokens": 100}
    batch = {"id": "batch_x", "object": "batch", "status": "completed", "model": "gpt-4o-mini", "usage": usage}
    upstream.answer = [response(200, ("Content-Type", "application/json"), body=json.dumps(batch).encode())]
    gateway = await serve(store=block(server, tmp_path))
    server.kill()
    for _ in range(2):
        assert (await ask(gateway.front_port, request("GET", "/v1/batches/batch_x"))).status == 200
    server.start()
    async with asyncio.timeout(20):
        while True:
            answer = await ask(gateway.admin_port, request("GET", "/api/v1/calls/openai:batch_x", host="localhost"))
            if answer.status == 200:
                break
            await asyncio.sleep(0.05)
    assert json.loads(answer.body.content)["cost_nanousd"] == (1000 * 75 + 100 * 300)
    spend = json.loads(await look(gateway, "/api/v1/spend?by=team"))
    assert spend["total"]["cost_nanousd"] == 1000 * 75 + 100 * 300
