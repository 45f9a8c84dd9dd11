"""One run of the script of the books in Redis: its keys and arguments.

What many steps of a run have alike stands in it once: the names of keys and accounts, what claims say beside their amounts, what
settlements charge and when. A step names it by its number. So a call costs little more than its own amounts, here and in Lua.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from operator import attrgetter
from typing import Any, TypeVar

import orjson

from gateway.accounts import Account, Claim
from gateway.store.keys import ACCOUNT_KEPT_S, DAY_S, HOUR_S, Keys, hour_begins, kept_until
from gateway.store.rollups import Rollups
from gateway.value import value

K = TypeVar("K")
T = TypeVar("T")
_Terms = tuple[Account, str, int | None, int | None, int, int, tuple[int, ...]]
terms_of: Callable[[Claim], _Terms] = attrgetter(
    "account", "budget", "limit_nanousd", "shadow_nanousd", "forgiven_nanousd", "resets_at", "notify_at"
)
"""All that the script has to know of a claim, but for its amount."""
_Bill = tuple[tuple[Account, ...], tuple[int, ...], str, str]
"""Accounts, terms of the limits among them, the hour in which the call began, the one to whose sums it adds ("" = none)."""


@value
class Times:
    """How long things are kept: records, in seconds, and sums."""

    retention_s: float
    rollups: Rollups = field(default_factory=Rollups)


class _Numbers(dict[K, int]):
    """A number for each that is asked for; ``number`` gives it, the first time."""

    def __init__(self, number: Callable[[K], int]) -> None:
        super().__init__()
        self._number = number

    def __missing__(self, key: K) -> int:
        number = self[key] = self._number(key)
        return number


class Script:
    """Steps put themselves into ``ops``. ``at`` numbers keys, as Lua counts, ``terms``, ``bills`` and ``hours`` what is told of them."""

    def __init__(self, keys: Keys, times: Times) -> None:
        self.keys = keys
        self.names = [keys.epoch, keys.holds, keys.owners, keys.outbox, keys.hours, keys.days]
        self.ops: list[dict[str, Any]] = []
        self._times = times
        self._texts: list[bytes] = []
        self._terms: list[dict[str, Any]] = []
        self._bills: list[dict[str, Any]] = []
        self._hours: list[dict[str, Any]] = []
        self.at: _Numbers[str] = _Numbers(lambda name: _added(self.names, name))
        self.terms: _Numbers[_Terms] = _Numbers(lambda terms: _added(self._terms, self._tell_terms(terms)))
        self.bills: _Numbers[_Bill] = _Numbers(lambda bill: _added(self._bills, self._tell_bill(*bill)))
        self.hours: _Numbers[str] = _Numbers(lambda hour: _added(self._hours, self._tell_hour(hour)))
        self._accounts: _Numbers[str] = _Numbers(self._account)

    def know(self, accounts: Sequence[str]) -> None:
        """Makes accounts known by their own names; ``sums:HOUR``, ``starts:HOUR`` and ``limit:UNIT:SCOPE`` are no accounts and known
        the same way.
        """
        for account in accounts:
            self._accounts[account]

    def text(self, text: bytes) -> int:
        """The index of an argument."""
        return _added(self._texts, text) + 1

    def hour(self, hour: str) -> dict[str, Any]:
        """What is told of an hour."""
        return self._hours[self.hours[hour] - 1]

    def arguments(self, *, token: str, owner: str, acked: int, seq: int, force: bool) -> list[bytes]:
        """ARGV."""
        head = {
            "token": token,
            "owner": owner,
            "acked": acked,
            "seq": seq,
            "force": force,
            "a": self._accounts,
            "terms": self._terms,
            "bills": self._bills,
            "hours": self._hours,
            "ops": self.ops,
        }
        return [orjson.dumps(head), *self._texts]

    def _account(self, account: str) -> int:
        kind, _, name = account.partition(":")
        make = {"sums": self.keys.sums, "starts": self.keys.starts, "limit": self.keys.limit}.get(kind)
        return self.at[make(name) if make is not None else self.keys.account(account)]

    def _tell_terms(self, terms: _Terms) -> dict[str, Any]:
        """``e`` is when the account may go, some time after its window has ended (0 = never), ``of`` the limit as it was stated, ``n``
        what has to be spent for each threshold.
        """
        account, budget, limit, shadow, forgiven, resets_at, notify_at = terms
        stated = max(0, (limit if limit is not None else shadow or 0) - forgiven)
        told: dict[str, Any] = {
            "c": str(account),
            "b": budget,
            "e": resets_at + ACCOUNT_KEPT_S if resets_at else 0,
            "of": str(stated),
            "f": str(forgiven),
            "n": [[percent, str(forgiven - (-stated * percent // 100))] for percent in notify_at],
        }
        if limit is not None:
            told |= {"l": str(limit), "h": 100 in notify_at}
        self.know([told["c"]])
        return told

    def _tell_bill(self, accounts: Sequence[Account], limits: Sequence[int], hour: str, sums: str) -> dict[str, Any]:
        """``e`` is when each account may go."""
        ends = {terms["c"]: terms["e"] for terms in [self._terms[number - 1] for number in limits]}
        charged = {str(account): kept_until(account, hour_begins(hour) + HOUR_S) for account in accounts}
        self.know(list(charged))
        told = {
            "a": list(charged),
            "e": [ends.get(account) or until for account, until in charged.items()],
            "l": limits,
            "h": self.hours[hour],
        }
        return told | ({"s": self.hours[sums]} if sums else {})

    def _tell_hour(self, hour: str) -> dict[str, Any]:
        """Keys of what is kept by the hour, and when each may go: so long after the hour."""
        day, over, times = hour[:10], hour_begins(hour) + HOUR_S, self._times
        return {
            "hn": hour,
            "dn": day,
            "t": self.at[self.keys.starts(hour)],
            "h": self.at[self.keys.sums(hour)],
            "d": self.at[self.keys.sums(day)],
            "gone": int(over + times.retention_s),
            "he": int(over + times.rollups.hours_s) + HOUR_S,
            "de": int(over + times.rollups.days_s) + DAY_S,
        }


def _added(those: list[T], one: T) -> int:
    """Its number among those, as Lua counts."""
    those.append(one)
    return len(those)
