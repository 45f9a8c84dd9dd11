"""docs/first-five-minutes.md, its first command: what it installs is a gateway that works without the repository."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from tests.harness.gateways import ROOT, free_port
from tests.harness.pages import blocks

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

INSTALL = blocks("docs/first-five-minutes.md")[0].text
PARTS = ("gateway", "pricing", "config", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")
NO_NETWORK = ("No matching distribution", "Could not find a version", "Temporary failure", "ConnectionError")


async def run(folder: Path, *command: str) -> tuple[int | None, str]:
    """Exit status and everything that was printed, in a folder, without this environment's packages."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={name: os.environ[name] for name in os.environ if name not in {"VIRTUAL_ENV", "PYTHONPATH"}},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 240)
    return process.returncode, printed.decode()


@pytest.mark.asyncio
async def test_what_is_installed_runs(tmp_path: Path) -> None:
    """In a copy of the repository, which is then taken away: the demo with its prices and vocabularies, page and all."""
    assert "pip install ." in INSTALL
    for part in PARTS:
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, tmp_path / part)
    status, printed = await run(tmp_path, "bash", "-eu", "-c", INSTALL)
    if status and any(sign in printed for sign in NO_NETWORK):
        pytest.skip(f"pip cannot install here: {printed[-300:]}")
    assert status == 0, printed[-2000:]
    for part in PARTS:
        (shutil.rmtree if (tmp_path / part).is_dir() else os.remove)(tmp_path / part)
    ports = ("--port", str(free_port()), "--admin-port", str(free_port()))
    status, printed = await run(tmp_path, ".venv/bin/tollgate", "demo", "--once", *ports)
    assert status == 0, printed
    assert "counted" in printed
    assert "The budget 'team:support/day'" in printed
