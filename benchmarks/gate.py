"""Has the gateway become slower? ``python benchmarks/gate.py``: CPU time of a call and of a stream event, as a ratio to the bare aiohttp
pass-through of the same run, against ``limits.json``. Exit status 1 beyond a limit, twice; no time is compared with
a time of another run, so that the machine does not matter. Needs nothing but Linux and the gateway's own environment.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection

from gateways import OURS
from measures import cpu_of
from peers import BARE
from stage import stage
from systems import HERE, System, load
from verdict import limits, passed, ratio

ROUNDS = 5
CALL, EVENT = "CPU of a 1 KB call, against bare aiohttp", "CPU of a stream event, against bare aiohttp"


def call(system: System) -> float:
    return float(cpu_of(system, "requests", "saturate", connections=16, seconds=0.7)["cpu_us"])


def event(system: System) -> float:
    """Paced, so that each event is a read of its own however slow the system is."""
    return float(cpu_of(system, "events", "streams", concurrent=80, events=60, pace_ms=10)["cpu_us"])


MEASURES = {CALL: call, EVENT: event}


def ratios(systems: list[System], names: Collection[str]) -> dict[str, float]:
    """Of these measures. Short rounds in turn; who is first in a round is second in the next."""
    found = {}
    for name in names:
        rounds = []
        for number in range(ROUNDS):
            taken = {system.name: MEASURES[name](system) for system in (systems if number % 2 else systems[::-1])}
            rounds.append((taken[OURS], taken[BARE]))
        found[name] = ratio(rounds)
    return found


def main() -> int:
    allowed = limits(json.loads((HERE / "limits.json").read_text()))
    began = time.monotonic()
    with stage(1, 1) as on:
        systems = on.these(OURS, BARE)
        for system in systems:
            load(system, "saturate", seconds=0.5)
        slower = passed(lambda names: ratios(systems, names), allowed, print)
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
