"""What callers can do to metrics who make up a new name for everything in each call: memory, series, size and time of a scrape.

``python benchmarks/cardinality.py`` takes half a minute, in one process. Exit status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gateway.call import Record  # noqa: E402
from gateway.observe import Batch  # noqa: E402
from gateway.observe.gen_ai import GenAi  # noqa: E402
from gateway.observe.metrics import Metrics  # noqa: E402

LABELS = ("team", "agent", "call_type", "user")
MAX_VALUES, MAX_COMBINATIONS = 200, 5000
"""The defaults."""
GROWTH_MB, MORE_SERIES, SCRAPE_MB, SCRAPE_S, SLICE_MS, SLOWER = 4.0, 200, 60.0, 3.0, 5.0, 4.0
"""Bars. Times are CPU times, and wide, since machines differ; a slice may have a full garbage collection in it."""
PLAIN = Record(
    call_id="c", correlation_id="c", trace_id="0" * 31 + "1", started_at="2026-11-21T00:00:00.000Z", team="t", user="u",
    agent="a", call_type="chat", tags={}, key_name="", upstream="openai", provider="openai", protocol="openai",
    operation="chat", model_requested="gpt-4o", model_served="gpt-4o", stream=True, status=200, error_type="", attempts=1,
    usage={"input": 10, "cached_input": 4, "output": 5, "reasoning": 2}, usage_source="provider", usage_method="usage",
    usage_raw=None, cost_nanousd=1234, price_rows=(), pricebook="b", unpriced=False, service_tier="", held_nanousd=0,
    budgets=(), latency_ms=700.0, ttft_ms=100.0, overhead_ms=0.3, read_ms=0.1, reserve_ms=0.2, sent_ms=0.4,
    request_bytes=1, response_bytes=1, config_version="v", outcome="completed",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """After a share of the calls."""

    calls: int
    rss_mb: float
    series: int
    us_a_call: float


def rss_mb() -> float:
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / (1 << 20)


def attack(metrics: Metrics, gen_ai: GenAi, calls: int) -> list[Measured]:
    """Records of nobody's: ten looks on the way."""
    chance, found = random.Random(7), []
    for share in range(10):
        spent = 0.0
        for _ in range(calls // 10 // 100):
            names = [f"{chance.getrandbits(64):x}" for _ in range(600)]
            records = [
                replace(PLAIN, team=names[n], agent=names[n + 100], model_served=names[n + 200], user=names[n + 300],
                        error_type=names[n + 400], call_type=names[n + 500], status=chance.randrange(100, 1000),
                        provider=f"p{chance.randrange(5)}", trace_id=f"{chance.getrandbits(128):032x}")
                for n in range(100)
            ]  # fmt: skip
            batch = Batch(records, ())
            began = time.process_time()
            metrics.take(batch)
            gen_ai.take(batch)
            spent += time.process_time() - began
        series = sum(len(family) for family in metrics.families())
        found.append(Measured((share + 1) * calls // 10, rss_mb(), series, spent / (calls / 10) * 1e6))
    return found


def fill(metrics: Metrics, gen_ai: GenAi) -> None:
    """The worst that the bounds allow, so that what comes after cannot add to it: every combination there is room for."""
    for number in range(MAX_COMBINATIONS + 1):
        names = {"team": f"t{number % 190}", "agent": f"a{number // 190}"}
        records = [
            replace(PLAIN, **names, status=status, error_type="e" * (status > 300)) for status in (200, 429, 500)
        ]
        for sink in (metrics, gen_ai):
            sink.take(Batch(records, ()))


def scrape(metrics: Metrics) -> tuple[float, float, float]:
    """Megabytes, seconds, and the longest slice in milliseconds."""
    size, longest, began = 0, 0.0, time.process_time()
    slices = metrics.slices(open_metrics=True)
    while True:
        before = time.process_time()
        piece = next(slices, None)
        longest = max(longest, time.process_time() - before)
        if piece is None:
            return size / 1e6, time.process_time() - began, longest * 1e3
        size += len(piece)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    calls = parser.parse_args().calls
    metrics, gen_ai = (
        Metrics(LABELS, MAX_VALUES, MAX_COMBINATIONS),
        GenAi(LABELS, MAX_VALUES, MAX_COMBINATIONS, latest=True),
    )
    usual = Batch([PLAIN] * 100, ())
    began = time.process_time()
    for _ in range(200):
        metrics.take(usual)
        gen_ai.take(usual)
    quick_us = (time.process_time() - began) / 20_000 * 1e6
    empty = rss_mb()
    fill(metrics, gen_ai)
    print(f"full: {rss_mb() - empty:.1f} MB more, a call of a known name takes {quick_us:.1f} us")
    before = rss_mb()
    looks = attack(metrics, gen_ai, calls)
    for each in looks:
        print(
            f"{each.calls:>9,} calls  {each.rss_mb - before:+6.1f} MB  {each.series:>7,} series  {each.us_a_call:5.1f} us a call"
        )
    size, seconds, slice_ms = scrape(metrics)
    print(f"a scrape: {size:.1f} MB, {seconds * 1e3:.0f} ms of CPU in all, longest slice {slice_ms:.2f} ms")
    missed = [
        what
        for what, fits in {
            "memory is flat": looks[-1].rss_mb - looks[0].rss_mb < GROWTH_MB,
            "series are bounded": looks[-1].series - looks[4].series < MORE_SERIES,
            "a scrape is bounded": size < SCRAPE_MB and seconds < SCRAPE_S,
            "a slice is short": slice_ms < SLICE_MS,
            "a made-up name costs little more": looks[-1].us_a_call < SLOWER * quick_us,
        }.items()
        if not fits
    ]
    print("missed: " + ", ".join(missed) if missed else "all bars are kept")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
