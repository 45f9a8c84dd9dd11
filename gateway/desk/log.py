"""The log of changes, as operators read it: never a key, and of a hash no more than its beginning."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

import orjson

from gateway.canonical import SHOWN_HEX, canonical, short_hash
from gateway.changes import Changed
from gateway.decided import CONFIG, Decided
from gateway.desk import Asked, Desk, change, now_text, place
from gateway.settings import Settings

Row = dict[str, Any]
SAME_S = 600.0
"""A file reaches all replicas within so much time, in Kubernetes within a minute or two."""
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
NEWEST = "newest"
"""The entry that says which config was taken over last."""


class LogDesk:
    """What was decided, by whom and why."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def rows(self, limit: int, cursor: str = "") -> tuple[list[Row], str | None]:
        """So many lines, the newest first, and the cursor of the next ones. A cursor that is not known is the end."""
        before = place(cursor, -1)
        if cursor and before <= 0:
            return [], None
        lines = await self._desk.store.changes(limit, before)
        return [_row(each) for each in lines], (str(lines[-1].revision) if len(lines) == limit else None)

    async def tell_reload(self, before: tuple[str, Settings], after: tuple[str, Settings]) -> None:
        """A config (version and settings) was taken over: a line, once, however many replicas do. Their configs may differ (ports, paths),
        but they change alike, and at about the same time.
        """
        changed = [
            each.name for each in fields(Settings) if getattr(before[1], each.name) != getattr(after[1], each.name)
        ]
        shown = canonical(after[1])
        mark = hashlib.sha256(orjson.dumps([(name, shown[name]) for name in changed])).hexdigest()[:SHOWN_HEX]
        body = {"version": after[0], "changed": changed, "mark": mark, "at": now_text(), "replaces": before[0]}
        asked = Asked("config")

        def make(decided: Decided) -> list[Any]:
            known = decided.config.get(NEWEST)
            if known is not None and known.body.get("mark") == mark and _is_recent(known.body["at"]):
                return []
            return [change(asked, "config.reload", CONFIG, NEWEST, body, known.version if known is not None else None)]

        await self._desk.decide(make)


def _is_recent(at: str) -> bool:
    return time.time() - datetime.fromisoformat(at).timestamp() < SAME_S


def _row(line: Changed) -> Row:
    return {
        "revision": line.revision,
        "at": line.at,
        "by": line.by,
        "action": line.action,
        "target": line.name,
        "before": _told(line.before),
        "after": _told(line.after),
        "reason": line.reason,
    }


def _told(body: bytes | None) -> Mapping[str, Any] | None:
    if body is None:
        return None
    text = _HASH.sub(lambda found: short_hash(found[0]), body.decode())
    told: Mapping[str, Any] = orjson.loads(text)
    return told
