"""How a store says that there is no room: a Refusal that names the claim or the limit in the way, in figures and in words.

The message alone must tell a person which budget or limit it was, how far it is used, when there is room again and what to do now.
"""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.accounts import PLACES, TOKENS, Claim, Use
from gateway.errors import Excess, Kind, Refusal
from pricing.money import format_usd

HELD_RETRY_MS = 250
"""A typical call ends, and gives its hold back, within some hundred milliseconds; sooner only costs a round trip."""

PLACE_RETRY_MS = 500
"""Nobody knows when a call ends; one of a language model seldom takes less."""
NEVER = 1 << 62
"""A wait that has no end."""


def limited(use: Use, used: int, wait_ms: int) -> Refusal:
    """A limit has no room for this call within ``wait_ms``."""
    never = wait_ms >= NEVER
    name = f"The limit {use.limit!r} ({use.scope}, {use.unit})"
    return Refusal(
        kind=Kind.RATE_LIMIT,
        message=f"{name} {_figures_of(use, used)} {_advice_limited(use, wait_ms, never=never)}",
        retry_after_ms=0 if never else max(1, wait_ms),
        excess=Excess(use.limit, use.scope, use.unit, use.allowed, used, use.amount),
    )


def _figures_of(use: Use, used: int) -> str:
    if use.unit == PLACES:
        return f"lets {use.allowed} calls run at a time, and {used} are running."
    if use.unit == TOKENS:
        return (
            f"has no room for this call: of {use.allowed} tokens a minute {used} are used or set aside, "
            f"and this call takes about {use.amount}."
        )
    return f"lets through {use.allowed} requests a minute, and no more are left at the moment."


def _advice_limited(use: Use, wait_ms: int, *, never: bool) -> str:
    raise_it = "have the operator of this gateway raise the limit"
    if never:
        return f"That is more than the whole limit, so waiting does not help: send a shorter prompt, or {raise_it}."
    if use.unit == PLACES:
        return "Try again when one of them has ended, with fewer calls at a time."
    return f"Try again in {wait_ms / 1000:.3f} s, ask more slowly, or {raise_it}."


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
