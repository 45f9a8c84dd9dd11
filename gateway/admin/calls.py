"""Finished calls: the list, one of them, those of one correlation id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from gateway.admin import schemas
from gateway.admin.answers import answer, problem
from gateway.admin.api import Sources, with_usd
from gateway.admin.questions import CURSOR, LIMIT, MAX_LIST, MOMENT, limit_of, moment
from gateway.admin.routes import VIEWER, Parameter, Route
from gateway.admin.shapes import Schema
from gateway.selection import EQUAL, LOOKED_AT_MOST, Selection
from pricing.money import format_usd

MAX_CHARS = 500
_STATUS = re.compile(r"([1-5])xx|[0-9]{1,3}")
_TEXT: Schema = {"type": "string", "maxLength": MAX_CHARS}
_SAYS = {
    "correlation_id": "Of one request of a user's.",
    "outcome": "How they ended: completed, refused, upstream_error, ...",
}
QUERY = (
    LIMIT,
    CURSOR,
    Parameter("before", "An older name of `cursor`, which goes before it.", _TEXT),
    *(Parameter(name, _SAYS.get(name, f"With this `{name}`; empty = without any."), _TEXT) for name in EQUAL),
    Parameter("model", "With this model, asked for or served.", _TEXT),
    Parameter(
        "status",
        "What the client was answered: 429, or 4xx for all of a kind.",
        {"type": "string", "pattern": "^([1-5]xx|[0-9]{1,3})$", "description": "must be a status such as 429, or 4xx"},
    ),
    Parameter("since", "That began at this moment or later: a day (UTC), or a time.", MOMENT),
    Parameter("until", "That began before this moment.", MOMENT),
)


class Calls:
    """One method a route."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def routes(self) -> list[Route]:
        """What is served where."""
        says = f"Finished calls, newest first. Of {LOOKED_AT_MOST:,} at a time those that are wanted: go on while there is a `next`."
        return [
            Route("GET", "/api/v1/calls", VIEWER, self.calls, says, QUERY, answers={200: schemas.CALLS}),
            Route("GET", "/api/v1/calls/{call_id}", VIEWER, self.call, "One call.", answers={200: schemas.CALL}),
            Route(
                "GET",
                "/api/v1/requests/{correlation_id}",
                VIEWER,
                self.request,
                "The calls of one correlation id.",
                answers={200: schemas.REQUEST},
            ),
        ]

    async def calls(self, request: web.Request) -> web.Response:
        """Finished calls, newest first; ``next`` is the cursor of the next page, which there may be after a short one too."""
        query = request.query
        page = await self._sources.page(
            _selection(query), limit_of(query), query.get("cursor", "") or query.get("before", "")
        )
        return answer({"calls": [with_usd(record) for record in page.records], "next": page.following})

    async def call(self, request: web.Request) -> web.Response:
        """One call; one that is not settled yet says so."""
        call_id = request.match_info["call_id"]
        active = await self._sources.is_active(call_id)  # asked first: it may end while its record is looked for
        record = await self._sources.find(call_id)
        if record is not None:
            return answer({"state": "finished", **with_usd(record)})
        if active:
            return answer({"state": "in_flight", "call_id": call_id})
        return problem(404, "there is no such call")

    async def request(self, request: web.Request) -> web.Response:
        """The calls of one correlation id (of very many, the newest), and the sums of all of them; ``duration_ms`` is from the
        first one's start to the last one's end.
        """
        correlation_id = request.match_info["correlation_id"]
        newest = page = await self._sources.recent(MAX_LIST, "", correlation_id)
        if not newest:
            return problem(404, "there are no calls with this correlation id")
        cost, count, errors, models = 0, 0, 0, set()
        began = ended = _start_ms(newest[0])
        while page:
            cost += sum(record["cost_nanousd"] for record in page)
            count += len(page)
            errors += sum(bool(record["error_type"]) for record in page)
            began = min(began, *map(_start_ms, page))
            ended = max(ended, *(_start_ms(record) + record["latency_ms"] for record in page))
            models |= {record["model_requested"] for record in page if record["model_requested"]}
            full = len(page) == MAX_LIST
            page = await self._sources.recent(MAX_LIST, page[-1]["call_id"], correlation_id) if full else []
        return answer(
            {
                "correlation_id": correlation_id,
                "calls": [with_usd(record) for record in reversed(newest)],
                "count": count,
                "errors": errors,
                "duration_ms": round(ended - began, 3),
                "cost_nanousd": cost,
                "cost_usd": format_usd(cost),
                "models": sorted(models),
            }
        )


def _selection(query: Mapping[str, str]) -> Selection:
    """What is wanted. A text that is empty is wanted to be empty, but for the correlation id, which never is."""
    return Selection(
        **{name: query[name] for name in EQUAL if name in query and (query[name] or name != "correlation_id")},
        model=query.get("model"),
        status=_status(query.get("status", "")),
        since=moment(query, "since"),
        until=moment(query, "until"),
    )


def _status(text: str) -> tuple[int, int] | None:
    """``4xx`` or ``429`` as the least and the most; checked before."""
    found = _STATUS.fullmatch(text)
    if found is None:
        return None
    least = int(found[1]) * 100 if found[1] else int(text)
    return least, least + 99 if found[1] else least


def _start_ms(record: dict[str, Any]) -> float:
    return datetime.fromisoformat(record["started_at"]).timestamp() * 1000
