"""What is asked of the books in Redis, in the terms of their script; and what its answers mean.

Quiet: operations in, keys and arguments out; answers in, holds and refusals and receipts out. The script is ``redis_books.lua``;
amounts travel as decimal strings, because its numbers are doubles.
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
from gateway.store.keys import ACCOUNT_KEPT_S, HOUR_S, Keys, kept_until, unix_of
from gateway.store.rollups import Rollups
from gateway.store.words import limited, refusal
from gateway.value import value

Reply = list[bytes]
_CORRELATION = re.compile(rb'\{"call_id":"[^"\\]*","correlation_id":"([^"\\]*)"')
_AWAITS = b'"awaits":"'
"""Of the record itself, or of something within it: tags and usage have whatever names callers and providers give them."""
REFUSED = {"closed": is_settled, "gone": holds_nothing, "large": too_large}
"""What the script says where nothing was done -> the failure."""


@value
class Times:
    """How long things are kept: records, in seconds, and sums."""

    retention_s: float
    rollups: Rollups = field(default_factory=Rollups)


class Script:
    """The keys and arguments of one run of the script."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.names = [keys.epoch, keys.holds, keys.owners, keys.outbox, keys.hours, keys.days]
        self._at: dict[str, int] = {}
        self._texts: list[bytes] = []
        self._accounts: dict[str, int] = {}
        self._ops: list[dict[str, Any]] = []

    def key(self, name: str) -> int:
        """The index of a key, as Lua counts."""
        at = self._at.get(name)
        if at is None:
            self.names.append(name)
            at = self._at[name] = len(self.names)
        return at

    def account(self, account: str) -> str:
        """Makes the account known by its own name; ``sums:HOUR``, ``starts:HOUR`` and ``limit:UNIT:SCOPE`` are no accounts and known
        the same way.
        """
        if account not in self._accounts:
            kind, _, name = account.partition(":")
            make = {"sums": self.keys.sums, "starts": self.keys.starts, "limit": self.keys.limit}.get(kind)
            self._accounts[account] = self.key(make(name) if make is not None else self.keys.account(account))
        return account

    def text(self, text: bytes) -> int:
        """The index of an argument."""
        self._texts.append(text)
        return len(self._texts) + 1

    def add(self, op: dict[str, Any]) -> None:
        """One more operation; those without a value say so by leaving the name out."""
        self._ops.append({name: value for name, value in op.items() if value is not None})

    def arguments(self, *, token: str, owner: str, acked: int, seq: int, force: bool) -> list[bytes]:
        """ARGV."""
        head = {
            "token": token,
            "owner": owner,
            "acked": acked,
            "seq": seq,
            "force": force,
            "a": self._accounts,
            "ops": self._ops,
        }
        return [orjson.dumps(head), *self._texts]


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

    def put(self, script: Script) -> None:
        for account in self.more:
            script.account(account)
        mark = self.mark_nanousd
        if mark is None and self.kind == "reserve":
            mark = max([claim.amount_nanousd for claim in self.claims], default=0)
        script.add(
            {
                "k": self.kind,
                "id": self.call_id,
                "r": script.key(script.keys.record(self.call_id)),
                "m": str(mark) if mark is not None else None,
                "claims": [_claim(script, claim) for claim in self.claims],
                "u": [(script.account(limit_name(use)), *_figures(use)) for use in self.uses] or None,
            }
        )

    def answer(self, status: str, reply: Reply) -> Hold | Refusal:
        if status in ("exceeded", "held"):
            claim = self.claims[int(reply[0])]
            spent, held, needed = map(int, reply[1:4])
            kind = Kind.BUDGET_EXCEEDED if status == "exceeded" else Kind.BUDGET_HELD
            return refusal(kind, claim, needed, spent, held)
        if status == "limited":
            return limited(self.uses[int(reply[0])], int(reply[1]), int(reply[2]))
        if status == "again":
            parts = [(account_of(name), int(amount), budget) for name, amount, budget in orjson.loads(reply[0])["p"]]
            return granted_before(self.call_id, parts, self.claims)
        if status != "ok":
            raise _refused(status)
        pairs = list(map(int, reply[: 2 * len(self.claims)]))
        balances = zip(self.claims, pairs[::2], pairs[1::2], strict=True)
        largest = max([claim.amount_nanousd for claim in self.claims], default=0)
        amount = int(reply[len(pairs)]) if self.kind == "extend" else largest
        return granted(self.call_id, amount, self.claims, balances)

    def text(self, status: str, reply: Reply, hold: Hold, owner: str) -> bytes:
        """The hold as the books write it, so that it can be put back."""
        if status == "again":
            return reply[0]
        if self.kind == "extend":
            return reply[-1]
        return hold_text(owner, hold, self.mark_nanousd, self.uses)

    def crossed(self, status: str, reply: Reply) -> Reply:
        """Thresholds that it was the first to cross."""
        return reply[4:] if status == "exceeded" else []


@dataclass(slots=True)
class Settle:
    """See ``books.Settle``. ``share`` names who answers for it; ``seen`` is the hold that lapses, where it is charged as lost."""

    settlement: Settlement
    share: str
    times: Times
    seen: bytes | None = None
    more: tuple[str, ...] = ()
    own: bool = False
    """Whether it stands in the books under its share."""
    again: bool = False
    """Whether it stood there before."""

    def put(self, script: Script) -> None:
        settlement, keys = self.settlement, script.keys
        for account in (*self.more, *map(limit_name, settlement.uses)):
            script.account(account)
        started = unix_of(settlement.started_at)
        hour = settlement.started_at[:13]
        gone = int(started - started % HOUR_S + HOUR_S + self.times.retention_s)
        accounts = list(dict.fromkeys(map(str, settlement.accounts)))
        ends = {str(claim.account): _ends(claim) for claim in settlement.limits}
        sums = self._sums(script, started)
        head = {"c": str(settlement.cost_nanousd), "o": settlement.outcome, "a": accounts, "w": self.share, "hr": hour}
        awaited = _awaited(settlement.record)
        script.add(
            {
                "k": "lapse" if self.seen is not None else "settle",
                "id": settlement.call_id,
                "r": script.key(keys.record(settlement.call_id)),
                "c": str(settlement.cost_nanousd),
                "w": self.share,
                "accounts": [script.account(account) for account in accounts],
                "ends": [ends.get(account) or kept_until(account_of(account), started) for account in accounts],
                "head": script.text(orjson.dumps(head | ({"s": _told_sums(sums)} if sums else {}))),
                "record": script.text(settlement.record),
                "seen": script.text(self.seen) if self.seen is not None else None,
                "gone": gone,
                "hour": hour,
                "t": int(started * 1000),
                "lists": [script.key(name) for name in lists_of(keys, settlement)],
                "awaits": script.key(keys.awaited(*awaited)) if awaited else None,
                "sums": sums,
                "tk": settlement.tokens,
                "limits": [_limit(script, claim) for claim in settlement.limits],
            }
        )

    def _sums(self, script: Script, started: float) -> dict[str, Any] | None:
        spend = self.settlement.spend
        if spend is None:
            return None
        day = spend.hour[:10]
        return {
            "h": script.key(script.keys.sums(spend.hour)),
            "d": script.key(script.keys.sums(day)),
            "hn": spend.hour,
            "dn": day,
            "he": int(started + self.times.rollups.hours_s) + HOUR_S,
            "de": int(started + self.times.rollups.days_s) + 24 * HOUR_S,
            "of": spend.dims,
            "n": list(spend.counts),
        }

    def answer(self, status: str, reply: Reply) -> Receipt | None:
        call_id, cost = self.settlement.call_id, self.settlement.cost_nanousd
        if status == "again":
            return Receipt(call_id, int(reply[0]), again=True)
        if status in ("changed", "alive"):
            return None
        if status != "ok":
            raise _refused(status)
        limits = self.settlement.limits
        spent = zip(limits, map(int, reply), strict=False)
        return Receipt(call_id, cost, overdrafts=past_limits(spent, cost))

    def crossed(self, status: str, reply: Reply) -> Reply:
        """Thresholds that it was the first to cross."""
        return reply[len(self.settlement.limits) :] if status == "ok" else []

    def is_own(self, status: str, reply: Reply) -> bool:
        """Whether it stands in the books under this share: also when it is told so a second time."""
        return status == "ok" or (status == "again" and len(reply) > 1 and reply[1].decode() == self.share)


@dataclass(slots=True)
class Release:
    """See ``books.Release``."""

    call_id: str
    more: tuple[str, ...] = ()

    def put(self, script: Script) -> None:
        for account in self.more:
            script.account(account)
        record = script.key(script.keys.record(self.call_id))
        script.add({"k": "release", "id": self.call_id, "r": record})

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
        for account in self.more:
            script.account(account)
        op = {"k": self.kind, **self.fields}
        if self.account:
            op["c"] = script.account(self.account)
        if self.hold is not None:
            op["hold"] = script.text(self.hold)
        if self.call_id:
            op |= {"id": self.call_id, "r": script.key(script.keys.record(self.call_id))}
        script.add(op)

    def answer(self, status: str, reply: Reply) -> tuple[str, Reply]:
        return status, reply


def _refused(status: str) -> Failure:
    """A fresh one each time: an exception that is raised keeps the frames that it went through."""
    return REFUSED[status]()


def lists_of(keys: Keys, settlement: Settlement) -> list[str]:
    """The lists that a record stands in."""
    found = _CORRELATION.match(settlement.record)
    correlation_id = found[1].decode() if found else str(orjson.loads(settlement.record).get("correlation_id", ""))
    names = [keys.starts(settlement.started_at[:13])]
    if correlation_id and correlation_id != settlement.call_id:
        names.append(keys.correlated(correlation_id))
    return names


def notice_of(text: bytes) -> tuple[Notice, str]:
    """A threshold as the outbox keeps it, and who crossed it."""
    account, budget, percent, limit, spent, owner, forgiven = (*orjson.loads(text), 0)[:7]
    since = max(0, int(spent) - int(forgiven))
    return Notice(account_of(account), budget, int(percent), int(limit), since, int(forgiven)), owner


def notices_of(step: Reserve | Settle, ids: Sequence[bytes], status: str, reply: Reply) -> list[Notice]:
    """The thresholds that a step has just crossed."""
    claims = step.claims if isinstance(step, Reserve) else step.settlement.limits
    spent = {str(claim.account): int(each) for claim, each in zip(claims, reply, strict=False) if status == "ok"}
    found = []
    for each in ids:
        account, threshold, budget = each.decode().split("\x1f", 2)
        percent, limit, forgiven = map(int, threshold.split(":"))
        claim = next(claim for claim in claims if str(claim.account) == account and claim.budget == budget)
        at = spent[account] if status == "ok" else int(reply[1])
        found.append(Notice(claim.account, budget, percent, limit, max(0, at - forgiven), forgiven))
    return found


def hold_text(owner: str, hold: Hold, mark_nanousd: int | None, uses: Sequence[Use] = ()) -> bytes:
    """A hold as the books write it."""
    mark = hold.amount_nanousd if mark_nanousd is None else mark_nanousd
    parts = [[str(claim.account), str(claim.amount_nanousd), claim.budget] for claim in hold.claims]
    ending = [[limit_name(use), *_figures(use)] for use in uses if use.unit != REQUESTS]
    return orjson.dumps({"m": str(mark), "o": owner, "t": "0", "p": parts} | ({"u": ending} if ending else {}))


def limit_name(use: Use) -> str:
    """What a limit is called in the script and in holds."""
    return f"limit:{use.unit}:{use.scope}"


def _figures(use: Use) -> tuple[str, str]:
    return str(use.amount), str(use.allowed)


def _claim(script: Script, claim: Claim) -> dict[str, Any]:
    made: dict[str, Any] = {
        "c": script.account(str(claim.account)),
        "m": str(claim.amount_nanousd),
        "b": claim.budget,
        "e": _ends(claim),
    }
    if claim.limit_nanousd is not None:
        made["l"] = str(claim.limit_nanousd)
        if 100 in claim.notify_at:
            made |= {"h": True, "of": str(claim.stated_nanousd)}
        if claim.forgiven_nanousd:
            made["f"] = str(claim.forgiven_nanousd)
    return made


def _limit(script: Script, claim: Claim) -> dict[str, Any]:
    limit, forgiven = claim.stated_nanousd, claim.forgiven_nanousd
    return {
        "c": script.account(str(claim.account)),
        "b": claim.budget,
        "of": str(limit),
        "f": str(forgiven),
        "n": [[percent, str(forgiven - (-limit * percent // 100))] for percent in claim.notify_at],
    }


def _ends(claim: Claim) -> int:
    """When the account may go: some time after its window has ended; 0 = never."""
    return claim.resets_at + ACCOUNT_KEPT_S if claim.resets_at else 0


def _told_sums(sums: dict[str, Any]) -> dict[str, Any]:
    return {name: sums[name] for name in ("hn", "dn", "he", "de", "of", "n")}


def _awaited(record: bytes) -> tuple[str, str] | None:
    if _AWAITS not in record:
        return None
    told = orjson.loads(record)
    awaits = told.get("awaits")
    return (str(told.get("provider", "")), str(awaits)) if awaits else None
