"""Batches and background responses: billed once, whoever looks at them and however often; estimates are made good."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from gateway.audit import verdict
from pricing.book import Book
from tests.front_door.conftest import Serve
from tests.harness.books import budgets_of, look
from tests.harness.gateways import records
from tests.harness.messages import request, response
from tests.harness.raw_client import ask
from tests.harness.scripted import End, ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUDGET = {"scope": "team:*", "limit_usd": "10", "window": "total"}
BATCH = {
    "id": "batch_abc",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "status": "completed",
    "model": "gpt-4o-mini-2024-07-18",
    "usage": {
        "input_tokens": 1_000_000,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 100_000,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 1_100_000,
    },
}
BATCH_NANOUSD = (1_000_000 * 75 + 100_000 * 300) // 1000 * 1000
"""$0.075 and $0.30 a million: half of gpt-4o-mini's list price (OpenAI, pricing, "Batch")."""


def answer(document: Any, kind: str = "application/json") -> list[bytes]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return [response(200, ("Content-Type", kind), body=body)]


async def get(gateway: Any, path: str, team: str = "a") -> bytes:
    found = await ask(gateway.front_port, request("GET", path, ("x-tollgate-team", team)))
    assert found.status == 200
    return found.body.content


async def booked(gateway: Any, *, count: int) -> list[dict[str, Any]]:
    """The records that cost something, once there are so many calls in the books."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found = await records(gateway.admin_url, 0)
            await asyncio.sleep(0.02)
    return [each for each in found if each["cost_nanousd"]]


async def spent(gateway: Any) -> dict[str, int]:
    return {scope: found["spent_nanousd"] for scope, found in (await budgets_of(gateway)).items()}


async def reported(gateway: Any) -> dict[str, tuple[int, ...]]:
    """(calls, input, output, nano-dollars) of each team."""
    names = ("calls", "input_tokens", "output_tokens", "cost_nanousd")
    rows = json.loads(await look(gateway, "/api/v1/spend"))["rows"]
    found: dict[str, tuple[int, ...]] = {}
    for row in rows:  # of two days, around midnight
        before = found.get(row["team"], (0,) * len(names))
        found[row["team"]] = tuple(a + row[name] for a, name in zip(before, names, strict=True))
    return found


async def audited(gateway: Any) -> set[str]:
    """What comes of working every record out again."""
    book = Book.load()
    return {verdict(record, lambda version: book).state for record in await records(gateway.admin_url, 0)}


async def metric(gateway: Any, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.admin_url}/metrics") as found:
        lines = (await found.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def test_a_batch_is_charged_once_when_its_usage_is_first_seen(upstream: ScriptedUpstream, serve: Serve) -> None:
    """At batch prices, to whoever sees it first; alone or in a list."""
    gateway = await serve(budgets=[BUDGET])
    upstream.answer = answer(BATCH | {"status": "in_progress"})
    await get(gateway, "/v1/batches/batch_abc")
    assert await booked(gateway, count=1) == []
    upstream.answer = answer(BATCH)
    assert json.loads(await get(gateway, "/v1/batches/batch_abc")) == BATCH
    (record,) = await booked(gateway, count=3)
    assert (record["call_id"], record["operation"], record["team"]) == ("openai:batch_abc", "batch", "a")
    assert (record["cost_nanousd"], record["service_tier"]) == (BATCH_NANOUSD, "batch")
    assert record["price_rows"] == ["openai/gpt-4o-mini#batch"]
    for path, team in (("/v1/batches/batch_abc", "a"), ("/v1/batches/batch_abc?x=1", "b")):
        await get(gateway, path, team)
    upstream.answer = answer({"object": "list", "data": [BATCH, BATCH | {"id": "batch_def"}]})
    await get(gateway, "/v1/batches?limit=2", "b")
    both = await booked(gateway, count=7)
    assert {each["call_id"] for each in both} == {"openai:batch_abc", "openai:batch_def"}
    assert await spent(gateway) == {"team:a": BATCH_NANOUSD, "team:b": BATCH_NANOUSD}
    assert await metric(gateway, "llm_cost_usd_total") == pytest.approx(2 * BATCH_NANOUSD / 1e9)
    assert await metric(gateway, "llm_requests_total") == 5
    assert await reported(gateway) == {
        "a": (3, 1_000_000, 100_000, BATCH_NANOUSD), "b": (2, 1_000_000, 100_000, BATCH_NANOUSD),
    }  # fmt: skip
    assert await audited(gateway) == {"same"}


async def test_the_results_of_an_anthropic_batch_are_summed_up(upstream: ScriptedUpstream, serve: Serve) -> None:
    """JSON lines, compressed or not; what failed is free; a download that breaks off charges nothing yet."""
    gateway = await serve(budgets=[BUDGET])
    usage = {"input_tokens": 1000, "cache_read_input_tokens": 0, "output_tokens": 200, "service_tier": "batch"}
    message = {"model": "claude-haiku-4-5-20251001", "type": "message", "usage": usage}
    lines = [{"custom_id": f"c{n}", "result": {"type": "succeeded", "message": message}} for n in range(3)]
    lines.append({"custom_id": "x", "result": {"type": "errored", "error": {"type": "error"}}})
    body = b"\n".join(json.dumps(line).encode() for line in lines) + b"\n"
    path = "/anthropic/v1/messages/batches/msgbatch_1/results"
    upstream.answer = [answer(body, "application/x-jsonl")[0][:-200], End.CLOSE]
    broken = await ask(gateway.front_port, request("GET", path, ("x-tollgate-team", "a")))
    assert not broken.body.whole
    assert await booked(gateway, count=1) == []
    upstream.answer = answer(body, "application/x-jsonl")
    assert await get(gateway, path) == body
    (record,) = await booked(gateway, count=3)
    assert record["usage"] == {"input": 3000, "output": 600}
    assert record["cost_nanousd"] == (3000 * 500 + 600 * 2500)  # $0.50 and $2.50 a million: half of the list price
    await get(gateway, path, "b")
    assert len(await booked(gateway, count=4)) == 1
    assert (await spent(gateway))["team:a"] == record["cost_nanousd"]


async def test_a_background_response_is_estimated_then_made_good(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Charged when it is asked for, corrected when its usage is seen: in the name of whoever asked, once, up or down."""
    gateway = await serve(budgets=[BUDGET])
    queued = {"id": "resp_1", "object": "response", "status": "queued", "background": True, "model": "gpt-4o-mini"}
    upstream.answer = answer(queued | {"usage": None, "output": []})
    body = json.dumps(
        {"model": "gpt-4o-mini", "input": "Hello", "background": True, "max_output_tokens": 1000}
    ).encode()
    await ask(gateway.front_port, request("POST", "/v1/responses", ("x-tollgate-team", "a"), body=body))
    (first,) = await booked(gateway, count=1)
    assert (first["usage_source"], first["awaits"]) == ("estimated", "resp_1")
    upstream.answer = answer(queued)
    await get(gateway, "/v1/responses/resp_1", "b")
    usage = {"input_tokens": 12, "output_tokens": 300, "total_tokens": 312}
    upstream.answer = answer(queued | {"status": "completed", "usage": usage})
    for team in ("b", "a", "b"):
        await get(gateway, "/v1/responses/resp_1", team)
    found = await booked(gateway, count=6)
    (second,) = [each for each in found if each["corrects"]]
    final = 12 * 150 + 300 * 600
    assert (second["outcome"], second["corrects"], second["team"]) == ("corrected", first["call_id"], "a")
    assert (second["cost_nanousd"], second["corrected_nanousd"]) == (
        final - first["cost_nanousd"],
        first["cost_nanousd"],
    )
    assert await spent(gateway) == {"team:a": final}
    assert await reported(gateway) == {"a": (2, 12, 300, final), "b": (3, 0, 0, 0)}
    assert await metric(gateway, 'llm_cost_corrections_usd_total{direction="down"}') == pytest.approx(
        (first["cost_nanousd"] - final) / 1e9
    )
    assert await audited(gateway) == {"same"}


async def test_a_stored_response_is_not_charged_again(upstream: ScriptedUpstream, serve: Serve) -> None:
    """It was billed by the call that wrote it."""
    gateway = await serve(budgets=[BUDGET])
    usage = {"input_tokens": 12, "output_tokens": 300, "total_tokens": 312}
    whole = {"id": "resp_2", "object": "response", "status": "completed", "background": False, "model": "gpt-4o-mini"}
    upstream.answer = answer(whole | {"usage": usage, "output": []})
    await get(gateway, "/v1/responses/resp_2")
    assert await booked(gateway, count=1) == []
    assert await spent(gateway) == {}
