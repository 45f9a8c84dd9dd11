"""Gateways in front of a scripted upstream."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme

from tests.harness.gateways import GatewayProcess, config_for, in_process
from tests.harness.scripted import ScriptedUpstream

Serve = Callable[..., Awaitable[Any]]


@pytest.fixture
async def serve(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts a gateway before ``upstream``; keyword arguments are blocks of its config (``up``: keys of the upstreams)."""
    async with AsyncExitStack() as stack:

        async def start(place: ScriptedUpstream | str = upstream, **blocks: Any) -> Any:
            blocks["front"] = {"shutdown_grace": "200ms"} | blocks.get("front", {})
            return await stack.enter_async_context(in_process(tmp_path, config_for(tmp_path, place, **blocks)))

        yield start


@pytest.fixture
async def gateway(serve: Serve) -> Any:
    """A gateway with nothing but upstreams in its config."""
    return await serve()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_upstream() -> AsyncIterator[ScriptedUpstream]:
    """One upstream for a module of many short tests, each of which sets what it answers."""
    async with ScriptedUpstream() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_gateway(
    shared_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    """A gateway before ``shared_upstream``: it builds its vocabulary once (0.3 s) instead of once a test."""
    folder = tmp_path_factory.mktemp("shared")
    async with in_process(folder, config_for(folder, shared_upstream, front={"shutdown_grace": "200ms"})) as gateway:
        yield gateway


@pytest.fixture
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


@pytest.fixture
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
