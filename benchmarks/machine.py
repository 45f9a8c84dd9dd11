"""What a run ran on, without names: processors, kernel, versions. No host, no path."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from peers import programs
from systems import CORES

PACKAGES = ("aiohttp", "uvloop", "httptools", "orjson")


def described() -> dict[str, object]:
    """For the JSON report; ``load`` is how busy the machine was before the run began."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "processor": processor(),
        "cores": len(CORES),
        "memory_gb": round(int(memory[1]) / 1024**2) if memory else 0,
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "versions": versions | others(),
        "load": round(os.getloadavg()[0], 1),
    }


def processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else platform.machine()


def others() -> dict[str, str]:
    """Versions of the systems beside ours and of Redis, as they say it themselves."""
    found = {}
    for name, program in (programs() | {"Redis": shutil.which("redis-server")}).items():
        if program:
            flag = {"nginx": "-v"}.get(name, "--version")
            said = subprocess.run([program, flag], capture_output=True, text=True, check=False)
            version = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
            found[name] = version[0] if version else "?"
    return found
