"""Gateways in front of a scripted upstream.

The tests of a module share one event loop, one upstream and, unless they need a config of their own, one gateway.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme

from tests.harness.gateways import GatewayProcess, config_for, in_process
from tests.harness.redis_servers import Server, redis_binary
from tests.harness.scripted import ScriptedUpstream

Serve = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing_upstream() -> AsyncIterator[ScriptedUpstream]:
    """One upstream for all tests of a module."""
    async with ScriptedUpstream() as server:
        yield server


@pytest.fixture
def upstream(standing_upstream: ScriptedUpstream) -> ScriptedUpstream:
    """It, having forgotten the test before."""
    standing_upstream.forget()
    return standing_upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(standing_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """A gateway with nothing but upstreams in its config; it builds its vocabulary once a module (0.3 s), not once a test."""
    folder = tmp_path_factory.mktemp("standing")
    async with in_process(folder, config_for(folder, standing_upstream, front={"shutdown_grace": "200ms"})) as serving:
        yield serving


@pytest_asyncio.fixture(loop_scope="module")
async def serve(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts a gateway of a test's own; keyword arguments are blocks of its config (``up``: keys of the upstreams)."""
    async with AsyncExitStack() as stack:

        async def start(place: ScriptedUpstream | str = upstream, **blocks: Any) -> Any:
            blocks["front"] = {"shutdown_grace": "200ms"} | blocks.get("front", {})
            told = blocks.setdefault("observability", {})
            told["health"] = {"every": "200ms"} | told.get("health", {})
            return await stack.enter_async_context(in_process(tmp_path, config_for(tmp_path, place, **blocks)))

        yield start


@pytest_asyncio.fixture(loop_scope="module")
async def spawn(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[GatewayProcess]]]:
    """The same as ``serve``, as a process of its own; killed when the test is over."""
    processes: list[GatewayProcess] = []

    async def start(**blocks: Any) -> GatewayProcess:
        process = GatewayProcess(tmp_path, config_for(tmp_path, upstream, **blocks))
        processes.append(process)
        await process.start()
        return process

    yield start
    for process in processes:
        await process.kill()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Signs certificates for 127.0.0.1."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    """The authority's certificate as a file."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest_asyncio.fixture(loop_scope="module")
async def tls_upstream(authority: trustme.CA) -> AsyncIterator[ScriptedUpstream]:
    """A scripted upstream behind TLS."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    async with ScriptedUpstream(tls=server_side) as server:
        yield server


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """The TLS settings of a client that trusts the authority."""
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    return client_side


@pytest.fixture
def server() -> Iterator[Server]:
    """A Redis of a test's own; skipped by name where none is installed."""
    binary = redis_binary()
    if binary is None:
        pytest.skip("there is no Redis server on this machine")
    running = Server(binary)
    yield running
    running.close()


@pytest.fixture(params=["sqlite", "redis"])
def either_store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, Any], Server | None]:
    """Once with each kind of store, on books of this test alone: its block of the config, and the server if there is one."""
    if request.param == "sqlite":
        return {"url": f"sqlite:///{tmp_path / 'books.db'}"}, None
    server = request.getfixturevalue("server")
    return {"url": server.tcp_url, "journal": str(tmp_path / "journal")}, server
