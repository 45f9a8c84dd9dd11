"""Has the gateway become slower? ``python benchmarks/gate.py``: what a call and a stream event take, as a ratio to the bare aiohttp
pass-through of the same run, against ``limits.json``. Exit status 1 beyond a limit, twice; nothing is compared with
a figure of another run, so that the machine does not matter. Needs nothing but Linux and the gateway's own environment.

Where the machine counts instructions, those are compared: others on the same hardware do not move them. Elsewhere it is CPU time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection

from gateways import OURS
from measures import Figures, cpu_of
from peers import BARE
from stage import stage
from systems import HERE, System, load
from verdict import limits, passed, ratio

ROUNDS = 5
CALL, EVENT = "of a 1 KB call", "of a stream event"
CPU, INSTRUCTIONS = "CPU", "instructions"


def call(system: System) -> Figures:
    return cpu_of(system, "requests", "saturate", connections=16, seconds=0.7)


def event(system: System) -> Figures:
    """Paced, so that each event is a read of its own however slow the system is."""
    return cpu_of(system, "events", "streams", concurrent=80, events=60, pace_ms=10)


MEASURES = {
    f"{name} {what}, against bare aiohttp": (figure, load_of)
    for name, figure in ((CPU, "cpu_us"), (INSTRUCTIONS, "thousands"))
    for what, load_of in ((CALL, call), (EVENT, event))
}
"""What is read of the figures, and the load that gives them."""


def ratios(systems: list[System], names: Collection[str]) -> dict[str, float]:
    """Of these measures. Short rounds in turn; who is first in a round is second in the next."""
    found = {}
    for name in names:
        (figure, load_of), rounds = MEASURES[name], []
        for number in range(ROUNDS):
            turn = systems if number % 2 else systems[::-1]
            cost = {system.name: float(load_of(system)[figure]) for system in turn}
            rounds.append((cost[OURS], cost[BARE]))
        found[name] = ratio(rounds)
    return found


def main() -> int:
    began = time.monotonic()
    with stage(1, 1) as on:
        systems = on.these(OURS, BARE)
        for system in systems:
            load(system, "saturate", seconds=0.5)
        kind = INSTRUCTIONS if all(system.counter for system in systems) else CPU
        every = limits(json.loads((HERE / "limits.json").read_text()))
        allowed = {name: limit for name, limit in every.items() if name.startswith(kind)}
        slower = passed(lambda names: ratios(systems, names), allowed, print)
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
