"""Annotations: what happened when (a deployment, a migration), to be seen beside the curves that it explains."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gateway import given
from gateway.changes import Change, Denied
from gateway.decided import ANNOTATION, Decided
from gateway.desk import Asked, Desk, change, masked, new_id, now_text
from gateway.kinds import MOMENT, Kind, list_of

Row = dict[str, Any]
MAX_KEPT = 5000
"""More than a year of a dozen a day; the oldest goes when one more comes."""
TEXT = Kind("text", least=1, most=1000)
TAG = Kind("text", least=1, most=64)
TAGS = list_of(TAG, 0, 10)


class AnnotationDesk:
    """What can be done with annotations."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def rows(self, since: str = "", until: str = "") -> list[Row]:
        """Those that touch a span of time (RFC 3339), the latest first."""
        first, last = (_at(each) if each else None for each in (since, until))
        return await asyncio.to_thread(_touched, await self._desk.current(), first, last)

    async def add(self, asked: Asked, wanted: Mapping[str, Any]) -> Row:
        """One more; at this moment, unless it is said when."""
        body = _read(wanted) | {"by": asked.by}
        body |= {"text": masked(body["text"]), "tags": [masked(each) for each in body["tags"]]}
        name = new_id("a_")

        def make(decided: Decided) -> list[Change]:
            made = [change(asked, "annotation.add", ANNOTATION, name, body, None)]
            if len(decided.annotations) >= MAX_KEPT:
                oldest = min(decided.annotations, key=lambda each: _at(decided.annotations[each].body["at"]))
                version = decided.annotations[oldest].version
                made.append(change(asked, "annotation.remove", ANNOTATION, oldest, None, version))
            return made

        decided = await self._desk.decide(make)
        return _row(name, body, decided.annotations[name].version)

    async def remove(self, asked: Asked, name: str) -> Row:
        """Take one away; the row that it was."""
        gone: Row = {}

        def make(decided: Decided) -> list[Change]:
            found = decided.annotations.get(name)
            if found is None:
                raise Denied("absent", "there is no such annotation")
            asked.check(found.version)
            gone.update(_row(name, found.body, found.version))
            return [change(asked, "annotation.remove", ANNOTATION, name, None, found.version)]

        await self._desk.decide(make)
        return gone


def for_grafana(row: Mapping[str, Any]) -> Row:
    """As Grafana's sources for JSON read annotations: milliseconds since 1970."""
    until = row["until"]
    return {
        "time": round(_at(row["at"]) * 1000),
        "timeEnd": round(_at(until) * 1000) if until else None,
        "title": ", ".join(row["tags"]) or "annotation",
        "text": row["text"],
        "tags": row["tags"],
    }


def _read(wanted: Mapping[str, Any]) -> Row:
    problems: list[tuple[str, str]] = []
    body: Row = {"text": "", "at": now_text(), "until": None, "tags": []}
    for field, kind in (("text", TEXT), ("at", MOMENT), ("until", MOMENT), ("tags", TAGS)):
        if wanted.get(field) is None or (field in ("at", "until") and wanted[field] == ""):
            continue
        try:
            found = given.one(kind, wanted[field], field)
            body[field] = list(found) if field == "tags" else _moment(found) if kind is MOMENT else found
        except Denied as denied:
            problems += denied.problems
    if not body["text"] and not problems:
        problems.append(("text", "is missing"))
    if not problems and body["until"] and _at(body["until"]) < _at(body["at"]):
        problems.append(("until", "lies before at"))
    if problems:
        raise given.unfit(*problems)
    return body


def _touched(decided: Decided, first: float | None, last: float | None) -> list[Row]:
    rows = [_row(name, each.body, each.version) for name, each in decided.annotations.items()]
    found = [
        row
        for row in rows
        if (last is None or _at(row["at"]) < last) and (first is None or first <= _at(row["until"] or row["at"]))
    ]
    return sorted(found, key=lambda row: (_at(row["at"]), row["version"]), reverse=True)


def _row(name: str, body: Mapping[str, Any], version: int) -> Row:
    fields = {field: body.get(field) for field in ("at", "until", "text", "tags", "by")}
    return {"id": name, **fields, "version": version}


def _moment(unix_seconds: int) -> str:
    return f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
