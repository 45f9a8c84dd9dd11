"""The stream of events: what is told, in order, to whom, and that nobody who listens can do harm."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from gateway.observe import live
from gateway.simulator import Simulator
from tests.front_door.conftest import Serve
from tests.harness.books import CALLS, post
from tests.harness.gateways import config_for, in_process, write
from tests.harness.messages import request
from tests.harness.raw_client import ask

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/v1/events"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Simulator]:
    """The pretend provider."""
    async with Simulator() as simulator:
        yield simulator


class Stream:
    """A client that reads events as the page does."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def block(self) -> str:
        """What stands up to the next empty line."""
        lines = []
        while line := (await self.response.content.readline()).decode().rstrip("\n"):
            lines.append(line)
        return "\n".join(lines)

    async def until(self, name: str) -> dict[str, Any]:
        """The next event of this name."""
        async with asyncio.timeout(15):
            while True:
                block = await self.block()
                assert block or not self.response.content.at_eof(), "the stream ended"
                fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
                if fields.get("event") == name:
                    found: dict[str, Any] = json.loads(fields["data"])
                    return found


async def test_calls_are_told_as_they_end_and_how_it_goes_each_second(provider: Simulator, serve: Serve) -> None:
    """First ``retry`` and the figures of now; then each call, in order; what a second has no room for is said."""
    gateway = await serve(provider.url)
    async with aiohttp.ClientSession() as session, session.get(gateway.admin_url + PATH) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        assert "Content-Security-Policy" in response.headers
        stream = Stream(response)
        assert await stream.block() == "retry: 2000"
        assert (await stream.until("now"))["calls_left_out"] == 0
        told, made = [], []
        for _ in range(3):
            answer = await ask(gateway.front_port, post(*CALLS["chat"], ("X-Tollgate-Team", "search")))
            made.append(answer.head.value(b"x-tollgate-call-id").decode())
            told.append(await stream.until("call"))
        assert [each["call_id"] for each in told] == made
        assert set(told[0]) == set(live.TOLD)
        assert (told[0]["team"], told[0]["outcome"], told[0]["status"]) == ("search", "completed", 200)
        await asyncio.gather(*(ask(gateway.front_port, post(*CALLS["chat"])) for _ in range(60)))
        left_out = told_more = 0
        async with asyncio.timeout(15):
            while left_out + told_more < 60:
                fields = dict(line.split(": ", 1) for line in (await stream.block()).splitlines())
                told_more += fields.get("event") == "call"
                left_out += json.loads(fields["data"])["calls_left_out"] if fields.get("event") == "now" else 0
        assert left_out > 0
        assert left_out + told_more == 60


async def test_a_heartbeat_and_a_change_are_told(
    provider: Simulator, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comment now and then; ``changed`` when a reload is in force."""
    monkeypatch.setattr(live, "TICK_S", 0.05)
    monkeypatch.setattr(live, "HEARTBEAT_TICKS", 2)
    config = config_for(tmp_path, provider.url)
    async with (
        in_process(tmp_path, config) as gateway,
        aiohttp.ClientSession() as session,
        session.get(gateway.admin_url + PATH) as response,
    ):
        stream = Stream(response)
        async with asyncio.timeout(15):
            while not (await stream.block()).startswith(":"):
                pass
        before = (await stream.until("now"))["config_version"]
        write(tmp_path, config | {"budgets": [{"scope": "global", "limit_usd": 1}]})
        gateway.reload()
        changed = await stream.until("changed")
        assert set(changed) == {"revision", "config_version"}
        assert changed["config_version"] == gateway.snapshot.version != before


async def test_a_slow_listener_loses_events_and_never_memory(
    provider: Simulator, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others hear all; what waits for it is bounded; when it has taken nothing for long it is let go."""
    monkeypatch.setattr(live, "TICK_S", 0.02)
    monkeypatch.setattr(live, "STUCK_S", 6.0)
    monkeypatch.setattr(live, "COMMENT", b": " + b"x" * 100_000 + b"\n\n")
    monkeypatch.setattr(live, "HEARTBEAT_TICKS", 1)
    gateway = await serve(provider.url)
    listeners = gateway._telemetry.live._listeners
    _, slow = await asyncio.open_connection("127.0.0.1", gateway.admin_port, limit=1024)  # nobody reads what comes
    try:
        slow.write(request("GET", PATH, host="localhost"))
        async with asyncio.timeout(25):
            while not listeners:
                await asyncio.sleep(0.01)
            (one,) = listeners
            while len(one.waiting) < live.MAX_WAITING:
                await asyncio.sleep(0.01)
            async with aiohttp.ClientSession() as session, session.get(gateway.admin_url + PATH) as response:
                await Stream(response).until("now")
                await Stream(response).until("now")
            while one in listeners:
                assert len(one.waiting) <= live.MAX_WAITING
                await asyncio.sleep(0.01)
    finally:
        slow.close()


async def test_there_are_at_most_64_and_who_leaves_makes_room(provider: Simulator, serve: Serve) -> None:
    """503 beyond; nothing ticks when the last one has left."""
    gateway = await serve(provider.url)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        streams = [await session.get(gateway.admin_url + PATH) for _ in range(64)]
        assert all(each.status == 200 for each in streams)
        async with session.get(gateway.admin_url + PATH) as refused:
            assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
        await asyncio.gather(*(Stream(each).until("now") for each in streams))
        for each in streams:
            each.close()
    async with asyncio.timeout(15):
        while gateway._telemetry.live._listeners or gateway._telemetry.live._ticking is not None:
            await asyncio.sleep(0.02)


async def test_stopping_is_not_delayed(provider: Simulator, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one who listens, nor by one who takes nothing. The stream of who listens ends whole."""
    monkeypatch.setattr(live, "TICK_S", 0.02)
    monkeypatch.setattr(live, "COMMENT", b": " + b"x" * 100_000 + b"\n\n")
    monkeypatch.setattr(live, "HEARTBEAT_TICKS", 1)
    async with aiohttp.ClientSession() as session:
        async with in_process(tmp_path, config_for(tmp_path, provider.url)) as gateway:
            _, stuck = await asyncio.open_connection("127.0.0.1", gateway.admin_port, limit=1024)
            stuck.write(request("GET", PATH, host="localhost"))
            async with asyncio.timeout(25):
                while not any(len(each.waiting) == live.MAX_WAITING for each in gateway._telemetry.live._listeners):
                    await asyncio.sleep(0.02)
            response = await session.get(gateway.admin_url + PATH)
            await Stream(response).until("now")
            began = time.monotonic()
        assert time.monotonic() - began < 5
        async with asyncio.timeout(30):
            await response.read()
        stuck.close()


async def test_a_token_is_needed(provider: Simulator, serve: Serve) -> None:
    """As for everything that says something."""
    gateway = await serve(provider.url, admin={"port": 0, "token": "zqadminzq"})
    assert (await ask(gateway.admin_port, request("GET", PATH, host="localhost"))).status == 401
    field = {"Authorization": "Bearer zqadminzq"}
    async with aiohttp.ClientSession(headers=field) as session, session.get(gateway.admin_url + PATH) as response:
        assert response.status == 200
        await Stream(response).until("now")


async def test_a_stream_ends_with_its_token(provider: Simulator, tmp_path: Any) -> None:
    """Taken out of the config, or expired, while somebody listens. Whoever has another token listens on."""
    soon = datetime.fromtimestamp(time.time() + 3, UTC).isoformat(timespec="seconds")
    tokens = [
        {"name": "stays", "token": "stays-zq"},
        {"name": "goes", "token": "goes-zq"},
        {"name": "ends", "token": "ends-zq", "expires": soon},
    ]
    config = config_for(tmp_path, provider.url, admin={"port": 0, "tokens": tokens})
    async with in_process(tmp_path, config) as gateway, aiohttp.ClientSession() as session:

        async def listen(token: str) -> aiohttp.ClientResponse:
            response = await session.get(gateway.admin_url + PATH, headers={"Authorization": f"Bearer {token}"})
            await Stream(response).until("now")
            return response

        stays, goes, ends = [await listen(str(each["token"])) for each in tokens]
        write(tmp_path, {**config, "admin": {"port": 0, "tokens": [tokens[0], tokens[2]]}})
        assert await gateway._reloader.reload()
        async with asyncio.timeout(10):
            await asyncio.gather(goes.read(), ends.read())
        await Stream(stays).until("now")
        stays.close()
