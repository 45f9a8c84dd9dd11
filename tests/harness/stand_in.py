"""The ``tollgate`` command on a stage: the very program, but its providers are the pretend one and its ports are free ones.

``TOLLGATE_STAGE`` holds where: {"provider": URL, "ports": {"8080": 40001, ...}, "folder": for a file about each process}.
``ready PID`` is one command more: it returns when that gateway is ready.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gateway.loading
import gateway.reload
from gateway.cli import main
from gateway.loading import load
from gateway.settings import Settings

STAGE = json.loads(os.environ["TOLLGATE_STAGE"])
FOLDER = Path(STAGE["folder"])
LONGEST_S = 30


def staged(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """A config as it is read, but for addresses."""
    settings = load(path, environ)
    here = {
        name: replace(each, base_url=STAGE["provider"] + ("/v1" if each.protocol == "openai" else ""))
        for name, each in settings.upstreams.items()
        if not each.base_url.startswith("http://127.0.0.1:")  # those of a page's own servers are as they are
    }
    front, admin = (replace(each, port=port(each.port)) for each in (settings.front, settings.admin))
    (FOLDER / f"{os.getpid()}.admin").write_text(str(admin.port))
    return replace(settings, upstreams={**settings.upstreams, **here}, front=front, admin=admin)


def port(told: int) -> int:
    """The free one that stands for it."""
    return int(STAGE["ports"].get(str(told), told))


def until_ready(pid: str) -> None:
    """Ends with status 1 when it has not become ready."""
    place, give_up = FOLDER / f"{pid}.admin", time.monotonic() + LONGEST_S
    while time.monotonic() < give_up and Path(f"/proc/{pid}").exists():
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{place.read_text()}/health/ready", timeout=5)
        except (OSError, ValueError):
            time.sleep(0.02)
        else:
            return
    sys.exit(f"process {pid} did not become ready")


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or ["--help"]
    if command == "ready":
        until_ready(rest[0])
        sys.exit(0)
    if command == "serve":
        gateway.loading.load = gateway.reload.load = staged  # type: ignore[attr-defined]
    if command == "demo":
        (FOLDER / f"{os.getpid()}.admin").write_text(str(port(8081)))
        rest += ["--port", str(port(8080)), "--admin-port", str(port(8081))]
    main([command, *rest], prog_name="tollgate")
