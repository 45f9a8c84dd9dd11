"""The questions that panels ask of Prometheus, as text. Right over any number of replicas: what is counted is added up over them,
what all of them show of one account is taken once.
"""

from __future__ import annotations

CALLS = 'team=~"$team",agent=~"$agent",provider=~"$provider",model=~"$model"'
"""The calls that the variables of a dashboard choose. A label that the config does not keep matches as well."""
ACCOUNT = "budget, scope, window"
REFUSED_OR_LEFT = "budget_exceeded|budget_held|client_disconnected"
"""Errors that are no fault of a provider or of the gateway."""


def of(metric: str, selector: str = "") -> str:
    """A metric with its selector."""
    return f"{metric}{{{selector}}}" if selector else metric


def per_second(metric: str, by: str = "", selector: str = "") -> str:
    """How fast a counter grows, over all replicas."""
    return _sum(f"rate({of(metric, selector)}[$__rate_interval])", by)


def gained(metric: str, by: str = "", selector: str = "", window: str = "$__range") -> str:
    """By how much a counter grew within a window, over all replicas."""
    return _sum(f"increase({of(metric, selector)}[{window}])", by)


def events(metric: str, by: str, selector: str = "", over: str = "sum") -> str:
    """How often something rare happened within one step of the graph.

    The first event of its kind begins the series, and ``increase`` takes a series' first value for its start: it would miss
    what often happens once (a notice is told once a window). ``over`` is max for what every replica counts by itself.
    """
    now = f"{over} by ({by}) ({of(metric, selector)})"
    before = f"{over} by ({by}) ({of(metric, selector)} offset $__interval)"
    return f"clamp_min({now} - ({before} or {now} * 0), 0)"


def quantile(share: float, metric: str, by: str = "", selector: str = "") -> str:
    """A quantile of a histogram, over all replicas."""
    buckets = per_second(f"{metric}_bucket", f"le, {by}" if by else "le", selector)
    return f"histogram_quantile({share}, {buckets})"


def mean(metric: str, selector: str = "", by: str = "") -> str:
    """The mean of a histogram over the time that is looked at."""
    total, count = (gained(f"{metric}_{part}", by, selector) for part in ("sum", "count"))
    return f"{total} / {count}"


def account(metric: str) -> str:
    """A gauge of a budget's account: every replica shows the same one."""
    return f'max by ({ACCOUNT}) ({metric}{{budget=~"$budget"}})'


def ours(metric: str) -> str:
    """A metric that any process may have, of gateways only, whatever their job is called."""
    return f'({metric}{{instance=~"$instance"}} and on (job, instance) tollgate_build_info)'


def first_seen(info: str) -> str:
    """1 in the one step in which a version appears that no replica had before, while others were there."""
    before = f"last_over_time({info}[10m] offset $__interval)"
    return f"(count by (version) ({info}) unless count by (version) ({before})) and on () count({before})"


def _sum(expression: str, by: str) -> str:
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"
