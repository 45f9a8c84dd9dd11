"""The end of a process, asked for or not: calls that run may finish, what is cut is charged, and the books survive."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from tests.harness.gateways import GatewayProcess, record_of, records
from tests.harness.messages import CutOff, Head, read_body, request, response
from tests.harness.raw_client import RawClient, ask, connected
from tests.harness.rows import CHAT
from tests.harness.scripted import End, ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

Spawn = Callable[..., Awaitable[GatewayProcess]]

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"model":"gpt-4o-mini","choices":[{"delta":{"content":"word "}}]}\n\n'
USAGE = b'data: {"model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}}\n\n'
WHOLE = b'{"model":"gpt-4o-mini","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}'
ORDINARY = response(200, ("Content-Type", "application/json"), body=WHOLE)
WHOLE_NANOUSD = 210_000
"""1000 tokens at $0.15 and 100 at $0.60 a million."""
POST = request("POST", "/v1/chat/completions", body=CHAT)
BUDGET = {"scope": "global", "limit_usd": "100", "window": "total", "name": "all"}
UPGRADE = request(
    "GET", "/v1/realtime", ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x")
)


def chunk(piece: bytes) -> bytes:
    """As it is framed."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


async def begin_stream(client: RawClient) -> str:
    """Ask, see the first event; returns the call's id."""
    await client.send(POST)
    head = await client.head()
    await client.see(EVENT)
    return (head.value(b"x-tollgate-call-id") or b"").decode()


async def refuses(port: int) -> None:
    """Until nobody listens there any more."""
    async with asyncio.timeout(10):
        while True:
            try:
                async with connected(port):
                    await asyncio.sleep(0.01)
            except (ConnectionRefusedError, ConnectionResetError):
                return


async def budget_of(gateway: GatewayProcess) -> dict[str, Any]:
    """The one budget."""
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.admin_url}/api/v1/budgets") as answer:
        budgets: list[dict[str, Any]] = (await answer.json())["budgets"]
    assert len(budgets) == 1
    return budgets[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_running_stream_may_finish(upstream: ScriptedUpstream, spawn: Spawn, number: signal.Signals) -> None:
    """Asked to stop, it takes no new connections, lets go of idle ones, finishes what runs, books it and exits with 0."""
    gateway = await spawn()
    gate = asyncio.Event()
    upstream.answer = [CHUNKED, chunk(EVENT), gate, chunk(EVENT), chunk(USAGE), b"0\r\n\r\n"]
    async with connected(gateway.front_port) as client, connected(gateway.front_port) as idle:
        call_id = await begin_stream(client)
        gateway.signal(number)
        assert await idle.incoming.rest() == b""
        await refuses(gateway.front_port)
        gate.set()
        body = await read_body(client.incoming, Head(CHUNKED), request=False)
        assert (body.whole, body.content) == (True, EVENT + EVENT + USAGE)
        assert await client.incoming.rest() == b""
    assert await gateway.ended() == 0
    record = await record_of((await spawn()).admin_url, call_id)
    assert (record["outcome"], record["usage_source"]) == ("completed", "provider")
    assert (record["usage"]["input"], record["usage"]["output"]) == (9, 7)


async def test_a_connection_that_is_busy_takes_no_second_request(upstream: ScriptedUpstream, spawn: Spawn) -> None:
    """What was sent after the signal on a connection that still works is not answered: the client sees it close, and
    may send it elsewhere.
    """
    gateway = await spawn()
    gate = asyncio.Event()
    upstream.answer = [gate, ORDINARY]
    async with connected(gateway.front_port) as client:
        await client.send(POST)
        await upstream.request()
        gateway.signal(signal.SIGTERM)
        await refuses(gateway.front_port)
        gate.set()
        assert (await client.answer("POST")).body.content == WHOLE
        with pytest.raises((CutOff, ConnectionError)):
            await client.ask(POST)
    assert await gateway.ended() == 0
    assert len(upstream.seen) == 1


async def test_a_stream_that_outlasts_the_grace_is_broken_off_and_charged(
    upstream: ScriptedUpstream, spawn: Spawn
) -> None:
    """No end is made up for the client, the upstream is told, what was delivered is booked, and the exit is clean."""
    gateway = await spawn(front={"shutdown_grace": "100ms"}, budgets=[BUDGET])
    upstream.answer = [CHUNKED, chunk(EVENT), asyncio.Event()]
    async with connected(gateway.front_port) as client:
        call_id = await begin_stream(client)
        gateway.signal(signal.SIGTERM)
        assert not (await client.incoming.rest()).endswith(b"0\r\n\r\n")
    await asyncio.wait_for(upstream.seen[0].gone.wait(), 10)
    assert await gateway.ended() == 0
    after = await spawn(budgets=[BUDGET])
    record = await record_of(after.admin_url, call_id)
    assert (record["outcome"], record["status"], record["usage_source"]) == ("cut", 200, "counted")
    assert record["cost_nanousd"] > 0
    budget = await budget_of(after)
    assert (budget["spent_nanousd"], budget["held_nanousd"]) == (record["cost_nanousd"], 0)


async def test_a_call_without_an_answer_is_told_at_the_end_of_the_grace(
    upstream: ScriptedUpstream, spawn: Spawn
) -> None:
    """503 with the advice to try again, which will reach another process; the provider may bill it, so that it costs."""
    gateway = await spawn(front={"shutdown_grace": "100ms"})
    upstream.answer = [asyncio.Event()]
    async with connected(gateway.front_port) as client:
        await client.send(POST)
        await upstream.request()
        gateway.signal(signal.SIGTERM)
        answer = await client.answer("POST")
        assert (answer.status, answer.head.value(b"x-should-retry")) == (503, b"true")
        assert json.loads(answer.body.content)["error"]["code"] == "shutting_down"
    assert await gateway.ended() == 0
    record = await record_of((await spawn()).admin_url, answer.head.value(b"x-tollgate-call-id"))
    assert (record["outcome"], record["status"]) == ("cut", 503)
    assert record["cost_nanousd"] > 0


@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/files"], ids=["metered", "unmetered"])
async def test_an_upload_that_never_ends_does_not_hold_the_exit(
    upstream: ScriptedUpstream, spawn: Spawn, target: str
) -> None:
    """A body that stopped midway is given up with the grace."""
    gateway = await spawn(front={"shutdown_grace": "100ms"})
    upstream.read_body = False
    upstream.answer = [asyncio.Event()]
    async with connected(gateway.front_port) as client:
        await client.send(request("POST", target, body=CHAT)[:-10])
        await asyncio.sleep(0.1)
        gateway.signal(signal.SIGTERM)
        await client.incoming.rest()
    assert await gateway.ended() == 0
    (record,) = await records((await spawn()).admin_url)
    assert record["error_type"] in ("shutting_down", "client_disconnected")
    assert "a bug" not in gateway.log


async def test_a_second_signal_ends_the_grace(upstream: ScriptedUpstream, spawn: Spawn) -> None:
    """Who asks twice is in a hurry: the rest is broken off, booked, and the exit is still clean."""
    gateway = await spawn(front={"shutdown_grace": "10m"})
    upstream.answer = [CHUNKED, chunk(EVENT), asyncio.Event()]
    async with connected(gateway.front_port) as client:
        call_id = await begin_stream(client)
        gateway.signal(signal.SIGTERM)
        await refuses(gateway.front_port)
        gateway.signal(signal.SIGTERM)
        assert not (await client.incoming.rest()).endswith(b"0\r\n\r\n")
    assert await gateway.ended() == 0
    assert (await record_of((await spawn()).admin_url, call_id))["outcome"] == "cut"


async def test_a_conversation_ends_with_the_grace(upstream: ScriptedUpstream, spawn: Spawn) -> None:
    """WebSockets never finish by themselves: both ends are let go, and the call is recorded as cut."""
    gateway = await spawn(front={"shutdown_grace": "100ms"})
    agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"
    upstream.read_body = False
    upstream.answer = [agreed, lambda wire, seen: wire.incoming.rest(), End.CLOSE]
    async with connected(gateway.front_port) as client:
        await client.send(UPGRADE)
        await client.see(b"hello")
        gateway.signal(signal.SIGTERM)
        await client.incoming.rest()
    assert await gateway.ended() == 0
    assert "a bug" not in gateway.log
    (record,) = await records((await spawn()).admin_url)
    assert (record["outcome"], record["status"]) == ("cut", 101)


async def test_a_killed_process_loses_no_cent(upstream: ScriptedUpstream, spawn: Spawn) -> None:
    """SIGKILL in the middle of a stream: what was booked is still there, and what was held is charged as lost once the
    lease has lapsed.
    """
    store = {"store": {"lease": "1s"}, "budgets": [BUDGET]}
    gateway = await spawn(**store)
    upstream.answer = [ORDINARY]
    ids = [(await ask(gateway.front_port, POST)).head.value(b"x-tollgate-call-id") for _ in range(3)]
    for call_id in ids:
        await record_of(gateway.admin_url, call_id)
    upstream.answer = [CHUNKED, chunk(EVENT), asyncio.Event()]
    async with connected(gateway.front_port) as client:
        lost_id = await begin_stream(client)
        held = (await budget_of(gateway))["held_nanousd"]
        assert held > 0
        gateway.signal(signal.SIGKILL)
        assert await gateway.ended() == -signal.SIGKILL
        assert not (await client.incoming.rest()).endswith(b"0\r\n\r\n")
    after = await spawn(**store)
    lost = await record_of(after.admin_url, lost_id)
    assert (lost["outcome"], lost["cost_nanousd"]) == ("lost", held)
    assert [(await record_of(after.admin_url, call_id))["cost_nanousd"] for call_id in ids] == [WHOLE_NANOUSD] * 3
    budget = await budget_of(after)
    assert (budget["spent_nanousd"], budget["held_nanousd"]) == (3 * WHOLE_NANOUSD + held, 0)


async def test_no_call_that_was_answered_is_free_after_a_kill(upstream: ScriptedUpstream, spawn: Spawn) -> None:
    """Killed under load: each call that a client saw end is in the books, with its cost or with what was held for it."""
    store = {"store": {"lease": "1s"}, "budgets": [BUDGET]}
    gateway = await spawn(**store)
    upstream.answer = [ORDINARY]
    answered: list[str] = []
    killed = asyncio.Event()

    async def client() -> None:
        while not killed.is_set():
            try:
                answer = await ask(gateway.front_port, POST)
            except (ConnectionError, CutOff):
                return
            if answer.body.whole:
                answered.append((answer.head.value(b"x-tollgate-call-id") or b"").decode())
            if len(answered) == 60:
                gateway.signal(signal.SIGKILL)
                killed.set()

    await asyncio.gather(*(client() for _ in range(8)))
    await gateway.ended()
    after = await spawn(**store)
    costs = {call_id: await record_of(after.admin_url, call_id) for call_id in answered}
    assert len(costs) == len(answered) >= 60
    for record in costs.values():
        cost = WHOLE_NANOUSD if record["outcome"] == "completed" else record["held_nanousd"]
        assert record["cost_nanousd"] == cost > 0
    async with asyncio.timeout(15):
        while (budget := await budget_of(after))[
            "held_nanousd"
        ]:  # of calls that nobody saw answered: until their lease lapses
            await asyncio.sleep(0.05)
    everything = await records(after.admin_url, len(answered))
    assert budget["spent_nanousd"] == sum(each["cost_nanousd"] for each in everything)
