"""The admin listener, asked over HTTP: what it tells, whom it tells, and what a browser elsewhere cannot make of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.gateways import record_of, records
from tests.harness.messages import request, response
from tests.harness.raw_client import ask, connected
from tests.harness.rows import CHAT
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

Serve = Callable[..., Awaitable[Any]]
PATHS = [
    "/metrics", "/system/llm-status", "/api/v1/calls", "/api/v1/calls/x", "/api/v1/requests/x", "/api/v1/budgets",
    "/api/v1/upstreams", "/api/v1/config",
]  # fmt: skip
ANSWER = response(
    200,
    ("Content-Type", "application/json"),
    body=b'{"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}',
)
COST = 1000 * 150 + 100 * 600
"""gpt-4o-mini: $0.15 and $0.60 a million tokens, in nano-dollars."""


async def get(gateway: Any, path: str, **headers: str) -> tuple[int, Any, Any]:
    """(status, headers, JSON or text)."""
    url = f"http://127.0.0.1:{gateway.admin_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        is_json = answer.content_type == "application/json"
        return answer.status, answer.headers, await answer.json() if is_json else await answer.text()


async def call(gateway: Any, correlation_id: str = "", team: str = "red") -> str:
    """One call; returns its id."""
    more = (("x-correlation-id", correlation_id),) if correlation_id else ()
    sent = request("POST", "/v1/chat/completions", ("x-tollgate-team", team), *more, body=CHAT)
    found = (await ask(gateway.front_port, sent)).head.value(b"x-tollgate-call-id")
    assert found is not None
    return found.decode()


@pytest.mark.parametrize("path", PATHS)
async def test_with_a_token_nobody_is_told_anything_without_it(serve: Serve, path: str) -> None:
    """Not with another one either, and not by a hint."""
    gateway = await serve(admin={"token": "open-sesame"})
    for headers in ({}, {"Authorization": "Bearer open-sesam"}, {"Authorization": "Basic open-sesame"}):
        status, found, body = await get(gateway, path, **headers)
        assert (status, found["WWW-Authenticate"]) == (401, "Bearer")
        assert body == {"error": {"message": "a bearer token is needed", "status": 401}}
    assert (await get(gateway, path, Authorization="Bearer open-sesame"))[0] in {200, 404}


async def test_probes_and_the_page_ask_for_no_token(serve: Serve) -> None:
    """The page holds no numbers; it asks for the token itself."""
    gateway = await serve(admin={"token": "open-sesame"})
    for path in ("/health/live", "/health/ready", "/", "/app.js", "/style.css"):
        assert (await get(gateway, path))[0] == 200


async def test_a_page_of_another_name_reads_nothing(gateway: Any) -> None:
    """DNS rebinding: the browser sends the attacker's name as Host."""
    status, _, body = await get(gateway, "/api/v1/calls", Host="evil.example:8081")
    assert status == 421
    assert "calls" not in body


async def test_the_page_loads_nothing_from_elsewhere(gateway: Any) -> None:
    """And a browser is told not to."""
    _, headers, page = await get(gateway, "/")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
    assert not re.search(r" on\w+=|<style|<script>", page)
    _, _, script = await get(gateway, "/app.js")
    assert "innerHTML" not in script


async def test_ready_names_its_checks_and_the_config_in_force(gateway: Any) -> None:
    """What a load balancer asks, and what a person looks at."""
    status, _, body = await get(gateway, "/health/ready")
    assert (status, body["status"], body["checks"]["store"]["status"]) == (200, "ready", "ok")
    assert body["config_version"] == gateway.snapshot.version


async def test_calls_are_listed_newest_first_page_by_page(upstream: ScriptedUpstream, serve: Serve) -> None:
    """``next`` leads to the next page, and the pages together hold each call once."""
    gateway = await serve()
    upstream.answer = [ANSWER]
    made = [await call(gateway) for _ in range(7)]
    admin = f"http://127.0.0.1:{gateway.admin_port}"
    await records(admin, 7)
    listed: list[str] = []
    path = "/api/v1/calls?limit=3"
    while path:
        _, _, page = await get(gateway, path)
        listed += [each["call_id"] for each in page["calls"]]
        path = f"/api/v1/calls?limit=3&before={page['next']}" if page["next"] else ""
    assert listed == made[::-1]


@pytest.mark.parametrize("limit", ["0", "501", "-1", "x", "9" * 400])
async def test_a_limit_that_is_none_is_refused_without_repeating_it(gateway: Any, limit: str) -> None:
    """400, JSON."""
    status, _, body = await get(gateway, f"/api/v1/calls?limit={limit}")
    assert status == 400
    assert limit not in body["error"]["message"] or limit in {"0", "501", "-1", "x"}


async def test_the_calls_of_one_user_request_are_found_and_summed(upstream: ScriptedUpstream, serve: Serve) -> None:
    """By correlation id, in the order in which they were made."""
    gateway = await serve()
    upstream.answer = [ANSWER]
    made = [await call(gateway, "trip-1"), await call(gateway, "trip-1")]
    other = await call(gateway, "trip-2")
    await records(f"http://127.0.0.1:{gateway.admin_port}", 3)
    _, _, found = await get(gateway, "/api/v1/requests/trip-1")
    assert [each["call_id"] for each in found["calls"]] == made
    assert (found["count"], found["cost_nanousd"], found["cost_usd"]) == (2, 2 * COST, "0.00042")
    assert found["models"] == ["gpt-4o-mini"]
    _, _, filtered = await get(gateway, "/api/v1/calls?correlation_id=trip-2")
    assert [each["call_id"] for each in filtered["calls"]] == [other]
    assert (await get(gateway, "/api/v1/requests/no-such"))[0] == 404


async def test_a_call_that_runs_says_so_and_an_unknown_one_is_not_there(
    upstream: ScriptedUpstream, gateway: Any
) -> None:
    """A client that polls for the cost of its stream must be able to tell the two apart."""
    head = response(200, ("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"), body=None)
    upstream.answer = [head, 30.0]
    async with connected(gateway.front_port) as client:
        await client.send(request("POST", "/v1/chat/completions", body=CHAT))
        await client.see(b"\r\n\r\n")
        call_id = next(iter(gateway.handle.active))
        status, _, body = await get(gateway, f"/api/v1/calls/{call_id}")
        assert (status, body) == (200, {"state": "in_flight", "call_id": call_id})
        _, _, told = await get(gateway, "/system/llm-status")
        assert told["active_requests"] >= 1
        _, _, metrics = await get(gateway, "/metrics")
        assert 'llm_active_requests{provider="openai"} 1.0' in metrics
    async with asyncio.timeout(10):
        assert (await record_of(f"http://127.0.0.1:{gateway.admin_port}", call_id))["outcome"] == "client_disconnected"
    assert (await get(gateway, "/api/v1/calls/00000000-0000-7000-8000-000000000000"))[0] == 404


async def test_the_config_is_shown_without_its_secrets(serve: Serve) -> None:
    """As ``tollgate check`` shows it."""
    gateway = await serve(admin={"token": "open-sesame"}, up={"api_key": "sk-operators-own"})
    _, _, body = await get(gateway, "/api/v1/config", Authorization="Bearer open-sesame")
    assert body["config"]["upstreams"]["openai"]["api_key"] == "***"
    assert "open-sesame" not in str(body)
    assert "sk-operators" not in str(body)


async def test_budgets_upstreams_metrics_and_records_tell_the_same_sums(
    upstream: ScriptedUpstream, serve: Serve
) -> None:
    """To the nano-dollar, whichever is asked."""
    gateway = await serve(budgets=[{"scope": "team:*", "limit_usd": 1, "window": "day", "name": "each"}])
    upstream.answer = [ANSWER]
    for team in ("red", "red", "blue"):
        await call(gateway, team=team)
    listed = await records(f"http://127.0.0.1:{gateway.admin_port}", 3)
    assert sum(each["cost_nanousd"] for each in listed) == 3 * COST
    _, _, body = await get(gateway, "/api/v1/budgets")
    found = {each["scope"]: each for each in body["budgets"]}
    assert {scope: each["spent_nanousd"] for scope, each in found.items()} == {"team:red": 2 * COST, "team:blue": COST}
    assert found["team:red"]["remaining_nanousd"] == 10**9 - 2 * COST
    assert found["team:red"]["held_nanousd"] == 0
    _, _, text = await get(gateway, "/metrics")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    cost = sum(sample.value for sample in samples if sample.name == "llm_cost_usd_total")
    spent = sum(sample.value for sample in samples if sample.name == "llm_budget_spent_usd")
    assert round(cost * 1e9) == round(spent * 1e9) == 3 * COST
    _, _, upstreams = await get(gateway, "/api/v1/upstreams")
    assert {each["name"] for each in upstreams["upstreams"]} == {"openai", "anthropic", "up"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed_here(gateway: Any, method: str) -> None:
    """The admin API reads only."""
    async with aiohttp.ClientSession() as session:
        for path in PATHS:
            async with session.request(method, f"http://127.0.0.1:{gateway.admin_port}{path}") as answer:
                assert answer.status == 405
                assert (await answer.json())["error"]["status"] == 405


async def test_no_answer_may_be_kept_by_a_cache(gateway: Any) -> None:
    """Spend of a minute ago is wrong."""
    for path in PATHS[1:]:
        _, headers, _ = await get(gateway, path)
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
