"""Are the providers there, do they answer, and do calls meet what was promised."""

from __future__ import annotations

from frame import OF_CALLS, framed
from panels import BAD, CALLS_PER_SECOND, COUNT, SECONDS, SHARE, WARN, Ask, bars, curves, happenings, rows, states
from promql import CALLS, events, gained, per_second, quantile

UPSTREAM, TARGET = 'upstream=~"$upstream"', 'target=~"$target"'
ATTEMPTS, WHOLE = "llm_upstream_attempts_total", f'{UPSTREAM},outcome="ok"'
OBJECTIVE = f"max by (target) (llm_target_objective_ratio{{{TARGET}}})"


def _kept(window: str) -> str:
    """The lowest that a replica shows."""
    return f'min by (target) (llm_target_compliance_ratio{{{TARGET},window="{window}"}})'


def _burn(window: str) -> str:
    """How many times faster than the objective allows calls miss their target."""
    missed = gained("llm_target_violations_total", "target", TARGET, window)
    return f"{missed} / {gained('llm_target_calls_total', 'target', TARGET, window)} / (1 - {OBJECTIVE})"


PRESENCE = [
    (8, states(
        "Upstreams",
        "Whether each upstream answers, as the replica sees it that sees the worst; one that is down wants a look at its status page.",
        Ask(f"min by (upstream) (llm_upstream_up{{{UPSTREAM}}})", "{{upstream}}"), ("down", "up"),
    )),
    (16, curves(
        "Attempts by outcome",
        "Requests a second that were sent to upstreams, by how they ended; timeout and unreachable are the network, error is an answer.",
        [Ask(per_second(ATTEMPTS, "upstream, outcome", UPSTREAM), "{{upstream}}: {{outcome}}")],
        CALLS_PER_SECOND, stacked=True,
    )),
]  # fmt: skip
ERRORS = [
    (12, curves(
        "Errors by type",
        "Calls a second that did not end well by kind; a number is the provider's status, the guide lists the words.",
        [Ask(per_second("llm_errors_total", "error_type", CALLS), "{{error_type}}")], CALLS_PER_SECOND, stacked=True,
    )),
    (12, curves(
        "Error share by provider",
        "Share of a provider's calls that did not end well; above 5 % for minutes, send its models elsewhere in routes.",
        [Ask(f"{per_second('llm_errors_total', 'provider', CALLS)} / {per_second('llm_requests_total', 'provider', CALLS)}",
             "{{provider}}")], SHARE, [(0.05, BAD)],
    )),
]  # fmt: skip
LATENCY = [
    (12, curves(
        "Latency per provider, p50 and p99",
        "Whole duration by provider; what rises at one provider only is not the gateway.",
        [Ask(quantile(share, "llm_request_duration_seconds", "provider", CALLS), f"{{{{provider}}}} p{round(share * 100)}",
             exemplars=True) for share in (0.5, 0.99)], SECONDS,
    )),
    (12, curves(
        "Time to first token per provider, p90",
        "How long a provider thinks before it speaks; compare with its time per token on the latency dashboard.",
        [Ask(quantile(0.9, "llm_time_to_first_token_seconds", "provider", CALLS), "{{provider}}", exemplars=True)], SECONDS,
    )),
]  # fmt: skip
TARGETS = [
    (12, rows(
        "Targets",
        "Share of calls that met their target by window, beside the objective; below it, the share of misses says what to speed up.",
        [("objective", OBJECTIVE, SHARE), ("1 h", _kept("1h"), SHARE), ("24 h", _kept("24h"), SHARE), ("7 d", _kept("7d"), SHARE)],
        SHARE,
    )),
    (12, curves(
        "Burn rate",
        "How many times faster than allowed targets are missed: 1 uses up what the objective grants exactly, above 14 act now.",
        [Ask(_burn("1h"), "{{target}} 1 h"), Ask(_burn("6h"), "{{target}} 6 h")], COUNT, [(1, WARN), (14.4, BAD)],
    )),
]  # fmt: skip
MISSES = [
    (12, happenings(
        "Misses by target",
        "Calls that missed their target; the live page lists them.",
        [Ask(events("llm_target_violations_total", "target", TARGET), "{{target}}")],
    )),
    (12, curves(
        "Attempts that ended well",
        "Share of attempts that ended well by upstream; below 95 % look at its outcomes above.",
        [Ask(f"{per_second(ATTEMPTS, 'upstream', WHOLE)} / {per_second(ATTEMPTS, 'upstream', UPSTREAM)}", "{{upstream}}")],
        SHARE,
    )),
]  # fmt: skip
COUNTS = [
    (12, bars(
        "Own count for one token of the provider",
        "Median of what the gateway counts for one token that a provider tells; far from 1, its counts where nobody tells are off as much.",
        [Ask('histogram_quantile(0.5, sum by (le, model, type) (increase(tollgate_own_count_ratio_bucket{provider=~"$provider",'
             'model=~"$model"}[$__range])))', "{{model}} {{type}}")], SHARE,
    )),
    (12, curves(
        "Who counted the tokens",
        "Calls a second by who told their usage: estimated ones are the least exact, ask for usage (metering.stream_usage) to lessen them.",
        [Ask(per_second("llm_usage_source_total", "source"), "{{source}}")], CALLS_PER_SECOND, stacked=True,
    )),
]  # fmt: skip

TEXT = framed(
    "providers",
    "Tollgate: provider health",
    "Are the providers there, do they answer, and do calls meet what was promised.",
    [
        *OF_CALLS,
        ("upstream", "llm_upstream_attempts_total", "upstream"),
        ("target", "llm_target_calls_total", "target"),
    ],
    [
        ("Are they there", 8, PRESENCE),
        ("Errors", 8, ERRORS),
        ("Latency", 9, LATENCY),
        ("What was promised", 8, TARGETS),
        ("What was missed", 8, MISSES),
        ("Counts", 8, COUNTS),
    ],
)
