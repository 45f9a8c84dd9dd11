"""What operators decide while the gateway runs, as Redis keeps it: entries, their versions, and the log of their changes.

Redis may forget (flushed, restarted without its data, a replica that lagged). Each process remembers what it has seen of the entries
and puts it back when the server's revision is behind its own: a key that was revoked stays revoked, a budget that was lowered stays
low. What the server has of an entry is older if it was seen before what is remembered now, else it was decided since. The log of
changes has no second copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import orjson

from gateway.changes import Change, Changed, Conflict, Entry

if TYPE_CHECKING:
    from gateway.store.keys import Keys
    from gateway.store.redis_link import Link

LOG_LINES = 100_000
_BETWEEN = "\0"
"""Between kind and name: no name has it."""


class Entries:
    """The entries of one store, and what this process has seen of them."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._source = (resources.files("gateway.store") / "redis_entries.lua").read_text()
        self._seen: dict[str, tuple[Entry, int]] = {}
        """With the microsecond of its change."""
        self._revision = 0

    async def change(self, changes: Sequence[Change]) -> list[Entry] | Conflict:
        """All of them or none."""
        arguments: list[bytes | str | int] = ["change", LOG_LINES]
        for each in changes:
            expected = "" if each.expected is None else each.expected
            told = orjson.dumps((each.at, each.by, each.action, each.kind, each.name, each.reason))
            arguments += [_field(each.kind, each.name), expected, each.body or b"", each.before or b"", told]
        answer = await self._run(arguments)
        if answer[0] < 0:
            kind, _, name = answer[1].decode().partition(_BETWEEN)
            return Conflict(kind, name, answer[2])
        first = answer[0] - len(changes) + 1
        made = [Entry(each.kind, each.name, first + number, each.body) for number, each in enumerate(changes)]
        self._remember(made, [answer[1]] * len(made))  # but not the revision: others' changes before have not been seen
        return made

    async def revision(self) -> int:
        """The revision of the newest change; 0 before the first one. What the server forgot is put back first."""
        found = int(await self._link.commands.get(self._keys.revision) or 0)
        return found if found >= self._revision else await self._restore()

    async def since(self, version: int) -> list[Entry]:
        """Entries that changed after a revision, in that order; those that were taken away too."""
        answer = await self._run(["since", version])
        names, texts = [name.decode() for name in answer[::2]], answer[1::2]
        found = [_entry(name, text) for name, text in zip(names, texts, strict=True)]
        self._remember(found, map(_stamp, texts))
        self._revision = max([self._revision, *(entry.version for entry in found)])
        return found

    async def log(self, limit: int, before: int) -> list[Changed]:
        """The newest changes before a revision (0: of all), newest first."""
        last = f"({before}" if before else "+inf"
        lines = await self._link.commands.zrevrangebyscore(self._keys.log, last, "-inf", start=0, num=limit)
        return [_line(line) for line in lines]

    async def _restore(self) -> int:
        arguments: list[bytes | str | int] = ["restore", self._revision]
        for name, (entry, stamp) in self._seen.items():
            arguments += [name, entry.version, stamp, entry.body or b""]
        answer = await self._run(arguments)
        return int(answer[0])

    async def _run(self, arguments: Sequence[bytes | str | int]) -> list[Any]:
        keys = (self._keys.entries, self._keys.versions, self._keys.log, self._keys.revision)
        answer: list[Any] = await self._link.commands.eval(self._source, len(keys), *keys, *arguments)
        return answer

    def _remember(self, entries: Sequence[Entry], stamps: Iterable[int]) -> None:
        for entry, stamp in zip(entries, stamps, strict=True):
            self._seen[_field(entry.kind, entry.name)] = (entry, stamp)


def _field(kind: str, name: str) -> str:
    return f"{kind}{_BETWEEN}{name}"


def _entry(field: str, text: bytes) -> Entry:
    kind, _, name = field.partition(_BETWEEN)
    head, _, body = text.partition(b"\n")
    return Entry(kind, name, int(head.split()[0]), body or None)


def _stamp(text: bytes) -> int:
    head = text.partition(b"\n")[0].split()
    return int(head[1]) if len(head) > 1 else 0


def _line(text: bytes) -> Changed:
    revision, told, length, bodies = text.split(b"\n", 3)
    at, by, action, kind, name, reason = orjson.loads(told)
    before, after = bodies[: int(length)], bodies[int(length) :]
    return Changed(int(revision), at, by, action, kind, name, before or None, after or None, reason)
