"""What is checked, and when it makes this process unfit: store, upstreams, disk, memory, exporters, config.

Each function makes one ``Check`` from plain figures and callables; ``app`` says which there are.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from gateway.health import Check, InThread, Reading

MIB = 1 << 20
NEAR = 0.9
"""From this share of a bound on, a check warns."""


def store(ask: Callable[[], Awaitable[None]], owed: Callable[[], int]) -> Check:
    """``ask`` raises when the store does not answer; ``owed`` counts settlements that it does not have yet."""

    async def measure() -> Reading:
        began = time.perf_counter()
        try:
            await ask()
        except Exception:
            return Reading(
                "failed", owed(), "settlements", "does not answer; settlements that it does not have yet are kept"
            )
        if owed():
            return Reading("warn", owed(), "settlements", "it does not have all settlements yet")
        return Reading("ok", round((time.perf_counter() - began) * 1000, 2), "ms")

    return Check("store", "datastore", measure)


def upstreams(states: Callable[[], Mapping[str, str]], *, required: bool) -> Check:
    """Unfit only if ``required`` and every upstream that was called in the last minute fails. Nothing is sent to find out."""

    async def measure() -> Reading:
        used = [state for state in states().values() if state != "unknown"]
        failing = used.count("failing")
        if not failing:
            return Reading("ok", 0, "failing")
        status = "failed" if required and failing == len(used) else "warn"
        return Reading(status, failing, "failing", f"{failing} of {len(used)} upstreams that were called fail")

    return Check("upstreams", "component", measure)


def disk(folder: Path, least_mb: int) -> Check:
    """Room for the store's file or the journal. ``least_mb`` 0: any will do."""
    bound = f"health.disk_free_mb ({least_mb})"

    def measure() -> Reading:
        place = next(each for each in (folder, *folder.parents) if each.exists())
        found = os.statvfs(place)
        free_mb = found.f_bavail * found.f_frsize // MIB
        if free_mb < least_mb:
            return Reading("failed", free_mb, "MiB", f"{free_mb} MiB free, less than {bound}")
        if free_mb * NEAR < least_mb:
            return Reading("warn", free_mb, "MiB", f"{free_mb} MiB free, hardly more than {bound}")
        return Reading("ok", free_mb, "MiB")

    return Check("disk", "system", InThread(measure))


def memory(most_mb: int) -> Check:
    """Resident memory of this process. ``most_mb`` 0: any will do."""
    bound = f"health.memory_mb ({most_mb})"

    async def measure() -> Reading:
        used_mb = resident_bytes() // MIB
        if most_mb and used_mb > most_mb:
            return Reading("failed", used_mb, "MiB", f"{used_mb} MiB, more than {bound}")
        if most_mb and used_mb > most_mb * NEAR:
            return Reading("warn", used_mb, "MiB", f"{used_mb} MiB, close to {bound}")
        return Reading("ok", used_mb, "MiB")

    return Check("memory", "system", measure)


def exporters(failing: Callable[[], Sequence[str]]) -> Check:
    """Telemetry that does not get rid of what it has, by name: never a reason not to serve."""

    async def measure() -> Reading:
        names = failing()
        if names:
            return Reading("warn", len(names), "failing", f"these fail: {', '.join(names)}")
        return Reading("ok", 0, "failing")

    return Check("exporters", "component", measure)


def config(problem: Callable[[], str]) -> Check:
    """``problem`` says when the last reload failed; "" after one that did not."""

    async def measure() -> Reading:
        since = problem()
        if since:
            return Reading(
                "warn", since, "time", "the last reload failed and the config before it is in force; the log says why"
            )
        return Reading("ok")

    return Check("config", "component", measure)


def resident_bytes() -> int:
    """Of this process now; where there is no /proc, the most that it ever was."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def folder_of(store_url: str, journal: str) -> Path:
    """Where the store's file or the journal lies."""
    if not store_url.startswith("sqlite:"):
        return Path(journal).absolute()
    file = store_url.removeprefix("sqlite:///")
    return Path(tempfile.gettempdir()) if file == ":memory:" else Path(file).absolute().parent
