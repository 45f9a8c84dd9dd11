"""Gateways to test: one in this process for most tests, one in a process of its own where memory, signals or death matter.

Owns the config that tests start from. Must not know how a gateway is built: only ``load``, ``running`` and the command.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.app import running
from gateway.loading import load
from tests.harness.ports import free_port
from tests.harness.scripted import ScriptedUpstream

ROOT = Path(__file__).resolve().parents[2]


def config_for(folder: Path, upstream: ScriptedUpstream | str, **blocks: Any) -> dict[str, Any]:
    """A config whose upstreams all are this one: ``up`` at its root, ``openai`` and ``anthropic`` under /v1 as usual.

    ``blocks`` are merged over it, block by block; ``up={...}`` holds keys for every upstream.
    """
    url = upstream if isinstance(upstream, str) else upstream.url
    common = blocks.pop("up", {})
    upstreams = {
        "up": {"base_url": url, "protocol": "openai"} | common,
        "openai": {"base_url": f"{url}/v1", "protocol": "openai"} | common,
        "anthropic": {"base_url": url, "protocol": "anthropic"} | common,
        "gemini": None,
    }
    config: dict[str, Any] = {
        "front": {"port": 0},
        "admin": {"port": 0},
        "store": {"url": f"sqlite:///{folder / 'books.db'}"},
        "upstreams": upstreams,
    }
    for name, block in blocks.items():
        config[name] = config.get(name, {}) | block if isinstance(block, dict) else block
    return config


def write(folder: Path, config: Mapping[str, Any]) -> Path:
    """The config as a file."""
    path = folder / "tollgate.yaml"
    path.write_text(yaml.safe_dump(dict(config)))
    return path


@asynccontextmanager
async def in_process(folder: Path, config: Mapping[str, Any]) -> AsyncIterator[Any]:
    """A gateway on this event loop, on free ports."""
    path = write(folder, config)
    async with running(load(path, {}), path) as gateway:
        yield gateway


class GatewayProcess:
    """``tollgate serve`` as a process."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.front_port, self.admin_port = free_port(), free_port()
        ports = {"front": {"port": self.front_port}, "admin": {"port": self.admin_port}}
        merged = {name: config.get(name, {}) | block for name, block in ports.items()}
        self._path = write(folder, {**config, **merged})
        self._folder = folder
        self._process: asyncio.subprocess.Process

    @property
    def admin_url(self) -> str:
        """Where operators look."""
        return f"http://127.0.0.1:{self.admin_port}"

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        with (self._folder / "log.jsonl").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", "serve", "--config", str(self._path)),
                cwd=self._folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while not await _is_ready(session, self.admin_url):
                if self._process.returncode is not None:
                    raise RuntimeError(f"the gateway did not start: {self.log[-2000:]}")
                await asyncio.sleep(0.02)

    @property
    def log(self) -> str:
        """Everything that it printed."""
        return (self._folder / "log.jsonl").read_text(errors="replace")

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    @property
    def rss_kb(self) -> int:
        """Resident memory now."""
        return self._memory("VmRSS:")

    @property
    def peak_kb(self) -> int:
        """The most that its resident memory ever was."""
        return self._memory("VmHWM:")

    def _memory(self, name: str) -> int:
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status, once it has one."""
        async with asyncio.timeout(20):
            return await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


async def _is_ready(session: aiohttp.ClientSession, admin_url: str) -> bool:
    try:
        async with session.get(f"{admin_url}/health/ready") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def record_of(admin_url: str, call_id: bytes | str | None) -> dict[str, Any]:
    """The record of a call, as soon as its books are right (that happens after the answer)."""
    name = call_id.decode() if isinstance(call_id, bytes) else call_id
    async with asyncio.timeout(15), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{admin_url}/api/v1/calls/{name}") as response:
                record: dict[str, Any] = await response.json()
                if record.get("state") == "finished":
                    return record
            await asyncio.sleep(0.01)


async def records(admin_url: str, count: int = 1) -> list[dict[str, Any]]:
    """All records, newest first, as soon as there are so many."""
    async with asyncio.timeout(15), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{admin_url}/api/v1/calls?limit=500") as response:
                found: list[dict[str, Any]] = (await response.json())["calls"]
                if len(found) >= count:
                    return found
            await asyncio.sleep(0.01)
