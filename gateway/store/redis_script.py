"""One run of the script of the books in Redis: its keys and arguments.

What many steps of a run have alike stands in it once: the names of keys and accounts, what claims say beside their amounts, what
settlements charge and when. A step names it by its number. So a call costs little more than its own amounts, here and in Lua.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import orjson

from gateway.accounts import Account
from gateway.store.keys import ACCOUNT_KEPT_S, DAY_S, HOUR_S, Keys, charged, hour_begins
from gateway.store.rollups import Rollups
from gateway.value import value

K = TypeVar("K")
T = TypeVar("T")
Terms = tuple[Account, str, int | None, int | None, int, int, tuple[int, ...]]
"""What the script has to know of a claim, but for its amount: its account, budget, limit, shadow, what was forgiven, when its window is
over, and percents to tell of. By position: a call has ten of them.
"""


@value
class Times:
    """How long things are kept: records, in seconds, and sums."""

    retention_s: float
    rollups: Rollups = field(default_factory=Rollups)


class _Numbered(dict[K, int]):
    """The number of each that is asked for, as Lua counts; ``told`` is what the script is told of them, in that order."""

    def __init__(self, tell: Callable[[K], Any], told: Sequence[Any] = ()) -> None:
        super().__init__()
        self.told = list(told)
        self._tell = tell

    def __missing__(self, key: K) -> int:
        self.told.append(self._tell(key))
        number = self[key] = len(self.told)
        return number


class Script:
    """Steps put themselves into ``ops``; ``at`` numbers keys, ``terms`` those of claims."""

    def __init__(self, keys: Keys, times: Times) -> None:
        self.keys = keys
        self.ops: list[dict[str, Any]] = []
        self.texts: list[bytes] = []
        self.at: _Numbered[str] = _Numbered(str, keys.always)
        self.terms: _Numbered[Terms] = _Numbered(_told)
        self._times = times
        self._accounts: dict[str, int] = {}
        self._bills: dict[tuple[Any, ...], int] = {}
        self._told_bills: list[dict[str, Any]] = []
        self._hours: dict[str, int] = {}
        self._told_hours: list[dict[str, Any]] = []

    @property
    def names(self) -> list[str]:
        """KEYS, once ``arguments`` are made."""
        return self.at.told

    def know(self, accounts: Sequence[str]) -> None:
        """Makes accounts known by their own names; ``sums:HOUR``, ``starts:HOUR`` and ``limit:UNIT:SCOPE`` are no accounts and known
        the same way.
        """
        for account in accounts:
            if account not in self._accounts:
                kind, _, name = account.partition(":")
                make = {"sums": self.keys.sums, "starts": self.keys.starts, "limit": self.keys.limit}.get(kind)
                self._accounts[account] = self.at[make(name) if make is not None else self.keys.account(account)]

    def text(self, text: bytes) -> int:
        """The index of an argument."""
        self.texts.append(text)
        return len(self.texts) + 1

    def bill(self, accounts: tuple[Account, ...], limits: tuple[int, ...], hour: str, sums: str) -> int:
        """The number of what settlements have alike: the accounts, terms of the limits among them, the hour in which the call began, the
        one to whose sums it adds ("" = none).
        """
        key = (accounts, limits, hour, sums)
        number = self._bills.get(key)
        if number is None:
            ends = {name: ends for name, ends, _ in [self.terms.told[limit - 1] for limit in limits]}
            until = charged(accounts, hour)
            self.know(list(until))
            told = {
                "a": list(until),
                "e": [ends.get(account) or own for account, own in until.items()],
                "l": limits,
                "h": self._hour(hour),
            }
            self._told_bills.append(told | ({"s": self._hour(sums)} if sums else {}))
            number = self._bills[key] = len(self._told_bills)
        return number

    def hour(self, hour: str) -> dict[str, Any]:
        """What the script is told of an hour."""
        return self._told_hours[self._hour(hour) - 1]

    def _hour(self, hour: str) -> int:
        """Keys of what is kept by the hour, and when each may go: so long after the hour."""
        number = self._hours.get(hour)
        if number is None:
            day, over, times = hour[:10], hour_begins(hour) + HOUR_S, self._times
            self._told_hours.append(
                {
                    "hn": hour,
                    "dn": day,
                    "t": self.at[self.keys.starts(hour)],
                    "h": self.at[self.keys.sums(hour)],
                    "d": self.at[self.keys.sums(day)],
                    "gone": int(over + times.retention_s),
                    "he": int(over + times.rollups.hours_s) + HOUR_S,
                    "de": int(over + times.rollups.days_s) + DAY_S,
                }
            )
            number = self._hours[hour] = len(self._told_hours)
        return number

    def arguments(self, *, token: str, owner: str, acked: int, seq: int, force: bool) -> list[bytes]:
        """ARGV."""
        self.know([name for name, _, _ in self.terms.told])
        head = {
            "token": token,
            "owner": owner,
            "acked": acked,
            "seq": seq,
            "force": force,
            "a": self._accounts,
            "terms": [text for _, _, text in self.terms.told],
            "bills": self._told_bills,
            "hours": self._told_hours,
            "ops": self.ops,
        }
        return [orjson.dumps(head), *self.texts]


class _Told(NamedTuple):
    """Terms in the words of the script, beside what is needed of them here: the account, and when it may go."""

    account: str
    ends: int
    text: orjson.Fragment


@lru_cache(maxsize=4096)
def _told(terms: Terms) -> _Told:
    """The account may go some time after its window has ended (0 = never). ``of`` is the limit as it was stated, ``n`` what has to be
    spent for each threshold, ``h`` whether a refusal is the threshold of 100.
    """
    account, budget, limit, shadow, forgiven, resets_at, notify_at = terms
    name, ends = str(account), resets_at + ACCOUNT_KEPT_S if resets_at else 0
    stated = max(0, (limit if limit is not None else shadow or 0) - forgiven)
    told = {
        "c": name,
        "b": budget,
        "e": ends,
        "of": str(stated),
        "f": str(forgiven),
        "n": [[percent, str(forgiven - (-stated * percent // 100))] for percent in notify_at],
    }
    if limit is not None:
        told |= {"l": str(limit), "h": 100 in notify_at}
    return _Told(name, ends, orjson.Fragment(orjson.dumps(told)))
