"""What books and providers give occasion to tell: thresholds that were crossed, limits that were overdrawn, models without a
price, keys that a provider does not take.
"""

from __future__ import annotations

from gateway.accounts import Claim, Notice
from gateway.call import Record
from gateway.observe.events import Event
from pricing.money import format_usd

MAX_NAME_CHARS = 80
"""Names of models come from callers, and a model may be called anything."""


def of_notice(notice: Notice) -> Event:
    """A threshold of a budget (``notify_at``) that was crossed. It has no end: the next window is another account."""
    limit, spent = format_usd(notice.limit_nanousd), format_usd(notice.spent_nanousd)
    reset = (
        f"/{format_usd(notice.forgiven_nanousd)}" if notice.forgiven_nanousd else ""
    )  # crossed once more: told once more
    came = f"has come to {notice.percent} % of ${limit}: {notice.account} has spent ${spent}"
    if notice.spent_nanousd * 100 < notice.limit_nanousd * notice.percent:  # 100 is told at the first refusal as well
        came = f"has no room for a call: {notice.account} has spent ${spent} of ${limit}"
    return Event(
        kind="budget",
        key=f"budget/{notice.budget}/{notice.account}/{notice.percent}/{limit}{reset}",
        state="told",
        severity="critical" if notice.percent >= 100 else "warning",
        text=f"budget {notice.budget} {came}",
        facts=(
            ("budget", notice.budget),
            ("account", str(notice.account)),
            ("percent", str(notice.percent)),
            ("limit_usd", limit),
            ("spent_usd", spent),
        ),
    )


def of_overdraft(claim: Claim, past_nanousd: int) -> Event:
    """A call that cost ``past_nanousd`` more than its budget had left."""
    limit, past = format_usd(claim.stated_nanousd), format_usd(past_nanousd)
    return Event(
        kind="budget",
        key=f"overdraft/{claim.budget}/{claim.account}",
        state="told",
        severity="warning",
        text=f"budget {claim.budget} is overdrawn: a call of {claim.account} went ${past} past its limit of ${limit}",
        facts=(
            ("budget", claim.budget),
            ("account", str(claim.account)),
            ("limit_usd", limit),
            ("past_usd", past),
        ),
    )


def of_unpriced(record: Record) -> Event:
    """A call of a model that the price book does not know."""
    provider, model = record.provider, (record.model_served or record.model_requested)[:MAX_NAME_CHARS]
    return Event(
        kind="pricing",
        key=f"pricing/{provider}/{model}",
        state="told",
        severity="warning",
        text=f"no price for model {model!r} of {provider}: charged by estimate (pricing.overrides adds one)",
        facts=(("provider", provider), ("model", model), ("call_id", record.call_id)),
    )


def of_rejected_key(upstream: str, provider_key: str, status: int, seconds: float) -> Event:
    """One of an upstream's several keys that the provider does not take. It has no end: after a while it is tried again."""
    return Event(
        kind="upstream",
        key=f"provider_key/{upstream}/{provider_key}",
        state="told",
        severity="warning",
        text=f"upstream {upstream} does not take the key {provider_key!r} ({status}): it is set aside for {seconds:.0f} s;"
        " calls go on with the others (upstreams.NAME.api_keys)",
        facts=(("upstream", upstream), ("provider_key", provider_key), ("status", str(status))),
    )
