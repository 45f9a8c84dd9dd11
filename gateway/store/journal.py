"""The journal: what this process has booked or still has to, on the local disk, so that a Redis that is away or forgets loses nothing.

A settlement is written down here before it is sent and struck out when it is booked. Besides, the journal adds up what was
booked on each account (its *share*), which is what books that were lost are restored from when their records are gone too. One
file a process, append-only, locked while its process lives; whoever starts later takes over what dead ones have left. The
file begins anew, with sums for history, when it is large; the one before it is kept for its records.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from gateway.accounts import account_of
from gateway.store import Settlement, Spend
from gateway.store.keys import charged, names_of
from gateway.store.lost import LOST

log = logging.getLogger("gateway.store")

SUFFIX, BEFORE = ".journal", ".journal-before"
LARGE_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Share:
    """What one process has booked: nano-dollars by account (``scope/window``), and until when each account matters (0 = ever)."""

    name: str
    run: str = ""
    """The token of the books that have last confirmed something (``redis_recovery``)."""
    spent: dict[str, int] = field(default_factory=dict)
    until: dict[str, int] = field(default_factory=dict)

    def add(self, settlement: Settlement) -> None:
        """One more settlement is booked. What is lost is nobody's share: it is taken away when the call is settled in the end."""
        if settlement.outcome == LOST:
            return
        cost, spent = settlement.cost_nanousd, self.spent
        until = charged(settlement.accounts, settlement.started_at[:13])
        for name in until:
            spent[name] = spent.get(name, 0) + cost
        self.until.update(until)

    def forget(self, now: float) -> None:
        """Drop accounts whose windows are over."""
        for name in [name for name, until in self.until.items() if until and until < now]:
            del self.spent[name], self.until[name]


class Journal:
    """``open`` before use. ``unpaid`` holds what is not booked yet, in order; ``shares`` the own one first, then inherited ones."""

    def __init__(self, folder: Path, *, sync: bool, large_bytes: int = LARGE_BYTES) -> None:
        self._folder = folder
        self._sync = sync
        self._large_bytes = large_bytes
        self.unpaid: dict[str, Settlement] = {}
        self.own = Share(secrets.token_hex(8))
        self.uncertain: set[str] = set()
        """Unpaid ones that were sent and never answered: they may be in the books."""
        self.inherited: list[Share] = []
        self.slices: set[str] = set()
        """Names of slices that dead processes held (see ``slices``): what was used of them stands in their settlements."""
        self._file = -1
        self._bytes = 0

    @property
    def shares(self) -> list[Share]:
        """All that this process answers for."""
        return [self.own, *self.inherited]

    # -- life ---------------------------------------------------------------------------------------------------------

    def open(self, now: float) -> None:
        """Begin an own file, and take over what dead processes have left. OSError where the folder cannot be written."""
        self._folder.mkdir(0o700, parents=True, exist_ok=True)
        self._begin()
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if path != self._path():
                self._inherit(path, now)
        if self.inherited or self.unpaid or self.slices:
            self._rewrite()

    def close(self) -> None:
        """Leave the file to whoever comes next; one with nothing in it goes."""
        if self._file < 0:
            return
        empty = not self.unpaid and not any(share.spent for share in self.shares)
        if empty:
            with contextlib.suppress(OSError):
                self._path().unlink()
        os.close(self._file)
        self._file = -1

    def _path(self, suffix: str = SUFFIX) -> Path:
        return self._folder / f"{self.own.name}{suffix}"

    def _begin(self) -> None:
        self._file = _private(self._path(), os.O_RDWR | os.O_CREAT | os.O_APPEND)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._bytes = os.fstat(self._file).st_size

    def _inherit(self, path: Path, now: float) -> None:
        """The journal of a process that no longer runs: its lock is free. Its records stay readable as ours from before."""
        with contextlib.ExitStack() as stack:
            try:
                file = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                return
            stack.callback(os.close, file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            share, unpaid, others, slices = _read(path)
            self.slices.update(slices)
            for each in (share, *others):
                each.forget(now)
                if each.spent:
                    self.inherited.append(each)
            self.unpaid.update(unpaid)
            self.uncertain.update(unpaid)
            with open(self._path(BEFORE), "ab", opener=_private) as kept:
                for old in (path.with_suffix(BEFORE), path):
                    kept.writelines(_line(each, name) for name, each in _settlements(old) if each.call_id not in unpaid)
                    old.unlink(missing_ok=True)

    def share_of(self, settlement: Settlement) -> str:
        """The name of the share to which a settlement belongs that is booked here and now; "" for nobody's."""
        return "" if settlement.outcome == LOST else self.own.name

    # -- writing ------------------------------------------------------------------------------------------------------

    def owe(self, settlements: Sequence[Settlement]) -> None:
        """Written down before they are sent. OSError when the disk does not take it: they are kept in memory all the same."""
        for settlement in settlements:
            self.unpaid.setdefault(settlement.call_id, settlement)
        self._append(b"".join([_line(settlement, self.share_of(settlement)) for settlement in settlements]))

    def paid(self, booked: Sequence[str], run: str, elsewhere: Sequence[str] = (), again: Sequence[str] = ()) -> None:
        """These call ids are in the books: ``booked`` by this process, ``again`` for a second time, ``elsewhere`` by another one or
        not at all.
        """
        surely = [call_id for call_id in again if call_id not in self.uncertain]
        booked = [*booked, *(call_id for call_id in again if call_id in self.uncertain)]
        for call_id in booked:
            settlement = self.unpaid.pop(call_id, None)
            if settlement is not None:
                self.own.add(settlement)
        for call_id in (*elsewhere, *surely):
            self.unpaid.pop(call_id, None)
        self.uncertain.difference_update(booked, elsewhere)
        self.own.run = run
        self._append(b"P" + orjson.dumps([run, list(booked), list(elsewhere), surely]) + b"\n")
        if self._bytes > self._large_bytes:
            self._rewrite()

    def hold_slices(self, names: Sequence[str]) -> None:
        """These are held from now on, until the process ends."""
        self._append(b"L" + orjson.dumps(list(names)) + b"\n")

    def _append(self, text: bytes) -> None:
        if self._file < 0 or not text:
            return
        try:
            self._bytes += os.write(self._file, text)
            if self._sync:
                os.fsync(self._file)
        except OSError as error:
            log.error("the journal cannot be written, what is owed is kept in memory only: %s", error.strerror)

    def _rewrite(self) -> None:
        """Begin anew: sums of accounts that still matter, and what is still owed. The old file stays as the one before."""
        for share in self.shares:
            share.forget(time.time())
        fresh = self._folder / f"{self.own.name}.new"
        lines = [
            b"H" + orjson.dumps([share.name, share.run, share.spent, share.until]) + b"\n" for share in self.shares
        ]
        lines += [_line(settlement, self.share_of(settlement)) for settlement in self.unpaid.values()]
        lines.append(b"L" + orjson.dumps(list(self.slices)) + b"\n")
        with open(fresh, "wb", opener=_private) as file:
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        before = self._path(BEFORE)
        if self._bytes > self._large_bytes:
            self._path().replace(before)
        os.close(self._file)
        fresh.replace(self._path())
        self._begin()

    # -- reading ------------------------------------------------------------------------------------------------------

    def kept(self) -> Iterator[tuple[str, Settlement]]:
        """Settlements whose records are still at hand, oldest first, booked or not; each with the share that it belongs to."""
        for path in (self._path(BEFORE), self._path()):
            yield from _settlements(path)


def _private(path: str | Path, flags: int) -> int:
    """For its owner alone, where it is new: records have names of people in them."""
    return os.open(path, flags, 0o600)


def _line(settlement: Settlement, share: str) -> bytes:
    spend = settlement.spend
    head = [
        settlement.call_id,
        settlement.cost_nanousd,
        settlement.outcome,
        names_of(settlement.accounts),
        settlement.started_at,
        [spend.hour, spend.dims, spend.counts] if spend is not None else None,
        share,
    ]
    return b"S" + orjson.dumps(head) + b"\t" + settlement.record + b"\n"


def _settlement(line: bytes) -> tuple[str, Settlement]:
    """The share's name, and what was written down."""
    head, _, record = line[1:].rstrip(b"\n").partition(b"\t")
    call_id, cost, outcome, accounts, started_at, spend, share = orjson.loads(head)
    return share, Settlement(
        call_id,
        cost,
        outcome,
        tuple(account_of(text) for text in accounts),
        record,
        started_at,
        spend=Spend(spend[0], spend[1], tuple(spend[2])) if spend else None,
    )


def _settlements(path: Path) -> Iterator[tuple[str, Settlement]]:
    """Those of one file, without what another process has booked."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        elsewhere: dict[str, int] = {}
        for number, line in enumerate(file):
            if line.startswith(b"P") and line.endswith(b"\n"):
                with contextlib.suppress(ValueError):
                    elsewhere.update(dict.fromkeys(orjson.loads(line[1:])[2], number))
        file.seek(0)
        for number, line in enumerate(file):
            if line.startswith(b"S") and line.endswith(b"\n"):
                with contextlib.suppress(ValueError):
                    name, settlement = _settlement(line)
                    if elsewhere.get(settlement.call_id, -1) < number:
                        yield name, settlement


def _read(path: Path) -> tuple[Share, dict[str, Settlement], list[Share], set[str]]:
    """The own share, what is owed, the shares inherited, and slices, of a journal that may end in half a line."""
    own, others, slices = Share(path.name.removesuffix(SUFFIX)), [], set()
    owed: dict[str, Settlement] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if not line.endswith(b"\n"):
                break
            try:
                if line.startswith(b"S"):
                    _, settlement = _settlement(line)
                    owed.setdefault(settlement.call_id, settlement)
                elif line.startswith(b"P"):
                    own.run, booked, elsewhere, again = orjson.loads(line[1:])
                    for call_id in booked:
                        settlement_or_none = owed.pop(call_id, None)
                        if settlement_or_none is not None:
                            own.add(settlement_or_none)
                    for call_id in (*elsewhere, *again):
                        owed.pop(call_id, None)
                elif line.startswith(b"L"):
                    slices.update(orjson.loads(line[1:]))
                elif line.startswith(b"H"):
                    share = Share(*orjson.loads(line[1:]))
                    if share.name == path.name.removesuffix(SUFFIX):
                        own = share
                    else:
                        others.append(share)
            except (ValueError, TypeError) as error:
                log.error("line %d of a journal cannot be read and is left out: %s", number + 1, type(error).__name__)
    return own, owed, others, slices
