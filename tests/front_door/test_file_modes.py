"""Who may read what the gateway writes: records name teams and users, so its own user alone, unless somebody has decided otherwise."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.harness.gateways import GatewayProcess, config_for
from tests.harness.messages import response
from tests.harness.replicas import call
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = b'{"model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":5}}'
OK = response(200, ("Content-Type", "application/json"), body=BODY)


@pytest.fixture(autouse=True)
def _generous() -> Iterator[None]:
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(*paths: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in paths}


async def test_what_the_gateway_makes_is_its_own_users(
    upstream: ScriptedUpstream, tmp_path: Path, either_store: Any
) -> None:
    """Also what takes over from a process that was killed; what was there keeps its mode, and what belongs to it is made like it."""
    upstream.answer = [OK]
    block, server = either_store
    gateway = GatewayProcess(tmp_path, config_for(tmp_path, upstream, store=block))
    books, journal = tmp_path / "books.db", tmp_path / "journal"
    made = [books, tmp_path / "books.db-wal", tmp_path / "books.db-shm"]
    try:
        await gateway.start()
        assert (await call(gateway, "sk-any")).status == 200
        assert modes(*(made if server is None else journal.iterdir())) == {0o600}
        assert server is None or modes(journal) == {0o700}
        if server is None:
            gateway.signal(signal.SIGTERM)  # in the end SQLite takes away what stands beside the file
            assert (await gateway.ended(), made[1].exists()) == (0, False)
            books.chmod(0o640)
        else:
            await gateway.kill()
            journal.chmod(0o750)
        await gateway.start()
        assert (await call(gateway, "sk-any")).status == 200
        if server is None:
            assert modes(*made) == {0o640}
        else:
            assert modes(journal) == {0o750}
            assert modes(*journal.iterdir()) == {0o600}
            assert {path.suffix for path in journal.iterdir()} == {".journal", ".journal-before"}, "it has taken over"
    finally:
        await gateway.kill()


async def test_a_command_that_begins_the_books_begins_them_alike(tmp_path: Path) -> None:
    """A key that is made before the first start; where the file is a link, what it leads to."""
    config = tmp_path / "tollgate.yaml"
    (tmp_path / "link.db").symlink_to(tmp_path / "books.db")
    config.write_text(f"store: {{url: 'sqlite:///{tmp_path}/link.db'}}\n")
    arguments = ["keys", "create", "--name", "ann", "--config", str(config)]
    made = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    assert made.exit_code == 0, made.output
    assert modes(tmp_path / "books.db") == {0o600}
