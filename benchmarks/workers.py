"""How calls per second, and what a call costs, follow the number of workers: ``python benchmarks/workers.py [--workers 1,2] [--seconds 5]``.

Nothing is pinned: load, provider and gateway share the processors of the machine, as many of them as it has. The numbers of workers
take turns in each round; figures are medians of rounds. CPU time is user + system of all processes of the gateway, which moves least.
Prints a table, and the load of the machine before it began: on a busy machine only the CPU time says something.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import run

LOADS, CONNECTIONS = 2, 32


class Team(run.System):
    """The gateway with so many workers, everything on, wherever the scheduler puts it."""

    def __init__(self, workers: int, folder: Path, upstream: int) -> None:
        port = run.free_port()
        own = folder / str(workers)
        own.mkdir()
        config = run.CONFIG.format(port=port, admin=run.free_port(), folder=own, upstream=upstream, enabled="true")
        (own / "tollgate.yaml").write_text(f"{config}\nworkers: {workers}\n")
        serve = [sys.executable, "-m", "gateway", "serve", "--config", str(own / "tollgate.yaml")]
        every = ",".join(map(str, run.CORES))
        super().__init__(f"{workers} workers", ["taskset", "-c", every, *serve], port)


def saturate(system: run.System, seconds: int) -> float:
    """Calls a second of clients that are always busy, in processes of their own."""
    command = [sys.executable, str(run.HERE / "load.py"), "saturate", str(system.port), system.path]
    clients = [
        subprocess.Popen([*command, str(CONNECTIONS), str(seconds)], stdout=subprocess.PIPE) for _ in range(LOADS)
    ]
    return sum(json.loads(client.communicate()[0])["requests"] for client in clients) / seconds


def pss_mb(system: run.System) -> float:
    """Memory, what several processes share counted once."""
    lines = [line for pid in system.pids() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def measure(systems: list[run.System], seconds: int, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Calls a second, CPU time of one in microseconds, memory in MB; the first round warms up."""
    found: dict[str, list[tuple[float, float]]] = {system.name: [] for system in systems}
    for number in range(rounds + 1):
        for system in systems:
            before = system.cpu_s()
            per_second = saturate(system, seconds if number else 1)
            if number:
                found[system.name].append((per_second, (system.cpu_s() - before) / (per_second * seconds) * 1e6))
    return {
        system.name: (*map(statistics.median, zip(*found[system.name], strict=True)), pss_mb(system))
        for system in systems
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"{len(run.CORES)} processors, load {os.getloadavg()[0]:.1f} before it began")
    with tempfile.TemporaryDirectory() as name:
        port = run.free_port()
        upstream = subprocess.Popen([sys.executable, str(run.HERE / "upstream.py"), str(port)])
        systems: list[run.System] = [Team(int(each), Path(name), port) for each in given.workers.split(",")]
        try:
            for system in systems:
                system.start()
            found = measure(systems, given.seconds, given.rounds)
        finally:
            for system in systems:
                system.stop()
            upstream.terminate()
            upstream.wait()
    print(f"{'':12} {'calls/s':>9} {'CPU us a call':>14} {'MB':>6}")
    for name, (per_second, cpu_us, megabytes) in found.items():
        print(f"{name:12} {per_second:9.0f} {cpu_us:14.0f} {megabytes:6.0f}")


if __name__ == "__main__":
    main()
