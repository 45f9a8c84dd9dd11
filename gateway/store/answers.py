"""What every store answers alike, whichever keeps the books: holds in the words of their claims, what went past a limit, and no.

Quiet. Balances are (spent, held) in nano-dollars, in the order of the claims that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gateway.accounts import Account, Claim, Hold, Notice
from gateway.call import CORRECTED
from gateway.errors import Failure, Kind, Whose
from gateway.store import Settlement

MAX_AMOUNT_NANOUSD = 1 << 53
"""One claim or cost, 9 million dollars: exact wherever it is shown, doubles included."""


def granted(
    call_id: str, amount_nanousd: int, claims: Sequence[Claim], balances: Iterable[tuple[Claim, int, int]]
) -> Hold:
    """The hold of these claims; ``balances`` are (claim, spent, held) of each, after it was set aside."""
    least: int | None = None
    shadows = []
    for claim, spent, held in balances:
        limit = claim.limit_nanousd
        if limit is not None:  # a claim may hold less of its own account
            counted = spent if spent >= claim.forgiven_nanousd else claim.counted(spent)
            room = limit - counted - held + claim.amount_nanousd
            if least is None or room < least:
                least = room
        elif claim.shadow_nanousd is not None and claim.counted(spent) + held > claim.shadow_nanousd:
            shadows.append(claim.budget)
    left = least - amount_nanousd if least is not None else None
    return Hold(call_id, amount_nanousd, tuple(claims), left, tuple(shadows))


def granted_before(call_id: str, parts: Iterable[tuple[Account, int, str]], claims: Sequence[Claim]) -> Hold:
    """The hold that stands in the books (account, amount, budget), in the words of the claims that ask for it a second time."""
    asked = {str(claim.account): claim for claim in claims}
    held = [
        replace(asked.get(str(account)) or Claim(account, 0, budget=budget), amount_nanousd=amount)
        for account, amount, budget in parts
    ]
    return Hold(call_id, max([claim.amount_nanousd for claim in held], default=0), tuple(held))


def past_limits(spent: Iterable[tuple[Claim, int]], cost_nanousd: int) -> tuple[tuple[Claim, int], ...]:
    """What of a cost lies beyond the limits of these claims; ``spent`` is with it."""
    beyond = []
    for claim, spent_nanousd in spent:
        limit = claim.limit_nanousd
        if limit is not None and spent_nanousd > limit and cost_nanousd > 0:
            beyond.append((claim, min(cost_nanousd, spent_nanousd - limit)))
    return tuple(beyond)


def check_amount(nanousd: int) -> None:
    """ValueError for what no claim can have."""
    if not 0 <= nanousd <= MAX_AMOUNT_NANOUSD:
        raise ValueError(f"not an amount that can be booked: {nanousd}")


def check_cost(settlement: Settlement) -> None:
    """ValueError for what no call can cost. The difference that corrects one may be negative."""
    cost = settlement.cost_nanousd
    check_amount(abs(cost) if settlement.outcome == CORRECTED else cost)


def is_settled() -> Failure:
    """Of a reserve that came too late."""
    return Failure(Kind.INTERNAL, Whose.OURS, "This call has been settled: nothing is set aside for it any more.")


def holds_nothing() -> Failure:
    """Of an extension."""
    return Failure(Kind.INTERNAL, Whose.OURS, "This call holds nothing that could be extended.")


def too_large() -> Failure:
    """Of an account that has come to the end of what is counted exactly."""
    return Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, "An account is larger than the books can count.")


def closed() -> Failure:
    """Of a store that is not open."""
    return Failure(Kind.STORE_UNAVAILABLE, Whose.OURS, "The store is closed.")


def tell_nobody(notices: Sequence[Notice]) -> None:
    """Nobody listens."""
