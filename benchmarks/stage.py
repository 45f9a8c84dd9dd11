"""All systems by name, each started when the first measure asks for it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gateways
import peers
from around import Around, surroundings
from systems import System

DIRECT = "direct"
"""No system at all: load and provider."""


@dataclass
class Stage:
    """``seconds`` is how long one round of load is, ``rounds`` how often each system has its turn."""

    makes: dict[str, Callable[[], System]]
    seconds: float
    rounds: int
    running: dict[str, System] = field(default_factory=dict)

    def these(self, *names: str) -> list[System]:
        """Those of them that this machine has, running."""
        for name in names:
            if name in self.makes and name not in self.running:
                system = self.running[name] = self.makes[name]()
                system.start()
        return [self.running[name] for name in names if name in self.running]

    def fresh(self, *names: str) -> list[System]:
        """Those of them that this machine has, not started; who takes them starts and stops them."""
        return [self.makes[name]() for name in names if name in self.makes]

    def stop(self, *names: str) -> None:
        for name in names:
            if name in self.running:
                self.running.pop(name).stop()


@contextlib.contextmanager
def stage(seconds: float, rounds: int) -> Iterator[Stage]:
    """With the provider and the rest around it; everything ends with the block."""
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as name, surroundings(Path(name)) as around:
        found = Stage(makes(around), seconds, rounds)
        try:
            yield found
        finally:
            found.stop(*found.running)


def makes(around: Around) -> dict[str, Callable[[], System]]:
    direct = {DIRECT: lambda: System(DIRECT, [], around.provider)}
    return {**gateways.forms(around), **peers.others(around), **direct}
