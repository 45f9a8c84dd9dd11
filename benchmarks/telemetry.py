"""What telemetry costs a call, and what a receiver that is dead or hangs costs: gateways with more and more of it, side by side.

    python benchmarks/telemetry.py            about five minutes
    python benchmarks/telemetry.py --quick    one and a half

Each gateway has the same books and budgets; load, upstream and receivers run on the other core. Figures are medians of rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from measures import cpu_of, turns
from systems import AROUND, HERE, System, free_port, load, pinned

CONFIG = """
front: {{port: {port}}}
admin: {{port: {admin}}}
store: {{url: "sqlite:///{folder}/books.db"}}
upstreams: {{openai: {{base_url: "http://127.0.0.1:{upstream}/v1"}}}}
budgets: [{{scope: "team:*", limit_usd: 100000, window: day}}]
"""
SINKS = {
    "nothing": "observability: {{enabled: false}}",
    "metrics and log": "",
    "and traces": "observability: {{tracing: {{enabled: true, endpoint: 'http://127.0.0.1:{to}'}}}}",
    "everything": """
observability:
  metrics: {{otlp: {{enabled: true, endpoint: 'http://127.0.0.1:{to}', interval: 5s}}, statsd: '127.0.0.1:{to}'}}
  tracing: {{enabled: true, endpoint: 'http://127.0.0.1:{to}'}}
targets:
  - {{name: all, latency_ms: 2000}}
  - {{name: bench, match: {{team: bench}}, latency_ms: 100, ttft_ms: 50}}
  - {{name: other, match: {{agent: planner}}, latency_ms: 100}}
alerts: {{webhooks: [{{url: 'http://127.0.0.1:{to}/hook'}}]}}
""",
}
EVERYTHING = SINKS["everything"]
MLFLOW = EVERYTHING.replace(
    "targets:", "  mlflow: {{enabled: true, tracking_uri: 'http://127.0.0.1:{to}'}}\ntargets:", 1
)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[list[System], dict[str, int]]]:
    """The systems, and the admin ports by name."""
    upstream, taking, hanging, dead = (free_port() for _ in range(4))
    around = [
        subprocess.Popen(pinned(AROUND, [sys.executable, str(HERE / name), *map(str, more)]))
        for name, *more in (("upstream.py", upstream), ("collector.py", taking), ("collector.py", hanging, "hang"))
    ]
    kinds = [(name, text, taking) for name, text in SINKS.items()]
    kinds += [("and MLflow", MLFLOW, taking), ("receivers dead", MLFLOW, dead), ("receivers hang", MLFLOW, hanging)]
    systems, admins = [], {}
    try:
        for name, text, to in kinds:
            port, admin = free_port(), free_port()
            place = folder / str(port)
            place.mkdir()
            file = place / "tollgate.yaml"
            file.write_text((CONFIG + text).format(port=port, admin=admin, folder=place, upstream=upstream, to=to))
            systems.append(System(name, [sys.executable, "-m", "gateway", "serve", "--config", str(file)], port))
            admins[name] = admin
        for system in systems:
            system.start()
        yield systems, admins
    finally:
        for system in systems:
            system.stop()
        for process in around:
            process.kill()


def telemetry_of(admin: int) -> dict[str, float]:
    """What was exported, failed or dropped."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10).read().decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("tollgate_telemetry_")]
    return {name.removeprefix("tollgate_telemetry_"): float(value) for name, value in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    seconds, rounds = (2, 3) if options.quick else (4, 7)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as (systems, admins):
        before = {system.name: system.rss_kb() / 1024 for system in systems}
        for system in systems:
            load(system, "saturate", seconds=1)
        cpu = turns(systems, rounds, lambda system: cpu_of(system, "requests", "saturate", seconds=seconds))
        latency = turns(
            systems,
            1 if options.quick else 3,
            lambda system: load(system, "rate", per_second=300, seconds=seconds),
        )
        load(systems[-1], "saturate", seconds=seconds * 2)
        sent = {name: telemetry_of(port) for name, port in admins.items()}
        after = {system.name: system.rss_kb() / 1024 for system in systems}
    base = cpu["nothing"]["cpu_us"]
    print(f"{'':18}{'CPU us':>9}{'more':>8}{'calls/s':>9}{'p50 us':>9}{'p99 us':>9}{'MB':>7}{'MB after':>10}")
    for name, found in cpu.items():
        print(
            f"{name:18}{found['cpu_us']:9.0f}{found['cpu_us'] - base:8.0f}{found['per_second']:9.0f}"
            f"{latency[name]['p50_us']:9.0f}{latency[name]['p99_us']:9.0f}{before[name]:7.1f}{after[name]:10.1f}"
        )
    for name, found in sent.items():
        print(name, found)
    if options.json:
        options.json.write_text(json.dumps({"cpu": cpu, "latency": latency, "mb": after, "sent": sent}, indent=1))


if __name__ == "__main__":
    main()
