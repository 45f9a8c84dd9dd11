"""Measures the gateway side by side with a bare aiohttp pass-through, nginx, Envoy and LiteLLM, in one run on one machine.

    python benchmarks/run.py            all of it, about six minutes
    python benchmarks/run.py --quick    a look, about two minutes
    python benchmarks/run.py --only cpu,streams
    python benchmarks/run.py --soak 1000000

What is measured runs on one pinned core, load and upstream on another. The systems take turns in every round, so that
noise hits all of them; figures are medians of rounds. CPU time is user + system of the system's process tree.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import peers

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CHAT = "/v1/chat/completions"
TICK = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {peers.KEY}"}
UNDER_TEST, AROUND = CORES[0], CORES[-1]

CONFIG = """
front: {{port: {port}}}
admin: {{port: {admin}}}
store: {{url: "sqlite:///{folder}/books.db"}}
upstreams: {{openai: {{base_url: "http://127.0.0.1:{upstream}/v1"}}}}
budgets: [{{scope: "team:*", limit_usd: 100000, window: day}}]
observability: {{enabled: {enabled}}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(core: int, command: list[str]) -> list[str]:
    """The command, kept on one core."""
    return ["taskset", "-c", str(core), *command]


class System:
    """Something under test: a process on the pinned core, and the path that load is sent to."""

    def __init__(self, name: str, command: list[str], port: int, path: str = CHAT) -> None:
        self.name, self.command, self.port, self.path = name, command, port, path
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; returns the seconds until it has served a call."""
        began = time.monotonic()
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            pinned(UNDER_TEST, self.command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env
        )
        body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}).encode()
        while True:
            with contextlib.suppress(OSError):
                asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{self.path}", body, HEADERS)
                urllib.request.urlopen(asked, timeout=20).read()
                return time.monotonic() - began
            if self.process.poll() is not None or time.monotonic() - began > 60:
                raise SystemExit(f"{self.name} did not start")
            time.sleep(0.005)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)

    def pids(self) -> list[int]:
        assert self.process is not None
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                waiting += [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return found

    def cpu_s(self) -> float:
        total = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICK

    def rss_kb(self) -> int:
        lines = [line for pid in self.pids() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def load(system: System, mode: str, *numbers: int) -> dict[str, float]:
    command = [sys.executable, str(HERE / "load.py"), mode, str(system.port), system.path, *map(str, numbers)]
    done = subprocess.run(pinned(AROUND, command), capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{system.name}, {mode}: {done.stderr.decode()[-800:]}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def measure_cpu(systems: list[System], seconds: int, rounds: int) -> dict[str, dict[str, float]]:
    """CPU per call and calls per second, 32 connections that are always busy."""
    found: dict[str, list[tuple[float, float]]] = {system.name: [] for system in systems}
    for number in range(rounds + 1):
        for system in systems:
            before = system.cpu_s()
            result = load(system, "saturate", 32, seconds if number else 1)
            if number:  # the first round warms up
                found[system.name].append(((system.cpu_s() - before) / result["requests"] * 1e6, result["per_second"]))
    return {
        name: {"cpu_us": statistics.median(c for c, _ in all_), "per_second": statistics.median(r for _, r in all_)}
        for name, all_ in found.items()
    }


def measure_latency(systems: list[System], seconds: int, rounds: int, per_second: int) -> dict[str, dict[str, float]]:
    """Latency at a constant rate, open loop."""
    return _medians(systems, rounds, lambda system: load(system, "rate", per_second, seconds), ("p50_us", "p99_us"))


def measure_events(
    systems: list[System], rounds: int, streams: int, repeat: int, pace_ms: int
) -> dict[str, dict[str, float]]:
    """CPU per event of streams of 400 events. Of paced ones each event comes in a read of its own; of those that come as
    fast as they can a slow system gets several in one read, which makes it look the cheaper the slower it is.
    """

    def once(system: System) -> dict[str, float]:
        before = system.cpu_s()
        result = load(system, "streams", streams, repeat, 400, pace_ms)
        return {"cpu_us": (system.cpu_s() - before) / result["events"] * 1e6, "per_second": result["per_second"]}

    return _medians(systems, rounds, once, ("cpu_us", "per_second"))


def measure_delay(systems: list[System], rounds: int) -> dict[str, dict[str, float]]:
    """How long an event is under way at 100 streams of an event each 50 ms."""
    return _medians(systems, rounds, lambda system: load(system, "streams", 100, 1, 60, 50), ("p50_us", "p99_us"))


def _medians(systems: list[System], rounds: int, once, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, float]]] = {system.name: [] for system in systems}
    for _ in range(rounds):
        for system in systems:
            found[system.name].append(once(system))
    return {
        name: {each: statistics.median(result[each] for result in results) for each in names}
        for name, results in found.items()
    }


def measure_memory(systems: list[System], count: int) -> dict[str, dict[str, float]]:
    """Resident memory with so many streams open, an event a second each, against the moment before."""
    found = {}
    for system in systems:
        before = system.rss_kb()
        command = [sys.executable, str(HERE / "load.py"), "open", str(system.port), system.path, str(count), "1000"]
        holder = subprocess.Popen(pinned(AROUND, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        time.sleep(3)
        found[system.name] = {"before_mb": before / 1024, "kb_per_stream": (system.rss_kb() - before) / count}
        holder.stdin.close()
        holder.kill()
        holder.wait()
        time.sleep(1)
    return found


def measure_soak(system: System, calls: int) -> list[tuple[int, float]]:
    """(calls, resident MB) while short calls come in; flat after the first tenth is what is wanted."""
    done, track = 0, []
    while done < calls:
        done += int(load(system, "saturate", 32, 20)["requests"])
        track.append((done, system.rss_kb() / 1024))
        print(f"  {done:>9,} calls  {track[-1][1]:.1f} MB", flush=True)
    return track


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[list[System], dict[str, float]]]:
    """The upstream and everything under test; the second value is the seconds from start to the first served call."""
    upstream, ports = free_port(), [free_port() for _ in range(8)]
    provider = subprocess.Popen(pinned(AROUND, [sys.executable, str(HERE / "upstream.py"), str(upstream)]))
    time.sleep(0.5)
    systems = []
    for name, port, admin, enabled in (
        ("tollgate", ports[0], ports[1], "true"),
        ("tollgate, metering off", ports[2], ports[3], "false"),
    ):
        place = folder / str(port)
        place.mkdir()
        file = place / "tollgate.yaml"
        file.write_text(CONFIG.format(port=port, admin=admin, folder=place, upstream=upstream, enabled=enabled))
        path = CHAT if enabled == "true" else "/v1/anything"
        systems.append(System(name, [sys.executable, "-m", "gateway", "serve", "--config", str(file)], port, path))
    systems.append(
        System("bare aiohttp", [sys.executable, str(HERE / "bare_aiohttp.py"), str(ports[4]), str(upstream)], ports[4])
    )
    systems += [System(*peer) for peer in peers.commands(folder, upstream, ports[5:])]
    try:
        starts = {system.name: system.start() for system in systems}
        direct = System("direct", [], upstream)
        yield [*systems, direct], starts
    finally:
        for system in systems:
            system.stop()
        provider.kill()
        provider.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short rounds")
    parser.add_argument("--only", default="cpu,latency,events,delay,memory", help="which measurements, by name")
    parser.add_argument("--soak", type=int, default=0, metavar="CALLS", help="only a soak of so many calls")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "latest.json", help="where the JSON goes")
    options = parser.parse_args()
    seconds, rounds = (2, 2) if options.quick else (5, 3)
    wanted = options.only.split(",")
    results: dict[str, object] = {}
    with (
        tempfile.TemporaryDirectory(prefix="tollgate-bench-") as folder,
        running(Path(folder)) as ((*systems, direct), starts),
    ):
        if options.soak:
            results["soak"] = measure_soak(systems[0], options.soak)
            return
        results["start_s"] = starts
        results["idle_mb"] = {system.name: system.rss_kb() / 1024 for system in systems}
        if "memory" in wanted:
            results["memory"] = measure_memory(systems, 1000)
        if "cpu" in wanted:
            results["cpu"] = measure_cpu(systems, seconds, rounds)
        if "latency" in wanted:
            results["latency"] = measure_latency([*systems, direct], seconds, rounds, 400)
        if "events" in wanted:
            results["events"] = measure_events(systems, rounds, 64, 1, 10)
            results["bursts"] = measure_events(systems, rounds, 16, 3 if options.quick else 9, 0)
        if "delay" in wanted:
            results["delay"] = measure_delay([*systems, direct], rounds)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results, [system.name for system in systems]))
    print(f"\n{bars(results)}\n\nJSON: {options.out}")


def table(results: dict, names: list[str]) -> str:
    """Markdown, one column a system."""
    rows = [
        ("start to first served call, s", lambda n: f"{results['start_s'][n]:.2f}"),
        ("idle memory, MB", lambda n: f"{results['idle_mb'][n]:.0f}"),
    ]
    for measure, label, key, form in (
        ("cpu", "CPU per 1 KB call, us", "cpu_us", "{:.0f}"),
        ("cpu", "calls per second, one core", "per_second", "{:,.0f}"),
        ("events", "CPU per stream event, us", "cpu_us", "{:.1f}"),
        ("bursts", "CPU per stream event, as fast as they come, us", "cpu_us", "{:.1f}"),
        ("bursts", "stream events per second", "per_second", "{:,.0f}"),
        ("memory", "memory per open stream, KB", "kb_per_stream", "{:.1f}"),
    ):
        if measure in results:
            rows.append((label, lambda n, m=measure, k=key, f=form: f.format(results[m][n][k])))
    for measure, what in (
        ("latency", "added latency at 400 calls/s"),
        ("delay", "added delay per event, 100 paced streams"),
    ):
        for key in ("p50_us", "p99_us"):
            if measure in results:
                base = results[measure]["direct"][key]
                rows.append(
                    (f"{what}, {key[:3]}, us", lambda n, m=measure, k=key, b=base: f"{results[m][n][k] - b:,.0f}")
                )
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    return "\n".join(lines + [f"| {label} | " + " | ".join(of(name) for name in names) + " |" for label, of in rows])


def bars(results: dict) -> str:
    """The bars of benchmarks/README.md, each with what this run says."""
    ours, bare = "tollgate", "bare aiohttp"
    found = [
        ("start to first served call", results["start_s"][ours], 1.0, "s"),
        ("idle memory", results["idle_mb"][ours], 120, "MB"),
    ]
    if "cpu" in results:
        found.append(
            (
                "CPU per call, against bare aiohttp",
                results["cpu"][ours]["cpu_us"] / results["cpu"][bare]["cpu_us"],
                2.0,
                "x",
            )
        )
    for measure, what in (("events", "CPU per event"), ("bursts", "CPU per event, as fast as they come")):
        if measure in results:
            ratio = results[measure][ours]["cpu_us"] / results[measure][bare]["cpu_us"]
            found.append((f"{what}, against bare aiohttp", ratio, 1.5, "x"))
    if "memory" in results:
        found.append(("memory per open stream", results["memory"][ours]["kb_per_stream"], 40, "KB"))
    if "delay" in results:
        added = (results["delay"][ours]["p99_us"] - results["delay"]["direct"]["p99_us"]) / 1000
        found.append(("added delay per event, p99", added, 1.0, "ms"))
    return "\n".join(
        f"{'met   ' if value <= bar else 'MISSED'}  {what}: {value:.2f} {unit} (bar {bar} {unit})"
        for what, value, bar, unit in found
    )


if __name__ == "__main__":
    main()
