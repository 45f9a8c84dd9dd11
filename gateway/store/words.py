"""How a store says that there is no room: a Refusal that names the claim in the way, in figures and in words.

The message alone must tell a person which budget it was, how far it is used, when it starts again and what to do now.
"""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.accounts import Claim
from gateway.errors import Kind, Refusal
from pricing.money import format_usd

HELD_RETRY_MS = 250
"""A typical call ends, and gives its hold back, within some hundred milliseconds; sooner only costs a round trip."""


def refusal(kind: Kind, claim: Claim, needed_nanousd: int, spent_nanousd: int, held_nanousd: int) -> Refusal:
    """``kind`` is BUDGET_EXCEEDED (no room before the reset) or BUDGET_HELD (only other calls' holds are in the way). What
    was forgiven is told of nowhere: the limit is as it was stated, and spent what was spent since.
    """
    limit, spent_nanousd = claim.stated_nanousd, max(0, spent_nanousd - claim.forgiven_nanousd)
    figures = (
        f"{_of(claim)} has no room for this call: of ${format_usd(limit)}, ${format_usd(spent_nanousd)} is spent and "
        f"${format_usd(held_nanousd)} is held by running calls; this call needs ${format_usd(needed_nanousd)}."
    )
    held = kind is Kind.BUDGET_HELD
    return Refusal(
        kind=kind,
        message=f"{figures} {_advice_held() if held else _advice_exceeded(claim, limit, needed_nanousd)}",
        budget=claim.budget or claim.account.scope,
        scope=claim.account.scope,
        window=claim.window or claim.account.window.partition(":")[0],
        limit_nanousd=limit,
        spent_nanousd=spent_nanousd,
        held_nanousd=held_nanousd,
        needed_nanousd=needed_nanousd,
        resets_at=claim.resets_at,
        retry_after_ms=HELD_RETRY_MS if held else 0,
    )


def _of(claim: Claim) -> str:
    scope = f"{claim.account.scope}, {claim.account.window}"
    return f"The budget {claim.budget!r} ({scope})" if claim.budget else f"The budget of {scope}"


def _advice_held() -> str:
    return "Room comes back when running calls end: try again in a moment, with fewer calls at a time."


def _advice_exceeded(claim: Claim, limit_nanousd: int, needed_nanousd: int) -> str:
    less = "ask for less (a lower output maximum, a shorter prompt, a cheaper model)"
    raise_it = "have the operator of this gateway raise the limit"
    if needed_nanousd > limit_nanousd:
        return f"That is more than the whole limit, so waiting does not help: {less}, or {raise_it}."
    if not claim.resets_at:
        return f"It never resets by itself: {less}, or {raise_it}."
    return f"It resets at {datetime.fromtimestamp(claim.resets_at, UTC):%Y-%m-%dT%H:%M:%SZ}: wait until then, {less}, or {raise_it}."
