"""A system under test: a process on a core of its own, what it takes of that core, and the load that is sent to it.

What is measured runs on the first core of this process, load and whatever the systems talk to on the last; with one core they share it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from instructions import Counter
from load import KEY

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CHAT = "/v1/chat/completions"
CORES = sorted(os.sched_getaffinity(0))
UNDER_TEST, AROUND = CORES[0], CORES[-1]
HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
FIRST = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}).encode()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(cores: int | Sequence[int], command: list[str]) -> list[str]:
    """The command, kept on one core, or on some."""
    some = (cores,) if isinstance(cores, int) else cores
    return ["taskset", "-c", ",".join(map(str, some)), *command]


def cpu_clock(pid: int) -> int:
    """CPU time of a process so far, user and system, all its threads, ended ones too: nanoseconds.

    The kernel has a clock for each process (clock_getcpuclockid(3)); /proc/PID/stat has the same figure in steps of 10 ms.
    """
    return time.clock_gettime_ns(~pid << 3 | 2)


class System:
    """``path`` is where its load goes. ``command`` empty: nothing is started, the load goes to what listens on the port."""

    def __init__(self, name: str, command: list[str], port: int, path: str = CHAT) -> None:
        self.name, self.command, self.port, self.path = name, command, port, path
        self.process: subprocess.Popen[bytes] | None = None
        self.counter: Counter | None = None
        """Of the instructions of its process tree, where the machine counts them."""

    def start(self) -> float:
        """Start it; returns the seconds until it has served a call."""
        if not self.command:
            return 0.0
        began = time.monotonic()
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has its bytecode: a start does not compile
        self.process = subprocess.Popen(
            pinned(UNDER_TEST, self.command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env
        )
        with contextlib.suppress(OSError):
            self.counter = Counter(self.process.pid)
        while True:
            with contextlib.suppress(OSError):
                asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{self.path}", FIRST, HEADERS)
                urllib.request.urlopen(asked, timeout=20).read()
                return time.monotonic() - began
            if self.process.poll() is not None or time.monotonic() - began > 90:
                self.stop()
                raise SystemExit(f"{self.name} did not start")
            time.sleep(0.005)

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
        if self.counter is not None:
            self.counter.close()
            self.counter = None

    def pids(self) -> list[int]:
        if self.process is None:
            return []
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                waiting += [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return found

    def cpu_s(self) -> float:
        """CPU time of its process tree so far."""
        return sum(cpu_clock(pid) for pid in self.pids()) / 1e9

    def instructions(self) -> float:
        """Of its process tree so far, in user mode; not a number where nobody counts them."""
        return self.counter.read() if self.counter is not None else float("nan")

    def rss_kb(self) -> int:
        """Resident memory of its process tree; what several processes share is counted for each."""
        lines = [line for pid in self.pids() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def load_command(system: System, mode: str, path: str = "", **numbers: float) -> list[str]:
    given = [f"{name}={value}" for name, value in numbers.items()]
    return [sys.executable, str(HERE / "load.py"), mode, str(system.port), path or system.path, *given]


def load(system: System, mode: str, path: str = "", **numbers: float) -> dict[str, float]:
    """What ``load.py`` says of one run against it."""
    done = subprocess.run(pinned(AROUND, load_command(system, mode, path, **numbers)), capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{system.name}, {mode}: {done.stderr.decode()[-800:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result
