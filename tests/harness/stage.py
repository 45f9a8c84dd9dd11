"""A stage on which a page of the docs is played: its configs are checked, its commands and programs are run, in its order.

Owns what a block needs to run at all: a folder, an environment, a pretend provider behind ``tollgate serve``, free ports in
place of those that the page names. What a block says is run as it stands otherwise.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.loading import load
from gateway.settings import Settings
from gateway.simulator import Simulator
from tests.harness.gateways import ROOT, free_port
from tests.harness.pages import Block

LONGEST_S = 60
PORTS = ("8080", "8081", "9080", "9081")
SERVES = re.compile(
    r"^(?P<command>[^#\n]*\btollgate (?:serve|demo)(?! --once)\b[^#&\n]*)(?P<behind>&[^\n]*)?(?:#.*)?$", re.MULTILINE
)
READS_BOOKS = re.compile(r"\btollgate (?:audit|report|correct|reconcile)\b")
ONE_CALL = (
    "curl -sSf -o here.json http://127.0.0.1:8080/v1/chat/completions -H 'x-tollgate-team: search'"
    """ -d '{"model": "gpt-4o-mini", "messages": []}'\n"""
)
NAMED = re.compile(r"# (?P<name>[\w-]+\.yaml)\n")
VARIABLE = re.compile(r"\$\{(\w+)\}")
QUEUE = re.compile(r"^llm_queue_depth \d+", re.MULTILINE)
CONFIG_VERSION = re.compile(r"^tollgate_config_version_info\{.*\}", re.MULTILINE)
KEYS_OF_ANY_APP = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"), "any-key")
BLOCKS_OF_A_CONFIG = set(Settings.__dataclass_fields__)


class Stage:
    """``folder`` is where commands run. ``environment`` keeps what they export."""

    def __init__(self, folder: Path, provider: str, ports: dict[str, int]) -> None:
        self.folder = folder / "here"
        self._own = folder / "own"
        self._ports = ports
        for place in (self.folder / ".venv" / "bin", self._own / "bin"):
            place.mkdir(parents=True)
        self._command("tollgate", "")
        self._command("ready", "ready")
        (self.folder / ".venv" / "bin" / "tollgate").symlink_to(self._own / "bin" / "tollgate")
        stage = {"provider": provider, "ports": ports, "folder": str(self._own)}
        self.environment = {
            "PATH": f"{self._own / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "TOLLGATE_STAGE": json.dumps(stage),
            "SERVE_LOG": str(self._own / "serve.log"),
            **KEYS_OF_ANY_APP,
        }

    def _command(self, name: str, arguments: str) -> None:
        path = self._own / "bin" / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.harness.stand_in {arguments} "$@"\n')
        path.chmod(0o755)

    def own(self, text: str) -> str:
        """With our ports for those of the page."""
        return re.sub(
            r"(127\.0\.0\.1:)(\d+)\b", lambda found: found[1] + str(self._ports.get(found[2], found[2])), text
        )

    # -- kinds of blocks ----------------------------------------------------------------------------------------------

    async def config(self, block: Block) -> None:
        """Write it under the name in its first line and read it as ``tollgate check`` does. Raises Problems.

        One without a name is only read. A gateway that runs has taken it over when this returns.
        """
        given = dict.fromkeys(VARIABLE.findall(block.text), "https://given.example")
        self.environment |= {name: value for name, value in given.items() if name not in self.environment}
        named = NAMED.match(block.text)
        path = self.folder / named["name"] if named else self._own / "part.yaml"
        replaces = named is not None and path.exists()
        running = {url: await _metric(url, CONFIG_VERSION) for url in self.gateways().values()} if replaces else {}
        path.write_text(self.own(block.text))
        load(path, self.environment)
        async with asyncio.timeout(LONGEST_S):
            for url, before in running.items():
                while await _metric(url, CONFIG_VERSION) == before:
                    await asyncio.sleep(0.05)

    async def shell(self, block: Block) -> str:
        """Run it in bash, ending at the first command that fails; what it exports stays. Returns what it printed."""
        await self._audience(block)
        text = SERVES.sub(_beside, self.own(block.text))
        script = f'set -eu\n{text}\nenv -0 > "{self._own}/environment"\n'
        printed = await self._run(["bash", "-c", script], block)
        left = (self._own / "environment").read_text().split("\0")
        self.environment = dict(each.split("=", 1) for each in left if "=" in each)
        return printed

    async def program(self, block: Block) -> str:
        """Run Python."""
        await self._audience(block)
        (self.folder / "program.py").write_text(self.own(block.text))
        return await self._run([sys.executable, "program.py"], block)

    async def _run(self, command: list[str], block: Block) -> str:
        output = self._own / "output"
        expected = int(block.remark[1]) if block.remark[0] == "exits" else 0
        with output.open("wb") as out:  # not a pipe: what is left running would keep it open
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.folder,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
            try:
                status = await asyncio.wait_for(process.wait(), LONGEST_S)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        printed = output.read_text(errors="replace")
        assert status == expected, f"{block}: exit status {status}\n{printed[-2000:]}\n{self._log()[-2000:]}"
        return printed

    # -- gateways -----------------------------------------------------------------------------------------------------

    async def _audience(self, block: Block) -> None:
        """A gateway, where the block asks one and nothing before it has started one; and the books of all calls so far."""
        reads = READS_BOOKS.search(block.text) is not None
        asks = reads or "127.0.0.1:80" in block.text or block.form == "python"
        for name in re.findall(r"--config (\S+)", block.text):
            if not (self.folder / name).exists():
                (self.folder / name).write_text("{}\n")
        if asks and not SERVES.search(block.text) and not self.gateways():
            text = "tollgate serve\n" + (ONE_CALL if reads else "")
            await self.shell(Block(block.page, block.line, "bash", text))
        for admin in self.gateways().values():
            await _until_booked(admin)

    def gateways(self) -> dict[int, str]:
        """Those that run: process id -> URL of the admin listener."""
        found = {int(path.stem): f"http://127.0.0.1:{path.read_text()}" for path in self._own.glob("*.admin")}
        return {pid: url for pid, url in found.items() if _runs(pid)}

    async def end(self) -> None:
        """Stop every gateway that a block has started."""
        for pid in self.gateways():
            os.kill(pid, signal.SIGTERM)
        async with asyncio.timeout(LONGEST_S):
            while self.gateways():
                await asyncio.sleep(0.02)

    def _log(self) -> str:
        path = self._own / "serve.log"
        return path.read_text(errors="replace") if path.exists() else ""


@asynccontextmanager
async def stage(folder: Path, ports: dict[str, int] | None = None) -> AsyncIterator[Stage]:
    """A stage with nothing on it. ``ports``: further ones that the page names, and which stand for them."""
    async with Simulator() as provider:
        made = Stage(folder, provider.url, {name: free_port() for name in PORTS} | (ports or {}))
        try:
            yield made
        finally:
            await made.end()


def is_config(text: str) -> bool:
    """Whether YAML is a config of ours, or a part of one."""
    found: Any = yaml.load(VARIABLE.sub("x", text), yaml.BaseLoader)
    return isinstance(found, dict) and set(found) <= BLOCKS_OF_A_CONFIG


def _beside(found: re.Match[str]) -> str:
    """A command that serves on, in the background; the next line waits until it is ready."""
    behind = (found["behind"] or "&").strip()
    return f'{found["command"].rstrip()} >> "$SERVE_LOG" 2>&1 {behind}\nready $!'


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def _until_booked(admin: str) -> None:
    """Finished calls are in the books a moment after their answer."""
    async with asyncio.timeout(LONGEST_S):
        while await _metric(admin, QUEUE) not in ("llm_queue_depth 0", ""):
            await asyncio.sleep(0.02)


async def _metric(admin: str, pattern: re.Pattern[str]) -> str:
    """The first line of a scrape that matches; "" where nobody answers any more."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{admin}/metrics") as response:
            found = pattern.search(await response.text())
    except aiohttp.ClientError:
        return ""
    return found[0] if found else ""
