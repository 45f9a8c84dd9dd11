"""Where the time of a call goes: in the gateway, in its store, in the provider."""

from __future__ import annotations

from frame import OF_CALLS, framed
from panels import SECONDS, WARN, Ask, bars, curves, rows, spread
from promql import CALLS, mean, quantile

DURATION, FIRST, EACH = (
    "llm_request_duration_seconds",
    "llm_time_to_first_token_seconds",
    "llm_time_per_output_token_seconds",
)
OVERHEAD, STORE = "tollgate_overhead_seconds", "tollgate_store_seconds"
ADMIT, SETTLE = 'phase="admit"', 'phase="settle"'
QUANTILES = (0.5, 0.9, 0.99)


def _quantiles(metric: str, selector: str = CALLS) -> list[Ask]:
    return [Ask(quantile(share, metric, "", selector), f"p{round(share * 100)}", exemplars=True) for share in QUANTILES]


WATERFALL = [
    (14, bars(
        "Where the time goes",
        "The mean call from top to bottom; only the first bar is the gateway's own, and the last, after the answers, delays nobody.",
        [
            Ask(mean(OVERHEAD, ADMIT), "1 gateway, before the request leaves"),
            Ask(f"clamp_min({mean(FIRST, CALLS)} - scalar({mean(OVERHEAD, ADMIT)}), 0)", "2 provider, to the first byte"),
            Ask(f"clamp_min({mean(DURATION, CALLS)} - {mean(FIRST, CALLS)}, 0)", "3 answer, first byte to last"),
            Ask(mean(OVERHEAD, SETTLE), "4 books, for a batch of calls that have ended"),
        ], SECONDS,
    )),
    (10, rows(
        "Slowest agents",
        "Agents whose slowest one in a hundred takes longest; compare with their first byte: if that is short, answers are long.",
        [
            ("p99", f"topk(20, histogram_quantile(0.99, sum by (le, agent) (increase({DURATION}_bucket{{{CALLS}}}[$__range]))))", SECONDS),
            ("p99 to first byte", f"histogram_quantile(0.99, sum by (le, agent) (increase({FIRST}_bucket{{{CALLS}}}[$__range])))", SECONDS),
        ], SECONDS,
    )),
]  # fmt: skip
GATEWAY = [
    (12, curves(
        "Gateway overhead by phase",
        "What the gateway takes before a request leaves (admit) and for a batch of ended calls (settle); above a few ms look at the store.",
        [Ask(quantile(share, OVERHEAD, "phase"), f"{{{{phase}}}} p{round(share * 100)}", exemplars=True)
         for share in (0.5, 0.99)], SECONDS, [(0.01, WARN)],
    )),
    (12, curves(
        "Store time by operation",
        "What it takes to set money aside (reserve) and to book it (settle); if it rises, the disk or Redis is slow.",
        [Ask(quantile(share, STORE, "operation"), f"{{{{operation}}}} p{round(share * 100)}") for share in (0.5, 0.99)],
        SECONDS, [(0.01, WARN)],
    )),
]  # fmt: skip
PROVIDER = [
    (12, curves(
        "Time to first token",
        "From the request's head to the answer's; it grows with the prompt, so compare agents before you blame the provider.",
        _quantiles(FIRST), SECONDS,
    )),
    (12, curves(
        "Time per output token",
        "Pace of streams after their first token; a rise over all models is the network, over one model its provider.",
        _quantiles(EACH), SECONDS,
    )),
    (12, curves(
        "Whole duration",
        "First byte of the request to last byte of the answer; targets in the config turn this into an objective.",
        _quantiles(DURATION), SECONDS,
    )),
    (12, curves(
        "Duration by model, p90",
        "The slowest tenth by model; one that stands out can be replaced in routes.",
        [Ask(quantile(0.9, DURATION, "model", CALLS), "{{model}}")], SECONDS,
    )),
]  # fmt: skip
SPREAD = [
    (8, spread("Durations", "All calls by duration; two bands are two kinds of calls, click a dot for its trace.", DURATION, CALLS, SECONDS)),
    (8, spread("First tokens", "All calls by time to first token; a band that climbs is a provider filling up.", FIRST, CALLS, SECONDS)),
    (8, spread("Overhead", "All calls by what the gateway took before they left; dots high up are worth their trace.", OVERHEAD, ADMIT, SECONDS)),
]  # fmt: skip

TEXT = framed(
    "latency",
    "Tollgate: latency waterfall",
    "Where the time of a call goes: in the gateway, in its store, in the provider.",
    OF_CALLS,
    [
        ("A call from top to bottom", 9, WATERFALL),
        ("The gateway", 9, GATEWAY),
        ("The provider", 9, PROVIDER[:2]),
        ("The whole", 9, PROVIDER[2:]),
        ("Every call", 10, SPREAD),
    ],
)
