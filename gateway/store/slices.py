"""Going on while the store is away: each process keeps a slice of each budget that it uses, and grants calls out of it.

A slice is an ordinary hold on an account, owned by a process instead of a call (``slice:SHARE:ACCOUNT``). While the store answers
it only lies there, and what it takes from others is small: a tenth of what is left, divided among the processes, nothing at all
when a budget nears its end. While the store is away calls are granted within it, so that nothing overshoots; what they
spend stands in the journal and is booked when the store is back. Quiet: decides and remembers; the store acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gateway.accounts import Account, Balance, Claim, Hold
from gateway.store.answers import MAX_AMOUNT_NANOUSD

SLICE = "slice:"
PART_OF_LEFT = 10
LEAST_CALLS = 20
"""A slice of fewer calls than this is not worth the room that it takes from others."""
USED_LATELY_S = 120.0
MAX_ACCOUNTS = 256


@dataclass(slots=True)
class _Slice:
    claim: Claim
    """Its amount is that of the largest call of late."""
    seen: float
    amount: int = 0
    held: int = 0
    spent: int = 0

    @property
    def free(self) -> int:
        return self.amount - self.held - self.spent


class Slices:
    """``share`` names whose they are."""

    def __init__(self, share: str) -> None:
        self._share = share
        self._slices: dict[Account, _Slice] = {}
        self._calls: dict[str, tuple[Hold, tuple[Claim, ...]]] = {}

    def name(self, account: Account) -> str:
        """The call id under which the slice of an account is held."""
        return f"{SLICE}{self._share}:{account}"

    # -- while the store answers --------------------------------------------------------------------------------------

    def used(self, claims: Sequence[Claim], now: float) -> None:
        """A call was granted or refused: these budgets are in use here."""
        for claim in claims:
            if claim.limit_nanousd is None:
                continue
            slice_ = self._slices.get(claim.account)
            if slice_ is None:
                if len(self._slices) < MAX_ACCOUNTS:
                    self._slices[claim.account] = _Slice(claim, now)
                continue
            slice_.seen = now
            largest = max(claim.amount_nanousd, slice_.claim.amount_nanousd)
            slice_.claim = replace(claim, amount_nanousd=largest)

    def accounts(self) -> list[Account]:
        """Those whose balances are needed to size them."""
        return list(self._slices)

    def plan(self, balances: Iterable[Balance], processes: int, now: float) -> list[tuple[str, Claim | None]]:
        """What to change: (name, the claim to hold from now on, None for nothing any more). Little changes are not made."""
        changes: list[tuple[str, Claim | None]] = []
        for balance in balances:
            slice_ = self._slices.get(balance.account)
            if slice_ is None:
                continue
            target = _target(slice_, balance, processes) if now - slice_.seen < USED_LATELY_S else 0
            if not target:
                if slice_.amount:
                    changes.append((self.name(balance.account), None))
                if now - slice_.seen >= USED_LATELY_S:
                    del self._slices[balance.account]
            elif not target // 2 <= slice_.amount <= target * 2:
                changes.append((self.name(balance.account), replace(slice_.claim, amount_nanousd=target, notify_at=())))
        return changes

    def hold(self, account: Account, amount: int) -> None:
        """The slice of an account is so large now."""
        if account in self._slices:
            self._slices[account].amount = amount

    # -- while it is away ---------------------------------------------------------------------------------------------

    def grant(self, call_id: str, claims: Sequence[Claim]) -> Hold | None:
        """All claims within their slices, or None."""
        if call_id in self._calls:
            return self._calls[call_id][0]
        limited = [claim for claim in claims if claim.limit_nanousd is not None]
        for claim in limited:
            slice_ = self._slices.get(claim.account)
            if slice_ is None or slice_.free < claim.amount_nanousd:
                return None
        for claim in limited:
            self._slices[claim.account].held += claim.amount_nanousd
        amount = max([claim.amount_nanousd for claim in claims], default=0)
        left = min([self._slices[claim.account].free for claim in limited], default=None)
        hold = Hold(call_id, amount, tuple(claims), left)
        self._calls[call_id] = (hold, tuple(limited))
        return hold

    def settled(self, call_id: str, cost_nanousd: int) -> None:
        """A call that was granted here is over."""
        found = self._calls.pop(call_id, None)
        for claim in found[1] if found is not None else ():
            slice_ = self._slices[claim.account]
            slice_.held -= claim.amount_nanousd
            slice_.spent += cost_nanousd

    def running(self) -> list[Hold]:
        """Calls that were granted here and are not over: the books do not know them."""
        return [hold for hold, _ in self._calls.values()]

    def back_names(self) -> list[str]:
        """The names of slices that are held."""
        return [self.name(account) for account, slice_ in self._slices.items() if slice_.amount]

    def forget(self) -> None:
        """The store answers again, and what was granted here is its business now."""
        for slice_ in self._slices.values():
            slice_.amount = slice_.held = slice_.spent = 0
        self._calls.clear()


def _target(slice_: _Slice, balance: Balance, processes: int) -> int:
    limit = slice_.claim.limit_nanousd or 0
    left = limit - slice_.claim.counted(balance.spent_nanousd) - balance.held_nanousd + slice_.amount
    target = min(left // (PART_OF_LEFT * max(1, processes)), MAX_AMOUNT_NANOUSD)
    return target if target >= LEAST_CALLS * slice_.claim.amount_nanousd else 0
