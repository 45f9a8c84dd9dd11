"""SDKs that nobody here wrote, installed apart from what the gateway needs: once, by name, into ``.sdks``.

``python -m tests.harness.sdks`` installs them, with ``python`` or ``node`` behind it those only. Whoever has no network gets a
sentence instead, and their tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.harness.gateways import ROOT

FOLDER = ROOT / ".sdks"
PYTHON = {
    "openai": "2.54.0",
    "anthropic": "2.12.0",
    "google-genai": "3.4.0",
    "langchain-openai": "1.7.3",
    "langchain-anthropic": "1.7.7",
    "llama-index-llms-openai": "0.8.3",
    "litellm": "1.106.2",
}
NPM = {
    "openai": "6.49.0",
    "@anthropic-ai/sdk": "1.12.0",
    "ai": "6.0.326",
    "@ai-sdk/openai": "3.0.141",
}
LONGEST_S = 300
"""Of one command."""


@cache
def python() -> Path | str:
    """The interpreter that has the Python SDKs, or why there is none."""
    place = FOLDER / "python"
    wanted = [f"{name}=={version}" for name, version in PYTHON.items()]
    return _kept(place, wanted, _install_python) or place / "bin" / "python"


@cache
def node() -> Path | str:
    """The folder of ``node_modules`` that has the npm SDKs, or why there is none."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    place = FOLDER / "node"
    wanted = [f"{name}@{version}" for name, version in NPM.items()]
    return _kept(place, wanted, _install_node) or place / "node_modules"


def _kept(place: Path, wanted: list[str], install: Callable[[Path, list[str]], None]) -> str:
    """Install unless the very same is there; the sentence why not, or ""."""
    stamp = place / "installed.json"
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return ""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        install(place, wanted)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{', '.join(wanted)} cannot be installed here: {error}"
    stamp.write_text(json.dumps(wanted))
    return ""


def _install_python(place: Path, wanted: list[str]) -> None:
    _run("scripts/install", str(place), *wanted)


def _install_node(place: Path, wanted: list[str]) -> None:
    (place / "package.json").write_text('{"type": "module", "private": true}')
    _run("npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *wanted, folder=place)


def _run(*command: str, folder: Path = ROOT) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | {
        "PYTHON": sys.executable
    }
    subprocess.run(command, check=True, cwd=folder, env=environment, timeout=LONGEST_S, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    installs = {"python": python, "node": node}
    for found in [installs[name]() for name in sys.argv[1:] or installs]:
        if isinstance(found, str):
            print(f"{found}: the tests of it will be skipped", file=sys.stderr)
