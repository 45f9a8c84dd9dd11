"""The gateway's process as metrics, under the names that every Prometheus client gives them. Linux tells; elsewhere there are none."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path

PROC = Path("/proc")


class Process:
    """``refresh`` reads, off the event loop: listing 10,000 open files takes 5 ms. ``readings`` are gauges by name."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def readings(self) -> Mapping[str, Mapping[tuple[str, ...], float]]:
        """What was read last."""
        return {name: {(): value} for name, value in self._values.items()}

    def refresh(self) -> None:
        """Read. Raises nothing: what cannot be read is not told."""
        try:
            self._values = _read()
        except (OSError, ValueError, IndexError):
            self._values = {}


def _read() -> dict[str, float]:
    """proc(5): /proc/self/stat after the name of the program, which may hold anything, begins with field 3."""
    fields = (PROC / "self" / "stat").read_bytes().rpartition(b")")[2].split()
    user, system, started, virtual, resident = (float(fields[number - 3]) for number in (14, 15, 22, 23, 24))
    ticks = os.sysconf("SC_CLK_TCK")
    booted = next(line for line in (PROC / "stat").read_bytes().splitlines() if line.startswith(b"btime "))
    return {
        "process_cpu_seconds_total": (user + system) / ticks,
        "process_resident_memory_bytes": resident * resource.getpagesize(),
        "process_virtual_memory_bytes": virtual,
        "process_start_time_seconds": float(booted.split()[1]) + started / ticks,
        "process_open_fds": float(sum(1 for _ in (PROC / "self" / "fd").iterdir())),
        "process_max_fds": float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
    }
