"""What is asked of the books in Redis, in the terms of their script; and what its answers mean.

Quiet: operations in, keys and arguments out; answers in, holds and refusals and receipts out. The script is ``redis_books.lua``;
claims travel as numbers, which are doubles there and exact up to 2^53; all other amounts as decimal strings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from gateway.accounts import REQUESTS, Claim, Hold, Notice, Use, account_of
from gateway.call import Receipt
from gateway.errors import Failure, Kind, Refusal
from gateway.store import Settlement
from gateway.store.answers import granted, granted_before, holds_nothing, is_settled, past_limits, too_large
from gateway.store.keys import names_of, unix_of
from gateway.store.lost import LOST
from gateway.store.redis_script import Script
from gateway.store.words import limited, refusal

Reply = list[bytes]
_CORRELATION = re.compile(rb'\{"call_id":"[^"\\]*","correlation_id":"([^"\\]*)"')
_AWAITS = b'"awaits":"'
"""Of the record itself, or of something within it: tags and usage have whatever names callers and providers give them."""
REFUSED = {"closed": is_settled, "gone": holds_nothing, "large": too_large}
"""What the script says where nothing was done -> the failure."""


class Step(Protocol):
    """One operation. ``more`` are accounts that only the books know it touches."""

    more: tuple[str, ...]

    def put(self, script: Script) -> None:
        """Write it down."""

    def answer(self, status: str, reply: Reply) -> Any:
        """What it came to. Failure for what cannot be done."""


@dataclass(slots=True)
class Reserve:
    """See ``books.Reserve``."""

    call_id: str
    claims: tuple[Claim, ...]
    mark_nanousd: int | None
    kind: str = "reserve"
    more: tuple[str, ...] = ()
    uses: tuple[Use, ...] = ()
    amounts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.amounts = [claim.amount_nanousd for claim in self.claims]

    def put(self, script: Script) -> None:
        script.know(self.more)
        mark = self.mark_nanousd
        op = {
            "k": self.kind,
            "id": self.call_id,
            "r": script.at[script.keys.record(self.call_id)],
            "claims": _terms(script, self.claims),
            "amounts": self.amounts,
        }
        if mark is not None or self.kind == "reserve":
            op["m"] = str(mark if mark is not None else max(self.amounts, default=0))
        if self.uses:
            op["u"] = ending = [[limit_name(use), *_figures(use)] for use in self.uses]
            script.know([name for name, *_ in ending])
        script.ops.append(op)

    def answer(self, status: str, reply: Reply) -> Hold | Refusal:
        claims = self.claims
        if status == "ok":
            numbers = iter(orjson.loads(reply[0]))
            amount = int(reply[1]) if self.kind == "extend" else max(self.amounts, default=0)
            return granted(self.call_id, amount, claims, zip(claims, numbers, numbers, strict=True))
        if status in ("exceeded", "held"):
            spent, held, needed = map(int, reply[1:4])
            kind = Kind.BUDGET_EXCEEDED if status == "exceeded" else Kind.BUDGET_HELD
            return refusal(kind, claims[int(reply[0])], needed, spent, held)
        if status == "limited":
            return limited(self.uses[int(reply[0])], int(reply[1]), int(reply[2]))
        if status == "again":
            parts = [(account_of(name), int(amount), budget) for name, amount, budget in orjson.loads(reply[0])["p"]]
            return granted_before(self.call_id, parts, claims)
        raise _refused(status)

    def kept(self, status: str, reply: Reply) -> bytes | Reserve:
        """What puts the hold back, should the books forget it: the hold as they write it, or this step, of which it can be made."""
        if status == "again":
            return reply[0]
        return reply[-1] if self.kind == "extend" else self

    def hold_text(self, owner: str) -> bytes:
        """The hold as the books write it."""
        mark = max(self.amounts, default=0) if self.mark_nanousd is None else self.mark_nanousd
        parts = [[str(claim.account), str(claim.amount_nanousd), claim.budget] for claim in self.claims]
        ending = [[limit_name(use), *_figures(use)] for use in self.uses if use.unit != REQUESTS]
        return orjson.dumps({"m": str(mark), "o": owner, "t": "0", "p": parts} | ({"u": ending} if ending else {}))

    def crossed(self, status: str, reply: Reply) -> Reply:
        """Thresholds that it was the first to cross."""
        return reply[4:] if status == "exceeded" else []


@dataclass(slots=True)
class Settle:
    """See ``books.Settle``. ``share`` names who answers for it; ``seen`` is the hold that lapses, where it is charged as lost."""

    settlement: Settlement
    share: str
    seen: bytes | None = None
    more: tuple[str, ...] = ()
    own: bool = False
    """Whether it stands in the books under its share."""
    again: bool = False
    """Whether it stood there before."""

    def put(self, script: Script) -> None:
        settlement = self.settlement
        call_id, cost, spend = settlement.call_id, str(settlement.cost_nanousd), settlement.spend
        script.know([*self.more, *map(limit_name, settlement.uses)])
        limits, hour = tuple(_terms(script, settlement.limits)), settlement.started_at[:13]
        op = {
            "k": "settle",
            "id": call_id,
            "r": script.at[script.keys.record(call_id)],
            "c": cost,
            "w": self.share,
            "b": script.bill(settlement.accounts, limits, hour, spend.hour if spend is not None else ""),
            "record": script.text(self._head(script, hour, cost) + b"\n" + settlement.record),
            "t": int(unix_of(settlement.started_at) * 1000),
        }
        if spend is not None:
            op["of"], op["n"] = spend.dims, spend.counts
        if settlement.tokens is not None:
            op["tk"] = settlement.tokens
        if self.seen is not None:
            op["k"], op["seen"] = "lapse", script.text(self.seen)
        correlation_id = _correlation_id(settlement)
        if correlation_id:
            op["cor"] = script.at[script.keys.correlated(correlation_id)]
        awaited = _awaited(settlement)
        if awaited is not None:
            op["awaits"] = script.at[script.keys.awaited(*awaited)]
        script.ops.append(op)

    def _head(self, script: Script, hour: str, cost: str) -> bytes:
        """The line before the record. What a lost call has added to the sums stands there too: whoever settles it takes that back."""
        settlement = self.settlement
        spend = settlement.spend
        head: dict[str, Any] = {
            "c": cost,
            "o": settlement.outcome,
            "a": names_of(settlement.accounts),
            "w": self.share,
            "hr": hour,
        }
        if spend is not None and settlement.outcome == LOST:
            told = script.hour(spend.hour)
            head["s"] = {name: told[name] for name in ("hn", "dn", "he", "de")} | {"of": spend.dims, "n": spend.counts}
        return orjson.dumps(head)

    def answer(self, status: str, reply: Reply) -> Receipt | None:
        settlement = self.settlement
        call_id, cost = settlement.call_id, settlement.cost_nanousd
        if status == "ok":
            if not reply:
                return Receipt(call_id, cost)
            spent = zip(settlement.limits, orjson.loads(reply[0]), strict=True)
            return Receipt(call_id, cost, False, past_limits(spent, cost))
        if status == "again":
            return Receipt(call_id, int(reply[0]), again=True)
        if status in ("changed", "alive"):
            return None
        raise _refused(status)

    def crossed(self, status: str, reply: Reply) -> Reply:
        """Thresholds that it was the first to cross."""
        return reply[1:] if status == "ok" else []

    def is_own(self, status: str, reply: Reply) -> bool:
        """Whether it stands in the books under this share: also when it is told so a second time."""
        return status == "ok" or (status == "again" and len(reply) > 1 and reply[1].decode() == self.share)


@dataclass(slots=True)
class Release:
    """See ``books.Release``."""

    call_id: str
    more: tuple[str, ...] = ()

    def put(self, script: Script) -> None:
        script.know(self.more)
        script.ops.append({"k": "release", "id": self.call_id, "r": script.at[script.keys.record(self.call_id)]})

    def answer(self, status: str, reply: Reply) -> None:
        return None


@dataclass(slots=True)
class Simple:
    """What needs no account: its status and texts are the answer. ``fields`` are what the script reads."""

    kind: str
    fields: dict[str, Any]
    account: str = ""
    hold: bytes | None = None
    call_id: str = ""
    more: tuple[str, ...] = field(default=())

    def put(self, script: Script) -> None:
        script.know(self.more)
        op = {"k": self.kind, **self.fields}
        if self.account:
            script.know([self.account])
            op["c"] = self.account
        if self.hold is not None:
            op["hold"] = script.text(self.hold)
        if self.call_id:
            op |= {"id": self.call_id, "r": script.at[script.keys.record(self.call_id)]}
        script.ops.append({name: value for name, value in op.items() if value is not None})

    def answer(self, status: str, reply: Reply) -> tuple[str, Reply]:
        return status, reply


def _refused(status: str) -> Failure:
    """A fresh one each time: an exception that is raised keeps the frames that it went through."""
    return REFUSED[status]()


def notice_of(text: bytes) -> tuple[Notice, str]:
    """A threshold as the outbox keeps it, and who crossed it."""
    account, budget, percent, limit, spent, owner, forgiven = (*orjson.loads(text), 0)[:7]
    since = max(0, int(spent) - int(forgiven))
    return Notice(account_of(account), budget, int(percent), int(limit), since, int(forgiven)), owner


def notices_of(step: Reserve | Settle, ids: Sequence[bytes], status: str, reply: Reply) -> list[Notice]:
    """The thresholds that a step has just crossed."""
    claims = step.claims if isinstance(step, Reserve) else step.settlement.limits
    balances = orjson.loads(reply[0]) if status == "ok" else ()
    spent = {str(claim.account): each for claim, each in zip(claims, balances, strict=False)}
    found = []
    for each in ids:
        account, threshold, budget = each.decode().split("\x1f", 2)
        percent, limit, forgiven = map(int, threshold.split(":"))
        claim = next(claim for claim in claims if str(claim.account) == account and claim.budget == budget)
        at = spent[account] if status == "ok" else int(reply[1])
        found.append(Notice(claim.account, budget, percent, limit, max(0, at - forgiven), forgiven))
    return found


def limit_name(use: Use) -> str:
    """What a limit is called in the script and in holds."""
    return f"limit:{use.unit}:{use.scope}"


def _figures(use: Use) -> tuple[str, str]:
    return str(use.amount), str(use.allowed)


def _terms(script: Script, claims: Sequence[Claim]) -> list[int]:
    """Their numbers. What is not in ``Terms`` is no business of the script's."""
    numbers = script.terms
    return [
        numbers[
            each.account, each.budget, each.limit_nanousd, each.shadow_nanousd, each.forgiven_nanousd, each.resets_at, each.notify_at
        ]
        for each in claims
    ]  # fmt: skip


def _correlation_id(settlement: Settlement) -> str:
    """Empty where the call made it itself."""
    correlation_id = settlement.correlation_id
    if not correlation_id:
        found = _CORRELATION.match(settlement.record)
        correlation_id = found[1].decode() if found else str(orjson.loads(settlement.record).get("correlation_id", ""))
    return correlation_id if correlation_id != settlement.call_id else ""


def _awaited(settlement: Settlement) -> tuple[str, str] | None:
    if not (settlement.awaits if settlement.correlation_id else _AWAITS in settlement.record):
        return None
    told = orjson.loads(settlement.record)
    awaits = told.get("awaits")
    return (str(told.get("provider", "")), str(awaits)) if awaits else None
