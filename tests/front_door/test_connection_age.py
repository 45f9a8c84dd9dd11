"""How long a connection to an upstream is used: a busy one follows changes of DNS, an idle one does not stay for ever."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.front_door.conftest import Serve
from tests.harness.messages import request
from tests.harness.raw_client import ask
from tests.harness.rows import PLAIN
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

GET = request("GET", "/up/v1/models")
NAME = "api.provider.test"


class Dns:
    """The names of this event loop. ``leads_to`` is the address that ``NAME`` has at the moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.leads_to = "127.0.0.1"
        self.asked = 0
        loop = asyncio.get_running_loop()
        known = loop.getaddrinfo

        async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
            if host != NAME:
                return await known(host, port, **options)
            self.asked += 1
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.leads_to, port))]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo, raising=False)


async def test_a_busy_connection_follows_a_change_of_dns(
    upstream: ScriptedUpstream, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never idle for ``keepalive``, and yet the next one goes where the name leads now."""
    dns = Dns(monkeypatch)
    elsewhere = ScriptedUpstream([PLAIN.replace(b"answer", b"moved!")])
    elsewhere.port = upstream.port
    server = await asyncio.start_server(elsewhere._accept, "127.0.0.2", upstream.port)
    gateway = await serve(f"http://{NAME}:{upstream.port}", up={"max_connection_age": "300ms", "keepalive": "60s"})
    upstream.answer = [PLAIN]
    assert (await ask(gateway.front_port, GET)).body.content == b"answer"
    dns.leads_to = "127.0.0.2"
    answers = []
    async with asyncio.timeout(10):
        while not answers or answers[-1] != b"moved!":
            answers.append((await ask(gateway.front_port, GET)).body.content)
    assert answers[0] == b"answer", "a young connection is kept"
    assert set(answers[:-1]) == {b"answer"}
    server.close()
    await asyncio.gather(*(task for task in elsewhere._tasks if task.cancel()), return_exceptions=True)


async def test_without_a_limit_a_connection_is_kept(
    upstream: ScriptedUpstream, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``max_connection_age: 0``."""
    dns = Dns(monkeypatch)
    gateway = await serve(f"http://{NAME}:{upstream.port}", up={"max_connection_age": "0", "keepalive": "60s"})
    upstream.answer = [PLAIN]
    until = asyncio.get_running_loop().time() + 0.5
    while asyncio.get_running_loop().time() < until:
        await ask(gateway.front_port, GET)
    assert dns.asked == 1


async def test_idle_connections_do_not_wait_for_a_call_to_be_closed(upstream: ScriptedUpstream, serve: Serve) -> None:
    """``keepalive``: an upstream that nobody asks any more is left alone."""
    gateway = await serve(up={"keepalive": "200ms"})
    upstream.answer = [0.1, PLAIN, asyncio.Event()]
    await asyncio.gather(*(ask(gateway.front_port, GET) for _ in range(3)))
    assert gateway.snapshot.pools["openai"].idle + gateway.snapshot.pools["up"].idle == 3
    async with asyncio.timeout(10):
        for seen in upstream.seen:
            await seen.gone.wait()
    assert gateway.snapshot.pools["openai"].idle + gateway.snapshot.pools["up"].idle == 0


async def test_connections_of_a_burst_do_not_stay(upstream: ScriptedUpstream, serve: Serve) -> None:
    """The newest is used again and again; those that it leaves idle beyond ``keepalive`` are closed on the way."""
    gateway = await serve(up={"keepalive": "300ms"})
    upstream.answer = [0.2, PLAIN]
    await asyncio.gather(*(ask(gateway.front_port, GET) for _ in range(5)))
    pool = gateway.snapshot.pools["up"]
    assert pool.idle == 5
    upstream.answer = [PLAIN]
    async with asyncio.timeout(10):
        while pool.idle != 1:
            await ask(gateway.front_port, GET)
