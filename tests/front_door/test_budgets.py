"""Budgets at the front door: who is refused, what a refused client reads, and that nothing of it reaches the provider."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, MESSAGES, MINI, SAY, budgets_of, post, price, record_after, until_held
from tests.harness.gateways import free_port
from tests.harness.messages import Head, request, response
from tests.harness.raw_client import Answer, ask
from tests.harness.scripted import Script, ScriptedUpstream, Seen

pytestmark = pytest.mark.asyncio(loop_scope="module")

HAIKU = {"model": "claude-haiku-4-5", "messages": SAY}
DIALECTS = {"openai": (CHAT, MINI), "anthropic": (MESSAGES, HAIKU), "anthropic under v1": ("/v1/messages", HAIKU)}
each_dialect = pytest.mark.parametrize("dialect", DIALECTS)
SPENT = price("gpt-4o-mini", 5000, 0, 400)
"""What every answer of the scripted provider says it cost, at gpt-4o-mini's prices: $0.00099."""
FIGURES = {"budget", "scope", "window", "limit_usd", "spent_usd", "held_usd", "needed_usd", "resets_at"}


def paid(seen: Seen) -> Script:
    """An answer with usage: $0.00099, whichever dialect asks."""
    usage = {"prompt_tokens": 5000, "completion_tokens": 400, "input_tokens": 5000, "output_tokens": 400}
    answer = {"model": "gpt-4o-mini", "type": "message", "content": [], "stop_reason": "end_turn", "usage": usage}
    return [response(200, ("Content-Type", "application/json"), body=json.dumps(answer).encode())]


async def say(gateway: Any, dialect: str, *fields: tuple[str, str], most: int = 50) -> Answer:
    """A call that can cost $0.00004 or, of Anthropic, $0.0003."""
    target, body = DIALECTS[dialect]
    return await ask(gateway.front_port, post(target, body | {"max_tokens": most}, "", *fields))


async def spend(gateway: Any, *fields: tuple[str, str]) -> None:
    """One call of $0.00099, until it is in the books."""
    answer = await say(gateway, "openai", *fields)
    assert answer.status == 200
    assert (await record_after(gateway, answer))["cost_nanousd"] == SPENT


def error_of(answer: Answer, dialect: str, status: int, code: str, *, retry: bool, kind: str) -> dict[str, Any]:
    """The error of an answer, checked for what section 6 of the contract promises of every one."""
    body = json.loads(answer.body.content)
    error: dict[str, Any] = body["error"]
    assert (answer.status, error["code"]) == (status, code)
    assert answer.head.value(b"content-type") == b"application/json"
    assert answer.head.value(b"x-tollgate-call-id")
    assert answer.head.value(b"x-should-retry") == (b"true" if retry else b"false")
    assert len(error["message"]) >= 20
    if dialect == "openai":
        assert body.keys() == {"error"}
        assert (error["type"], error["param"]) == (kind, None)
    else:
        assert body.keys() == {"type", "error"}
        assert body["type"] == "error"
        meant = {429: "rate_limit_error", 413: "request_too_large", 400: "invalid_request_error"}
        assert error["type"] == meant.get(status, "api_error")
    return error


def ends_of(window: str, now: datetime) -> datetime | None:
    """The end of the calendar window around a moment, in UTC."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        "hour": now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1),
        "day": day + timedelta(days=1),
        "week": day + timedelta(days=7 - day.weekday()),
        "month": (day.replace(day=1) + timedelta(days=32)).replace(day=1),
        "total": None,
    }[window]


def check_rate_limit(head: Head, window: str, left_s: float) -> None:
    """``retry-after`` and the RateLimit fields (draft-ietf-httpapi-ratelimit-headers), in micro-dollars."""
    fields = {name: (head.value(name) or b"").decode() for name in (b"retry-after", b"ratelimit-policy", b"ratelimit")}
    length = {"hour": ";w=3600", "day": ";w=86400", "week": ";w=604800"}.get(window, "")
    assert fields[b"ratelimit-policy"] == f'"global/{window}";q=1000;qu="micro-usd"{length}'
    if window == "total":
        assert fields[b"retry-after"] == ""
        assert fields[b"ratelimit"] == '"global/total";r=10'
        return
    assert int(fields[b"retry-after"]) == pytest.approx(left_s, abs=30)
    assert fields[b"ratelimit"] == f'"global/{window}";r=10;t={fields[b"retry-after"]}'


# -- no room ---------------------------------------------------------------------------------------------------------------


@each_dialect
@pytest.mark.parametrize("window", ["hour", "day", "week", "month", "total"])
async def test_an_exhausted_budget_says_all_there_is_to_know(
    upstream: ScriptedUpstream, serve: Serve, dialect: str, window: str
) -> None:
    """429 that forbids a retry: the figures for a program, a sentence for a person, the reset for both; the provider sees
    nothing of the call, and its record says that it was refused and cost nothing.
    """
    gateway = await serve(budgets=[{"scope": "global", "limit_usd": "0.001", "window": window, "name": "everybody"}])
    upstream.answer = paid
    await spend(gateway)
    answer = await say(gateway, dialect)
    now = datetime.now(UTC)
    error = error_of(answer, dialect, 429, "budget_exceeded", retry=False, kind="insufficient_quota")
    assert error.keys() >= FIGURES
    assert (error["budget"], error["scope"], error["window"]) == ("everybody", "global", window)
    assert (error["limit_usd"], error["spent_usd"], error["held_usd"]) == (0.001, 0.00099, 0)
    assert 0.00001 < error["needed_usd"] < 0.001
    assert all(word in error["message"] for word in ("'everybody'", "$0.001", "$0.00099", "operator"))
    end = ends_of(window, now)
    assert error["resets_at"] in (None if end is None else f"{end:%Y-%m-%dT%H:%M:%SZ}", f"{now:%Y-%m-%dT%H:00:00Z}")
    assert (error["resets_at"] or "It never resets") in error["message"]
    check_rate_limit(answer.head, window, (end - now).total_seconds() if end is not None else 0)
    assert len(upstream.seen) == 1
    record = await record_after(gateway, answer)
    assert (record["outcome"], record["status"], record["error_type"]) == ("refused", 429, "budget_exceeded")
    assert (record["cost_nanousd"], record["held_nanousd"], record["attempts"]) == (0, 0, 0)
    assert (await budgets_of(gateway))["global"]["spent_nanousd"] == SPENT


@each_dialect
async def test_what_is_dearer_than_the_whole_budget_is_not_told_to_wait(
    upstream: ScriptedUpstream, serve: Serve, dialect: str
) -> None:
    """No reset helps a call that needs more than the limit: the message says to ask for less."""
    gateway = await serve(budgets=[{"scope": "global", "limit_usd": "0.00001"}])
    error = error_of(
        await say(gateway, dialect), dialect, 429, "budget_exceeded", retry=False, kind="insufficient_quota"
    )
    assert "waiting does not help" in error["message"]
    assert upstream.seen == []


@each_dialect
async def test_a_budget_that_others_only_hold_asks_for_a_short_wait(
    upstream: ScriptedUpstream, serve: Serve, dialect: str
) -> None:
    """429 that invites a retry, in milliseconds; once the other call is over the same call goes through."""
    gateway = await serve(
        budgets=[{"scope": "global", "limit_usd": "0.01", "mode": "strict"}], store={"held_wait": "20ms"}
    )
    gate = asyncio.Event()
    upstream.answer = lambda seen: [gate, *paid(seen)]
    running = asyncio.create_task(say(gateway, "openai", most=9_900))
    held = await until_held(gateway)
    answer = await say(gateway, dialect, most=300)
    error = error_of(answer, dialect, 429, "budget_held", retry=True, kind="insufficient_quota")
    assert error.keys() >= FIGURES
    assert error["spent_usd"] == 0
    assert round(error["held_usd"] * 10**9) == held["held_nanousd"]
    assert 1 <= int(answer.head.value(b"retry-after-ms") or b"") <= 2000
    assert not any(answer.head.value(name) for name in (b"retry-after", b"ratelimit", b"ratelimit-policy"))
    assert len(upstream.seen) == 1
    gate.set()
    await record_after(gateway, await running)
    assert (await say(gateway, dialect, most=300)).status == 200


async def test_a_call_waits_for_room_that_others_only_hold(upstream: ScriptedUpstream, serve: Serve) -> None:
    """It goes through as soon as the other one is over, and is not counted as the gateway's own delay."""
    gateway = await serve(
        budgets=[{"scope": "global", "limit_usd": "0.01", "mode": "strict"}], store={"held_wait": "30s"}
    )
    gate = asyncio.Event()
    upstream.answer = lambda seen: [gate, *paid(seen)]
    running = asyncio.create_task(say(gateway, "openai", most=9_900))
    await until_held(gateway)
    waiting = asyncio.create_task(say(gateway, "openai", most=300))
    await asyncio.sleep(0.3)
    assert len(upstream.seen) == 1
    assert not waiting.done()
    gate.set()
    assert [answer.status for answer in await asyncio.gather(running, waiting)] == [200, 200]
    record = await record_after(gateway, waiting.result())
    assert record["latency_ms"] > 250 > record["overhead_ms"]


async def test_a_call_stops_waiting_when_no_room_will_come(upstream: ScriptedUpstream, serve: Serve) -> None:
    """The other one spent it: 429 at once, and not after half a minute."""
    gateway = await serve(
        budgets=[{"scope": "global", "limit_usd": "0.001", "mode": "strict", "window": "total"}],
        store={"held_wait": "30s"},
    )
    gate = asyncio.Event()
    upstream.answer = lambda seen: [gate, *paid(seen)]
    running = asyncio.create_task(say(gateway, "openai", most=900))
    await until_held(gateway)
    waiting = asyncio.create_task(say(gateway, "openai", most=900))
    await asyncio.sleep(0.1)
    gate.set()
    await running
    async with asyncio.timeout(10):
        error_of(await waiting, "openai", 429, "budget_exceeded", retry=False, kind="insufficient_quota")


# -- whose room ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["team", "user"])
async def test_a_wildcard_gives_each_its_own_purse(upstream: ScriptedUpstream, serve: Serve, kind: str) -> None:
    """One that has spent its own does not stand in the way of another; who gives no name shares one with the nameless; a
    budget of its own takes the place of the general one.
    """
    field = f"X-Tollgate-{kind.title()}"
    budgets = [{"scope": f"{kind}:*", "limit_usd": "0.001"}, {"scope": f"{kind}:rich", "limit_usd": "0.01"}]
    gateway = await serve(budgets=budgets)
    upstream.answer = paid
    await spend(gateway, (field, "a"))
    refused = await say(gateway, "openai", (field, "a"))
    error = error_of(refused, "openai", 429, "budget_exceeded", retry=False, kind="insufficient_quota")
    assert (error["budget"], error["scope"]) == (f"{kind}:*/day", f"{kind}:a")
    await spend(gateway, (field, "b"))
    await spend(gateway)
    assert [(await say(gateway, "openai", *name)).status for name in ([(field, "b")], [])] == [429, 429]
    for _ in range(3):
        await spend(gateway, (field, "rich"))
    spent = {scope: each["spent_nanousd"] for scope, each in (await budgets_of(gateway)).items()}
    assert spent == {f"{kind}:a": SPENT, f"{kind}:b": SPENT, f"{kind}:-": SPENT, f"{kind}:rich": 3 * SPENT}


async def test_a_global_budget_is_everybodys(upstream: ScriptedUpstream, serve: Serve) -> None:
    """All that apply have to have room: a team with money left is refused when the house has none."""
    gateway = await serve(budgets=[{"scope": "global", "limit_usd": "0.001"}, {"scope": "team:*", "limit_usd": 5}])
    upstream.answer = paid
    await spend(gateway, ("X-Tollgate-Team", "a"))
    refused = await say(gateway, "openai", ("X-Tollgate-Team", "b"))
    error = error_of(refused, "openai", 429, "budget_exceeded", retry=False, kind="insufficient_quota")
    assert error["scope"] == "global"
    assert set(await budgets_of(gateway)) == {"global", "team:a"}, "nothing was set aside for it"


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/v1/models"), ("POST", "/v1/moderations"), ("POST", "/anthropic/v1/messages/count_tokens")],
)
async def test_what_nobody_bills_is_not_refused(
    upstream: ScriptedUpstream, serve: Serve, method: str, target: str
) -> None:
    """An exhausted budget does not stand in the way of a list of models."""
    gateway = await serve(budgets=[{"scope": "global", "limit_usd": "0.001"}])
    upstream.answer = paid
    await spend(gateway)
    answer = await ask(gateway.front_port, request(method, target, body=b'{"input":"x"}' if method == "POST" else b""))
    assert answer.status == 200
    record = await record_after(gateway, answer)
    assert (record["outcome"], record["cost_nanousd"], record["held_nanousd"]) == ("completed", 0, 0)


@pytest.mark.parametrize("target", ["/v1/images/generations", "/v1/anything/new"])
async def test_what_cannot_be_priced_is_refused_all_the_same(
    upstream: ScriptedUpstream, serve: Serve, target: str
) -> None:
    """Unknown is not free: an exhausted budget stops every call that could be billable, a WebSocket included."""
    gateway = await serve(budgets=[{"scope": "global", "limit_usd": "0.00099"}])
    upstream.answer = paid
    await spend(gateway)
    before = len(upstream.seen)
    answer = await ask(gateway.front_port, request("POST", target, body=b"{}"))
    error_of(answer, "openai", 429, "budget_exceeded", retry=False, kind="insufficient_quota")
    wish = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x"))
    answer = await ask(gateway.front_port, request("GET", "/v1/realtime?model=gpt-realtime", *wish))
    error_of(answer, "openai", 429, "budget_exceeded", retry=False, kind="insufficient_quota")
    assert len(upstream.seen) == before


# -- the other refusals of section 6 ---------------------------------------------------------------------------------------


@each_dialect
async def test_a_body_that_a_budget_cannot_read_is_a_400(
    upstream: ScriptedUpstream, serve: Serve, dialect: str
) -> None:
    """Where nothing limits the call, its body is the provider's to judge."""
    sent = request("POST", DIALECTS[dialect][0], body=b'{"model": "gpt-4o-mini", "messages": [')
    limited = await serve(budgets=[{"scope": "team:a", "limit_usd": 1}])
    upstream.answer = paid
    assert (await ask(limited.front_port, sent)).status == 200
    answer = await ask(limited.front_port, sent.replace(b"\r\n", b"\r\nX-Tollgate-Team: a\r\n", 1))
    error = error_of(answer, dialect, 400, "malformed_body", retry=False, kind="invalid_request_error")
    assert "budget" in error["message"]
    assert len(upstream.seen) == 1
    assert (await record_after(limited, answer))["outcome"] == "refused"


@each_dialect
@pytest.mark.parametrize("case", ["413", "502", "503", "504"])
async def test_every_other_refusal_speaks_the_dialect_too(
    upstream: ScriptedUpstream, serve: Serve, dialect: str, case: str
) -> None:
    """A body too large, a provider that is not there, books that cannot be asked, a provider that says nothing."""
    budgets: list[dict[str, Any]] = [{"scope": "global", "limit_usd": 1}]
    place = f"http://127.0.0.1:{free_port()}" if case == "502" else upstream
    front = {"max_body_mb": 1} if case == "413" else {}
    gateway = await serve(place, budgets=budgets, front=front, up={"first_byte_timeout": "50ms"})
    upstream.answer = [asyncio.Event()]
    if case == "503":
        await gateway._store.close()
    target, body = DIALECTS[dialect]
    answer = await ask(gateway.front_port, post(target, body | {"user": "x" * (2_000_000 if case == "413" else 1)}))
    code, kind = {
        "413": ("body_too_large", "invalid_request_error"),
        "502": ("upstream_unreachable", "upstream_error"),
        "503": ("store_unavailable", "store_unavailable"),
        "504": ("upstream_timeout", "upstream_error"),
    }[case]
    error_of(answer, dialect, int(case), code, retry=case != "413", kind=kind)
    assert len(upstream.seen) == (case == "504")
    if case != "503":
        record = await record_after(gateway, answer)
        assert (record["status"], record["error_type"]) == (int(case), code)
        assert bool(record["cost_nanousd"]) == (case == "504")  # given up by us: the provider may be at work, and bill
        assert (await budgets_of(gateway))["global"]["held_nanousd"] == 0
