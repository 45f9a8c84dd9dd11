"""The keys of the books in Redis: what each is called, what it holds, and how long it lives.

All of them share one hash tag, so that a step that touches several is atomic in a cluster too. With the prefix ``tollgate``:

==============================  =======  ==================================================================  ================
``{tollgate}:schema``           string   version of this layout                                              for ever
``{tollgate}:epoch``            hash     which life of the server the books belong to; how far each process  for ever
                                         has been heard
``{tollgate}:owners``           zset     process -> end of its lease (ms)                                    for ever
``{tollgate}:holds``            hash     call -> what it holds, on which accounts, whose it is                until settled
``{tollgate}:outbox``           hash     thresholds that were crossed and not told yet                       until told
``{tollgate}:a:SCOPE/WINDOW``   hash     ``s`` spent, ``h`` held, ``x`` of it without records, ``s:SHARE``    window's end
                                         booked by one process, ``n:`` thresholds that were crossed          + 35 days
``{tollgate}:r:HOUR``           hash     call -> its record (``r:=CALL`` where the id tells no time)          retention
``{tollgate}:t:HOUR``           zset     calls that began in that hour, by their start (ms)                  retention
``{tollgate}:c:CORRELATION``    zset     calls of one correlation id that is not a call's own                retention
``{tollgate}:w:PROVIDER:KEY``   string   the call that awaits what the provider calls by this name           retention
``{tollgate}:u:HOUR``, ``:DAY``  hash     dimensions -> sums of an hour, of a day                             spend_hours, _days
``{tollgate}:k:HOUR``           hash     how well targets were met: ``BUCKET:c:TARGET`` calls, ``:m:`` missed         9 days
``{tollgate}:l:UNIT:SCOPE``     string   how full a limit is: level and when (ms)                             until it is empty
``{tollgate}:hours``            zset     hours of which there are records -> when those go (s)               for ever
``{tollgate}:days``             zset     days of which there are sums -> when those go (s)                   for ever
``{tollgate}:entries``          hash     kind and name -> version and what operators decided at run time              for ever
``{tollgate}:versions``         zset     kind and name -> version                                            for ever
``{tollgate}:log``              zset     the changes of those, by their number                               100,000 of them
``{tollgate}:revision``         string   the number of the newest change                                     for ever
``{tollgate}:books``            hash     version -> price book                                               for ever
==============================  =======  ==================================================================  ================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

import orjson

from gateway.accounts import Account
from gateway.value import value

SCHEMA = 1
ACCOUNT_KEPT_S = 35 * 86_400
LONGEST_WINDOW_S = 32 * 86_400
HOUR_S, HOUR_MS, DAY_S = 3_600, 3_600_000, 86_400
YEARS_END_MS = 253_402_300_800_000
"""The end of the year 9999: no hour after it has a name."""
_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@value
class Keys:
    """The names under one prefix."""

    prefix: str

    @property
    def always(self) -> tuple[str, ...]:
        """Those that the script of the books gets with each run, in its order."""
        return (self.epoch, self.holds, self.owners, self.outbox, self.hours, self.days)

    @property
    def epoch(self) -> str:
        return self._of("epoch")

    @property
    def owners(self) -> str:
        return self._of("owners")

    @property
    def holds(self) -> str:
        return self._of("holds")

    @property
    def outbox(self) -> str:
        return self._of("outbox")

    @property
    def hours(self) -> str:
        return self._of("hours")

    @property
    def days(self) -> str:
        return self._of("days")

    @property
    def schema(self) -> str:
        return self._of("schema")

    @property
    def books(self) -> str:
        return self._of("books")

    @property
    def entries(self) -> str:
        return self._of("entries")

    @property
    def versions(self) -> str:
        return self._of("versions")

    @property
    def log(self) -> str:
        return self._of("log")

    @property
    def revision(self) -> str:
        return self._of("revision")

    def account(self, account: str) -> str:
        """``account`` is written ``scope/window``."""
        return self._of(f"a:{account}")

    def record(self, call_id: str) -> str:
        """Where the record of a call is: with those of its hour, which its id tells; else alone."""
        return self._of(f"r:{_place(call_id)}")

    def starts(self, hour: str) -> str:
        return self._of(f"t:{hour}")

    def correlated(self, correlation_id: str) -> str:
        return self._of(f"c:{correlation_id}")

    def awaited(self, provider: str, key: str) -> str:
        return self._of(f"w:{provider}:{key}")

    def sums(self, period: str) -> str:
        """``period`` is an hour or a day."""
        return self._of(f"u:{period}")

    def tallies(self, hour: str) -> str:
        return self._of(f"k:{hour}")

    def limit(self, name: str) -> str:
        """``name`` is UNIT:SCOPE."""
        return self._of(f"l:{name}")

    def _of(self, name: str) -> str:
        return f"{{{self.prefix}}}:{name}"


def hour_of(unix_s: float) -> str:
    """``2026-11-21T05``, UTC."""
    return _hour(int(unix_s // HOUR_S))


@lru_cache(maxsize=64)  # all calls are of the same few hours: 0.1 us instead of 4
def _hour(number: int) -> str:
    return datetime.fromtimestamp(number * HOUR_S, UTC).strftime("%Y-%m-%dT%H")


@lru_cache(maxsize=1024)  # asked when a call begins and when it ends: 8 thousand instructions each
def _place(call_id: str) -> str:
    found = _UUID7.fullmatch(call_id)
    at_ms = int(found[1] + found[2], 16) if found is not None else YEARS_END_MS
    return _hour(at_ms // HOUR_MS) if at_ms < YEARS_END_MS else f"={call_id}"


def unix_of(started_at: str) -> float:
    """Unix seconds of a moment as records write it."""
    return datetime.fromisoformat(started_at).timestamp()


@lru_cache(maxsize=64)
def hour_begins(hour: str) -> int:
    """Unix seconds of what ``hour_of`` names."""
    return int(unix_of(f"{hour}:00:00Z"))


@lru_cache(maxsize=4096)  # many calls are charged to the same accounts
def names_of(accounts: tuple[Account, ...]) -> orjson.Fragment:
    """The accounts of a call, each of them once, as a JSON array of their names."""
    return orjson.Fragment(orjson.dumps(list(dict.fromkeys(map(str, accounts)))))


@lru_cache(maxsize=4096)
def charged(accounts: tuple[Account, ...], hour: str) -> Mapping[str, int]:
    """The accounts of a call that began in this hour, each once, with the time from which it may go where nobody knows when its window
    ends; 0 = never.
    """
    until = hour_begins(hour) + HOUR_S + LONGEST_WINDOW_S + ACCOUNT_KEPT_S
    return {
        str(account): 0 if account.window.startswith("total") and "request:" not in account.scope else until
        for account in accounts
    }
