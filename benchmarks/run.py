"""Measures the gateway side by side with a bare aiohttp pass-through, nginx, Envoy and LiteLLM, in one run on one machine.

    python benchmarks/run.py                 all of it, about half an hour
    python benchmarks/run.py --quick         a look, about six minutes
    python benchmarks/run.py --only cpu,events
    python benchmarks/run.py --into docs/speed.md
    python benchmarks/run.py --again benchmarks/results/latest.json --into docs/speed.md
    python benchmarks/run.py --soak 1000000

What is measured runs on one pinned core, load and provider on another. The systems take turns in every round, so that
noise hits all of them; figures are medians of rounds. Writes JSON and Markdown beside each other.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import machine
import measures
from report import into, markdown
from stage import stage
from systems import HERE


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short rounds")
    parser.add_argument(
        "--only", default=",".join(measures.MEASURES), metavar="NAMES", help=f"some of {', '.join(measures.MEASURES)}"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each system; 5, of three seconds each")
    parser.add_argument("--soak", type=int, default=0, metavar="CALLS", help="only a soak of so many calls")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "latest.json", help="where the JSON goes")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="a page whose block of figures is written anew")
    parser.add_argument(
        "--again", type=Path, metavar="JSON", help="measure nothing: report a run that was written before"
    )
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(measures.MEASURES)
    if unknown:
        parser.error(f"no such measure: {', '.join(sorted(unknown))}; there are {', '.join(measures.MEASURES)}")
    return options


def measured(options: argparse.Namespace) -> dict[str, object]:
    """One run, as it goes into the JSON."""
    seconds, rounds = (1.0, 2) if options.quick else (3.0, options.rounds)
    wanted = options.only.split(",")
    run: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.described(),
        "settings": {"seconds": seconds, "rounds": rounds, "only": wanted},
    }
    tables: measures.Tables = {}
    run["tables"] = tables
    with stage(seconds, rounds) as on:
        for name, measure in measures.MEASURES.items():
            if name in wanted:
                began = time.monotonic()
                tables |= measure(on)
                write(options.out, run)  # what follows may fail
                print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return run


def write(path: Path, run: dict[str, object]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(run, indent=1) + "\n")


def main() -> None:
    options = arguments()
    if options.soak:
        with stage(20, 1) as on:
            measures.soak(on, options.soak)
        return
    run = json.loads(options.again.read_text()) if options.again else measured(options)
    text = markdown(run)
    if not options.again:
        options.out.with_suffix(".md").write_text(text + "\n")
    if options.into:
        into(options.into, "speed", text)
    print(f"\n{text}")


if __name__ == "__main__":
    main()
