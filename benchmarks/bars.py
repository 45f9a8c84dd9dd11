"""The bars: what each figure shall be, as a ratio to another system of the same run wherever that can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Tables = dict[str, dict[str, dict[str, Any]]]
OURS, ON_REDIS, BARE, BARE_UV, NGINX, ENVOY, LITELLM, DIRECT = (
    "tollgate", "tollgate, Redis", "bare aiohttp", "bare aiohttp, uvloop", "nginx", "Envoy", "LiteLLM", "direct",
)  # fmt: skip
NOISE_US = 5.0
"""An added latency below this is not told from none: it is no divisor."""


@dataclass(frozen=True)
class Bar:
    """``of`` gives the figure, or raises KeyError where the run has not what it takes. The smaller the better."""

    what: str
    unit: str
    at_most: float
    stretch: float | None
    of: Callable[[Tables], float]


@dataclass(frozen=True)
class Verdict:
    """What a run says of one bar; ``value`` is None where it was not measured."""

    bar: Bar
    value: float | None

    @property
    def word(self) -> str:
        if self.value is None:
            return "not measured"
        if self.bar.stretch is not None and self.value <= self.bar.stretch:
            return "met, stretch too"
        return "met" if self.value <= self.bar.at_most else "**missed**"


def cpu_ratio(measure: str, ours: str, other: str) -> Callable[[Tables], float]:
    return lambda tables: tables[measure][ours]["cpu_us"] / tables[measure][other]["cpu_us"]


def figure(measure: str, system: str, name: str) -> Callable[[Tables], float]:
    return lambda tables: tables[measure][system][name]


def added(measure: str, system: str, name: str) -> Callable[[Tables], float]:
    """What a system adds to the same load without it, in microseconds."""
    return lambda tables: tables[measure][system][name] - tables[measure][DIRECT][name]


def added_ratio(name: str, other: str) -> Callable[[Tables], float]:
    def of(tables: Tables) -> float:
        theirs = added("latency", other, name)(tables)
        return added("latency", OURS, name)(tables) / max(NOISE_US, theirs)

    return of


def added_more(name: str, other: str) -> Callable[[Tables], float]:
    return lambda tables: added("latency", OURS, name)(tables) - added("latency", other, name)(tables)


BARS = (
    Bar("CPU per 1 KB call, SQLite, against bare aiohttp", "x", 0.60, None, cpu_ratio("cpu_1kb", OURS, BARE)),
    Bar(
        "CPU per 1 KB call, SQLite, against bare aiohttp on uvloop",
        "x",
        0.60,
        None,
        cpu_ratio("cpu_1kb", OURS, BARE_UV),
    ),
    Bar(
        "CPU per 1 KB call, SQLite, against bare Envoy (a stretch goal)",
        "x",
        1.0,
        None,
        cpu_ratio("cpu_1kb", OURS, ENVOY),
    ),
    Bar("CPU per 1 KB call, Redis, against bare aiohttp", "x", 0.75, 0.5, cpu_ratio("cpu_1kb", ON_REDIS, BARE)),
    Bar(
        "CPU per 1 KB call, Redis, against bare aiohttp on uvloop",
        "x",
        0.75,
        0.5,
        cpu_ratio("cpu_1kb", ON_REDIS, BARE_UV),
    ),
    Bar("CPU per 1 KB call, against LiteLLM", "x", 1 / 40, 1 / 100, cpu_ratio("litellm", OURS, LITELLM)),
    Bar("CPU per event, streams of 50, against nginx", "x", 1.1, 1.0, cpu_ratio("events_50", OURS, NGINX)),
    Bar("CPU per event, streams of 300, against nginx", "x", 1.1, 1.0, cpu_ratio("events_300", OURS, NGINX)),
    Bar("added p50 at 1,000 calls/s, against nginx", "x", 1.5, None, added_ratio("p50_us", NGINX)),
    Bar("added p99 at 1,000 calls/s, against nginx", "x", 2.0, None, added_ratio("p99_us", NGINX)),
    Bar("added p50 beyond nginx's (a stretch goal)", "us", 50, None, added_more("p50_us", NGINX)),
    Bar("added p99 beyond nginx's (a stretch goal)", "us", 50, None, added_more("p99_us", NGINX)),
    Bar("CPU per 100 KB call, SQLite, against bare aiohttp", "x", 1.0, 0.6, cpu_ratio("cpu_100kb", OURS, BARE)),
    Bar(
        "CPU per 100 KB call, SQLite, against bare aiohttp on uvloop",
        "x",
        1.0,
        0.6,
        cpu_ratio("cpu_100kb", OURS, BARE_UV),
    ),
    Bar("memory of one of 1,000 open streams", "KB", 25, 15, figure("streams", OURS, "kb_per_stream")),
    Bar("added delay of an event of 1,000 open streams, p99", "us", 1000, 500, added("streams", OURS, "p99_us")),
    Bar("start to first served call", "s", 0.5, 0.3, figure("start", OURS, "start_s")),
    Bar("idle memory", "MB", 90, 60, figure("start", OURS, "idle_mb")),
)


def judge(tables: Tables) -> list[Verdict]:
    found = []
    for bar in BARS:
        try:
            found.append(Verdict(bar, bar.of(tables)))
        except KeyError:
            found.append(Verdict(bar, None))
    return found
