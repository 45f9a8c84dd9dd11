"""What a start loads: nothing that only others need. Each of these costs 5 to 100 ms, or tens of megabytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness.gateways import ROOT

SERVES = """
import sys
from click.testing import CliRunner
from gateway import loop
from gateway.app import Gateway
from gateway.cli import main
from gateway.loading import load

assert CliRunner().invoke(main, ["serve", "--config", "there-is-none.yaml"]).exit_code == 2

async def begin(settings):
    gateway = Gateway(settings)
    await gateway.start()
    loaded = sorted(sys.modules)
    await gateway.stop(0)
    return loaded

told = "front: {port: 0}\\nadmin: {port: 0}\\nstore: {url: 'sqlite:///:memory:'}\\nobservability: {enabled: false}\\n"
open("tollgate.yaml", "w").write(told)
from pathlib import Path
print("\\n".join(loop.run(begin(load(Path("tollgate.yaml"), {})))))
"""
ELSEWHERE = {
    "concurrent.futures.process", "gateway.cli.calls", "gateway.cli.complete", "gateway.cli.demonstration", "gateway.cli.report",
    "gateway.simulator", "gateway.store.redis", "grpc", "markdown_it", "multiprocessing", "pip", "pkg_resources", "pygments", "redis",
    "regex", "requests", "rich", "setuptools", "toktok", "unittest", "xml", "xmlrpc",
}  # fmt: skip


def test_a_start_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """All modules of a process that listens on both sides, with the embedded store."""
    told = subprocess.run(
        [sys.executable, "-c", SERVES],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = set(told.stdout.split())
    assert {"gateway.app", "gateway.store.sqlite", "uvloop"} <= loaded
    assert sorted(ELSEWHERE & loaded) == []
