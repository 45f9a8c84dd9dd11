"""Realtime sessions through the front door: each response is billed, what is heard as well, and no frame is touched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.audit import verdict
from pricing.book import Book
from tests.front_door.conftest import Serve
from tests.harness.books import budgets_of, until_held
from tests.harness.gateways import records
from tests.harness.messages import request
from tests.harness.raw_client import connected
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

SESSION = {
    "type": "session.created",
    "event_id": "e0",
    "session": {
        "id": "sess_1",
        "model": "gpt-realtime",
        "audio": {"input": {"transcription": {"model": "gpt-4o-mini-transcribe"}}},
    },
}
USAGE = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}
DONE = {"type": "response.done", "response": {"id": "resp_1", "status": "completed", "usage": USAGE}}
HEARD = {
    "type": "conversation.item.input_audio_transcription.completed",
    "transcript": "Hello.",
    "usage": {"type": "tokens", "input_tokens": 22, "input_token_details": {"audio_tokens": 20}, "output_tokens": 5},
}
SAID = {"type": "response.output_audio.delta", "delta": "A" * 6_300}
RESPONSE_NANOUSD = 55 * 4_000 + 64 * 400 + 13 * 32_000 + 30 * 16_000 + 91 * 64_000
"""gpt-realtime, a million: text $4, cached $0.40, sound $32; out $16 and $64 (OpenAI, pricing)."""
Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


class Provider:
    """A server that says what a test wants it to, then waits for the client to leave."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.hangs_up = False
        self.pause_s = 0.0
        self.left = asyncio.Event()

    async def answer(self, asked: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(asked)
        try:
            for event in self.events:
                await socket.send_json(event)
                await asyncio.sleep(self.pause_s)
            if not self.hangs_up:
                async for _ in socket:
                    pass
            await socket.close()
        finally:
            self.left.set()
        return socket


@pytest_asyncio.fixture(loop_scope="module")
async def provider() -> AsyncIterator[Any]:
    """On a port of its own."""
    made = Provider()
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"  # type: ignore[attr-defined]
    yield made
    await runner.cleanup()


async def talk(
    gateway: Any, count: int, *, compress: int = 0, path: str = "/v1/realtime?model=gpt-realtime"
) -> list[Any]:
    """Connect, receive so many events, leave."""
    async with aiohttp.ClientSession() as session:
        team = {"x-tollgate-team": "a"}
        async with session.ws_connect(f"{gateway.front_url}{path}", headers=team, compress=compress) as socket:
            return [await socket.receive_json(timeout=10) for _ in range(count)]


async def booked(gateway: Any, count: int) -> dict[str, dict[str, Any]]:
    """Records by operation, once there are so many."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            await asyncio.sleep(0.02)
            found = await records(gateway.admin_url, 0)
    book = Book.load()
    assert {verdict(record, lambda version: book).state for record in found} == {"same"}
    return {record["operation"]: record for record in found}


@pytest.mark.parametrize("compress", [0, 15])
async def test_a_session_costs_the_sum_of_its_responses(provider: Any, serve: Serve, compress: int) -> None:
    """Compressed or not; what another model wrote down is billed at its own prices."""
    gateway = await serve(provider.url, budgets=[{"scope": "team:a", "limit_usd": 5, "window": "total"}])
    provider.events = [SESSION, {"type": "response.created"}, SAID, DONE, HEARD, DONE, HEARD]
    assert await talk(gateway, 7, compress=compress) == provider.events
    found = await booked(gateway, 2)
    session, heard = found["realtime"], found["transcription"]
    assert (session["cost_nanousd"], session["usage_source"]) == (2 * RESPONSE_NANOUSD, "provider")
    assert session["usage"] == {"input": 110, "cached_input": 128, "audio_in": 26, "output": 60, "audio_out": 182}
    assert (session["model_requested"], session["model_served"], session["status"]) == (
        "gpt-realtime",
        "gpt-realtime",
        101,
    )
    assert (heard["usage"], heard["told_by"]) == ({"input": 4, "audio_in": 40, "output": 10}, session["call_id"])
    assert (heard["team"], heard["model_requested"]) == ("a", "gpt-4o-mini-transcribe")
    assert heard["cost_nanousd"] > 0


async def test_a_response_that_is_cut_is_not_free(provider: Any, serve: Serve) -> None:
    """What it had said is estimated, and what it had read is taken to be what the last one had."""
    gateway = await serve(provider.url)
    provider.events = [SESSION, {"type": "response.created"}, DONE, {"type": "response.created"}, SAID, SAID]
    await talk(gateway, 6)
    session = (await booked(gateway, 1))["realtime"]
    assert session["usage_source"] == "estimated"
    assert session["usage"] == {
        "input": 55 + 132,
        "cached_input": 64,
        "audio_in": 13,
        "output": 30,
        "audio_out": 91 + 4,
    }


async def test_a_session_without_a_response_costs_nothing(provider: Any, serve: Serve) -> None:
    """Somebody looked in."""
    gateway = await serve(provider.url)
    provider.events = [SESSION]
    await talk(gateway, 1)
    session = (await booked(gateway, 1))["realtime"]
    assert (session["usage"], session["cost_nanousd"]) == ({}, 0)


async def test_the_model_is_the_one_that_the_session_says(provider: Any, serve: Serve) -> None:
    """The query may name a deployment, or nothing."""
    gateway = await serve(provider.url)
    provider.events = [SESSION, DONE]
    await talk(gateway, 2, path="/v1/realtime")
    session = (await booked(gateway, 1))["realtime"]
    assert (session["model_requested"], session["model_served"]) == ("", "gpt-realtime")
    assert session["cost_nanousd"] == RESPONSE_NANOUSD


# -- a budget that runs out while a session runs ---------------------------------------------------------------------------


def purse(limit_usd: str, **more: Any) -> list[dict[str, Any]]:
    """One on everything, for ever."""
    return [{"scope": "global", "limit_usd": limit_usd, "window": "total", "name": "purse", **more}]


async def session(gateway: Any, *, events: int, compress: int = 0) -> tuple[list[Any], int | None, str]:
    """Receive so many events or fewer: those that came, the code with which the session was closed, and the reason."""
    found: list[Any] = []
    async with aiohttp.ClientSession() as client:
        place = f"{gateway.front_url}/v1/realtime?model=gpt-realtime"
        async with client.ws_connect(place, compress=compress) as socket:
            while len(found) < events:
                message = await socket.receive(timeout=10)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return found, socket.close_code, str(message.extra or "")
                found.append(message.json())
    return found, None, ""


@pytest.mark.parametrize("compress", [0, 15])
async def test_a_budget_that_cuts_ends_a_session_that_runs(provider: Any, serve: Serve, compress: int) -> None:
    """Each response that is billed needs room for one more; without it both ends are closed, and what was said is paid for."""
    gateway = await serve(provider.url, budgets=purse("0.05", on_exhausted="cut"))
    provider.events = [SESSION, *[{"type": "response.created"}, SAID, DONE] * 30]
    provider.pause_s = 0.002
    found, code, reason = await session(gateway, events=91, compress=compress)
    assert (code, reason) == (1008, "budget_exceeded: purse")
    assert found == provider.events[: len(found)]
    record = (await booked(gateway, 1))["realtime"]
    assert (record["outcome"], record["error_type"], record["budgets"][0]) == ("cut", "budget_exceeded", "purse")
    assert record["cost_nanousd"] >= 4 * RESPONSE_NANOUSD
    assert record["cost_nanousd"] <= 50_000_000 + RESPONSE_NANOUSD
    balance = (await budgets_of(gateway))["global"]
    assert (balance["spent_nanousd"], balance["held_nanousd"]) == (record["cost_nanousd"], 0)
    async with asyncio.timeout(30):
        await provider.left.wait()


@pytest.mark.parametrize("more", [{}, {"mode": "soft", "on_exhausted": "cut"}])
async def test_a_session_that_may_finish_goes_on(provider: Any, serve: Serve, more: dict[str, Any]) -> None:
    """``finish`` is the default, and a soft budget looks only at what was spent before."""
    gateway = await serve(provider.url, budgets=purse("0.03", **more))
    provider.events = [SESSION, *[{"type": "response.created"}, SAID, DONE] * 10]
    provider.pause_s = 0.002
    found, code, _ = await session(gateway, events=31)
    assert (found, code) == (provider.events, None)
    record = (await booked(gateway, 1))["realtime"]
    assert record["cost_nanousd"] == 10 * RESPONSE_NANOUSD
    balance = (await budgets_of(gateway))["global"]
    assert (balance["spent_nanousd"], balance["held_nanousd"]) == (10 * RESPONSE_NANOUSD, 0)


async def test_a_session_holds_what_it_used_and_one_response_more(provider: Any, serve: Serve) -> None:
    """Also in strict mode, where nothing in the handshake bounds a session."""
    gateway = await serve(provider.url, budgets=purse("5", mode="strict"))
    provider.events = [SESSION, *[{"type": "response.created"}, SAID, DONE] * 3]
    talking = asyncio.create_task(session(gateway, events=11))
    async with asyncio.timeout(10):
        while (await until_held(gateway))["held_nanousd"] < 3 * RESPONSE_NANOUSD + 256 * 64_000:
            await asyncio.sleep(0.01)
    talking.cancel()
    await asyncio.gather(talking, return_exceptions=True)
    assert (await booked(gateway, 1))["realtime"]["cost_nanousd"] == 3 * RESPONSE_NANOUSD
    assert (await budgets_of(gateway))["global"]["held_nanousd"] == 0


@pytest.mark.parametrize("half", [b"", b"\x81", b"\x82\x7e\x10\x00half of it"])
async def test_a_close_frame_stands_between_frames_only(upstream: ScriptedUpstream, serve: Serve, half: bytes) -> None:
    """In the middle of one it would be taken for a part of it: then the connection is only closed."""
    gateway = await serve(upstream.url, budgets=purse("0.01", on_exhausted="cut"))
    done = json.dumps(DONE).encode()
    frames = (b"\x81\x7e" + len(done).to_bytes(2, "big") + done) * 9 + half
    fields = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="))
    head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    upstream.read_body = False
    upstream.answer = [head, frames, asyncio.Event()]
    async with connected(gateway.front_port) as client, asyncio.timeout(10):
        await client.send(request("GET", "/v1/realtime?model=gpt-realtime", *fields))
        assert (await client.head()).status == 101
        said = b"budget_exceeded: purse"
        close = b"\x88" + bytes((len(said) + 2,)) + (1008).to_bytes(2, "big") + said
        assert await client.incoming.rest() == frames + (b"" if half else close)
    assert (await booked(gateway, 1))["realtime"]["cost_nanousd"] == 9 * RESPONSE_NANOUSD
