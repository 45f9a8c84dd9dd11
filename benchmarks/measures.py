"""What is measured. Each measure takes the stage and gives tables: name -> system -> figure -> number.

The systems take turns in each round, so that noise hits all of them; figures are medians of rounds, and the rounds stand beside them.
CPU time is user + system of a system's process tree.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

from gateways import OFF, ON_REDIS, OURS, VARIANTS
from peers import BARE, BARE_UV, ENVOY_NAME, LITELLM_NAME, NGINX_NAME
from stage import DIRECT, Stage
from systems import AROUND, System, load, load_command, pinned

Figures = dict[str, Any]
Tables = dict[str, dict[str, Figures]]
ALL = (OURS, ON_REDIS, OFF, BARE, BARE_UV, NGINX_NAME, ENVOY_NAME)
PASSING = (OURS, BARE, BARE_UV, NGINX_NAME, ENVOY_NAME)
EMBEDDINGS, SECURE = "/v1/embeddings", "/secure/v1/chat/completions"
OPEN = 1000


def turns(systems: list[System], rounds: int, once: Callable[[System], Figures]) -> dict[str, Figures]:
    found: dict[str, list[Figures]] = {system.name: [] for system in systems}
    for _ in range(rounds):
        for system in systems:
            found[system.name].append(once(system))
    return {
        name: {**{each: statistics.median(one[each] for one in all_) for each in all_[0]}, "rounds": all_}
        for name, all_ in found.items()
    }


def cpu_of(system: System, counted: str, mode: str, path: str = "", **numbers: float) -> Figures:
    """CPU time of one of what the load counts (``requests``, ``events``), in microseconds, and how many came in a second; thousands of
    instructions where the machine counts them.
    """
    before, executed = system.cpu_s(), system.instructions()
    result = load(system, mode, path, **numbers)
    found = {"cpu_us": (system.cpu_s() - before) / result[counted] * 1e6, "per_second": result["per_second"]}
    if system.counter is not None:
        found["thousands"] = (system.instructions() - executed) / result[counted] / 1e3
    return found


def calls(stage: Stage, systems: list[System], path: str = "", kb: int = 1) -> dict[str, Figures]:
    """32 connections that are always busy."""
    for system in systems:
        load(system, "saturate", path, seconds=0.5, kb=kb)
    return turns(
        systems,
        stage.rounds,
        lambda system: cpu_of(system, "requests", "saturate", path, seconds=stage.seconds, kb=kb),
    )


def start(stage: Stage) -> Tables:
    """To the first served call; memory a second later, and after a load. The first start of each is not counted: it fills caches."""

    def once(system: System) -> Figures:
        try:
            took = system.start()
            time.sleep(1)
            idle = system.rss_kb() / 1024
            load(system, "saturate", seconds=stage.seconds)
            return {"start_s": took, "idle_mb": idle, "loaded_mb": system.rss_kb() / 1024}
        finally:
            system.stop()

    systems = stage.fresh(*ALL)
    for system in systems:
        system.start()
        system.stop()
    return {"start": turns(systems, min(stage.rounds, 3), once)}


def cpu(stage: Stage) -> Tables:
    return {f"cpu_{kb}kb": calls(stage, stage.these(*ALL), kb=kb) for kb in (1, 10, 100)}


def variants(stage: Stage) -> Tables:
    found = {"variants": calls(stage, stage.these(*VARIANTS, BARE))}
    stage.stop(*(name for name in VARIANTS if name not in ALL))
    return found


def litellm(stage: Stage) -> Tables:
    """Nothing where it is not installed: its figures mean nothing without ours of the same rounds, nor ours without its."""
    systems = stage.these(OURS, BARE, LITELLM_NAME)
    found = calls(stage, systems)
    stage.stop(LITELLM_NAME)
    return {"litellm": found} if LITELLM_NAME in found else {}


def embeddings(stage: Stage) -> Tables:
    return {"embeddings": calls(stage, stage.these(*PASSING), EMBEDDINGS)}


def tls(stage: Stage) -> Tables:
    return {"tls": calls(stage, stage.these(*PASSING), SECURE)}


def events(stage: Stage) -> Tables:
    """Paced: each event is a read of its own. As fast as they come a slow system gets several in one read, which makes it look the
    cheaper the slower it is. The share of the call itself is in the figures.
    """
    systems = stage.these(*ALL)
    shapes = {
        "events_50": {"concurrent": 100, "rounds": max(2, round(stage.seconds / 0.6)), "events": 50, "pace_ms": 10},
        "events_300": {"concurrent": 100, "rounds": max(1, round(stage.seconds / 3.3)), "events": 300, "pace_ms": 10},
        "bursts_300": {"concurrent": 16, "rounds": max(2, round(stage.seconds * 3)), "events": 300, "pace_ms": 0},
    }
    return {
        name: turns(systems, stage.rounds, lambda system, shape=shape: cpu_of(system, "events", "streams", **shape))
        for name, shape in shapes.items()
    }


def streams(stage: Stage) -> Tables:
    """Many streams open, an event a second each: memory against the moment before they came, and how long an event is under way."""
    seconds = max(3, stage.seconds * 3)

    def once(system: System) -> Figures:
        system.start()
        try:
            before = system.rss_kb()
            command = load_command(system, "open", count=OPEN, seconds=seconds)
            with subprocess.Popen(pinned(AROUND, command), stdout=subprocess.PIPE) as holder:
                assert holder.stdout is not None
                holder.stdout.readline()
                grown = system.rss_kb() - before
                last = holder.stdout.readline()
            if not last:
                raise SystemExit(f"{system.name}: streams broke off")
            return {"kb_per_stream": grown / OPEN, **json.loads(last)}
        finally:
            system.stop()

    systems = stage.fresh(OURS, ON_REDIS, BARE, NGINX_NAME, ENVOY_NAME, DIRECT)
    return {"streams": turns(systems, min(stage.rounds, 3), once)}


def latency(stage: Stage) -> Tables:
    """Open loop, a thousand calls a second; ``direct`` is the same load without anything between."""
    systems = stage.these(OURS, ON_REDIS, BARE, NGINX_NAME, ENVOY_NAME, DIRECT)
    for system in systems:
        load(system, "rate", seconds=0.5)
    seconds = stage.seconds * 3
    return {"latency": turns(systems, stage.rounds, lambda system: load(system, "rate", seconds=seconds))}


def soak(stage: Stage, wanted: int) -> list[tuple[int, float]]:
    """(calls, resident MB) while short calls come in; flat after the first tenth is what is wanted."""
    (system,) = stage.these(OURS)
    done, track = 0, []
    while done < wanted:
        done += int(load(system, "saturate", seconds=20)["requests"])
        track.append((done, system.rss_kb() / 1024))
        print(f"  {done:>9,} calls  {track[-1][1]:.1f} MB", flush=True)
    return track


MEASURES: dict[str, Callable[[Stage], Tables]] = {
    "start": start,
    "streams": streams,
    "cpu": cpu,
    "variants": variants,
    "embeddings": embeddings,
    "tls": tls,
    "events": events,
    "latency": latency,
    "litellm": litellm,
}
"""By the name that ``--only`` takes, in the order in which they run."""
