"""Is it well, who asks, what does it cost."""

from __future__ import annotations

from frame import OF_CALLS, framed
from panels import (
    BAD,
    CALLS_PER_SECOND,
    COUNT,
    DOLLARS,
    GOOD,
    PLAIN,
    SECONDS,
    SHARE,
    TOKENS_PER_SECOND,
    WARN,
    Ask,
    bars,
    curves,
    number,
)
from promql import CALLS, REFUSED_OR_LEFT, gained, per_second, quantile

ALL_CALLS = gained("llm_requests_total", selector=CALLS)
FAULTS = f'{CALLS},error_type!~"{REFUSED_OR_LEFT}"'
READ = f'{CALLS},type=~"input|cached_input|cache_write"'
KEPT = f'{CALLS},type="cached_input"'

NUMBERS = [
    (4, number(
        "Total requests",
        "Calls in the time shown; look at the agents below when it is not what you expect.",
        ALL_CALLS, COUNT, colour=PLAIN,
    )),
    (4, number(
        "Cost, 24 h",
        "Dollars of the last 24 hours as Prometheus saw them; `tollgate report` has them to the nano-dollar.",
        gained("llm_cost_usd_total", selector=CALLS, window="24h"), DOLLARS, colour=PLAIN,
    )),
    (4, number(
        "Cache hit rate",
        "Share of all input tokens that the providers read from their caches; when it falls, look whether prompts still begin alike.",
        f"{gained('llm_tokens_total', selector=KEPT)} / {gained('llm_tokens_total', selector=READ)}", SHARE, colour=PLAIN,
    )),
    (4, number(
        "Error rate",
        "Share of calls that a provider or the gateway failed, without refusals and clients that left; errors by provider says where.",
        f"({gained('llm_errors_total', selector=FAULTS)} or vector(0)) / {ALL_CALLS}", SHARE, [(0.01, WARN), (0.05, BAD)],
    )),
    (4, number(
        "Success rate",
        "Share of calls that ended well; refusals and clients that left count against it, so compare it with the error rate.",
        f"1 - ({gained('llm_errors_total', selector=CALLS)} or vector(0)) / {ALL_CALLS}",
        SHARE, [(0.95, WARN), (0.99, GOOD)], BAD,
    )),
    (4, number(
        "Active requests",
        "Calls on their way now; if it only rises, a provider hangs: see provider health.",
        'sum(llm_active_requests{provider=~"$provider"}) or vector(0)', COUNT, colour=PLAIN,
    )),
]  # fmt: skip
TRAFFIC = [
    (12, curves(
        "Requests per agent",
        "Calls a second by agent; one that jumps is often a loop: open its calls on the live page.",
        [Ask(per_second("llm_requests_total", "agent", CALLS), "{{agent}}")], CALLS_PER_SECOND, stacked=True,
    )),
    (12, curves(
        "Latency",
        "Whole duration of calls, first byte to last; a dot is one call, its link leads to its trace.",
        [Ask(quantile(share, "llm_request_duration_seconds", selector=CALLS), f"p{round(share * 100)}", exemplars=True)
         for share in (0.5, 0.9, 0.99)], SECONDS,
    )),
]  # fmt: skip
MONEY = [
    (8, bars(
        "Cost per team",
        "Dollars by team in the time shown; give the largest a budget if it has none.",
        [Ask(f"sort_desc({gained('llm_cost_usd_total', 'team', CALLS)})", "{{team}}")], DOLLARS,
    )),
    (16, curves(
        "Cost by model",
        "Dollars an hour by model, at the pace of the moment; a dear model that rises may be one that a cheaper one could replace.",
        [Ask(f"{per_second('llm_cost_usd_total', 'model', CALLS)} * 3600", "{{model}}")], DOLLARS, stacked=True,
    )),
]  # fmt: skip
TOKENS = [
    (12, curves(
        "Tokens by model",
        "Tokens a second by model, read and written; what rises here without more calls is longer prompts or answers.",
        [Ask(per_second("llm_tokens_total", "model", CALLS), "{{model}}")], TOKENS_PER_SECOND, stacked=True,
    )),
    (12, curves(
        "Cache performance",
        "Input tokens a second that were read from a provider's cache, written to it, or neither; writes without reads are money lost.",
        [Ask(per_second("llm_tokens_total", "type", READ), "{{type}}")], TOKENS_PER_SECOND, stacked=True,
    )),
]  # fmt: skip
TROUBLE = [
    (24, curves(
        "Errors by provider",
        "Calls a second that did not end well, by provider and kind of error; 429 is a rate limit, 5xx theirs, the guide lists ours.",
        [Ask(per_second("llm_errors_total", "provider, error_type", CALLS), "{{provider}}: {{error_type}}")],
        CALLS_PER_SECOND, stacked=True,
    )),
]  # fmt: skip

TEXT = framed(
    "overview",
    "Tollgate: overview",
    "Is it well, who asks, what does it cost.",
    OF_CALLS,
    [
        ("At a glance", 4, NUMBERS),
        ("Traffic", 9, TRAFFIC),
        ("Money", 9, MONEY),
        ("Tokens", 9, TOKENS),
        ("Trouble", 8, TROUBLE),
    ],
)
