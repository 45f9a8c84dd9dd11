"""How calls per second, and what a call costs, follow the number of workers.

    python benchmarks/workers.py                              one and two
    python benchmarks/workers.py --workers 1,2,4,8 --loads 4  on a machine with more processors
    python benchmarks/workers.py --redis                      the store for more than a few
    python benchmarks/workers.py --into docs/speed.md

Nothing is pinned: load, provider and gateway share the processors of the machine, as many of them as it has. Give the loads (a process each)
and the provider processors of their own: workers, loads and two more. The numbers of workers take turns in each round; figures are medians of
rounds. CPU time is user + system of all processes of the gateway, which moves least. The load of the machine before it began is told too: on
a busy machine only the CPU time says something.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from around import surroundings
from gateways import gateway
from machine import described
from measures import turns
from report import into
from systems import CORES, System, load_command, pinned

CONNECTIONS = 32


class Team(System):
    """The gateway with everything on and so many workers, wherever the scheduler puts them."""

    def __init__(self, one: System, workers: int) -> None:
        super().__init__(f"{workers} worker{'s' if workers > 1 else ''}", pinned(CORES, one.command), one.port)

    def pss_mb(self) -> float:
        """Memory, what several processes share counted once."""
        lines = [line for pid in self.pids() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def saturate(team: System, seconds: float, loads: int) -> dict[str, Any]:
    """Clients that are always busy, in processes of their own."""
    assert isinstance(team, Team)
    before = team.cpu_s()
    command = load_command(team, "saturate", connections=CONNECTIONS, seconds=seconds)
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(loads)]
    done = [json.loads(client.communicate()[0]) for client in clients]
    requests = sum(each["requests"] for each in done)
    return {
        "per_second": sum(each["per_second"] for each in done),
        "cpu_us": (team.cpu_s() - before) / requests * 1e6,
        "mb": team.pss_mb(),
    }


def table(found: dict[str, dict[str, Any]], loads: int, busy: float) -> str:
    lines = [
        f"{len(CORES)} processors, {loads} processes of load; load of the machine before it began: {busy:.1f}.",
        "",
        "| | calls a second | against one | CPU us a call | memory, what is shared counted once |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    first = next(iter(found.values()))["per_second"]
    for name, one in found.items():
        more = f"{one['per_second'] / first:.2f}x"
        lines.append(f"| {name} | {one['per_second']:,.0f} | {more} | {one['cpu_us']:.0f} | {one['mb']:.0f} MB |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2", metavar="NUMBERS")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loads", type=int, default=2, help="processes that send")
    parser.add_argument("--redis", action="store_true", help="the books in Redis instead of SQLite")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="a page whose block of figures is written anew")
    given = parser.parse_args()
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as name, surroundings(Path(name), CORES) as around:
        numbers = [int(each) for each in given.workers.split(",")]
        teams: list[System] = [
            Team(gateway(f"{number}", around, workers=number, redis=given.redis), number) for number in numbers
        ]
        try:
            for team in teams:
                team.start()
                saturate(team, 1, given.loads)
            found = turns(teams, given.rounds, lambda team: saturate(team, given.seconds, given.loads))
        finally:
            for team in teams:
                team.stop()
    text = table(found, given.loads, busy)
    if given.into:
        of = described()
        into(given.into, "workers", f"{of['processor']}, Linux {of['kernel']}, Python {of['python']}; {text}")
    print(text)


if __name__ == "__main__":
    main()
