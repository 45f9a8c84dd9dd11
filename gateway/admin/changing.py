"""What operators change while the gateway runs: keys, budgets, annotations, and the log of it all.

Each change is held against its schema, then handed to ``Decisions``, which is the same for the command line. A change can be meant for
one version of a thing (If-Match); it is answered with the thing as it is now, and its version as ETag.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import Any

from aiohttp import web

from gateway.admin import decisions as of
from gateway.admin.answers import Refused, answer
from gateway.admin.bodies import body_of, etag_of, expect_version
from gateway.admin.decisions import Decisions, Row
from gateway.admin.questions import CURSOR, LIMIT, MAX_LIST, MOMENT, limit_of, moment
from gateway.admin.routes import OPERATOR, VIEWER, Handler, Parameter, Route, who
from gateway.admin.schemas import REASON
from gateway.admin.shapes import Fault, Schema
from gateway.changes import Asked, Denied

STATUS = {"absent": 404, "conflict": 409, "unfit": 422}
SEARCH = Parameter("search", "A part of what is looked for.", {"type": "string", "maxLength": 200})
WHY = Parameter("reason", "Why; it stands in the log of changes.", REASON)
SINCE = Parameter("since", "That touch this moment or a later one: a day (UTC), or a time.", MOMENT)
UNTIL = Parameter("until", "That began before this moment.", MOMENT)


class Changing:
    """One method a route."""

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions

    def routes(self) -> list[Route]:
        """What is served where."""
        return [
            _look("/api/v1/keys", self.keys, "Gateway keys.", of.KEYS, LIMIT, CURSOR, SEARCH),
            _change("POST", "/api/v1/keys", self.create_key, "Make a gateway key.", of.NEW_KEY, {201: of.MADE_KEY}),
            _change(
                *("POST", "/api/v1/keys/{id}/rotate", self.rotate_key, "Replace a key, with an overlap."),
                *(of.ROTATE, {201: of.MADE_KEY}),
            ),
            _change("DELETE", "/api/v1/keys/{id}", self.revoke_key, "Revoke a key.", of.NOTHING, {200: of.KEY}, WHY),
            _change(
                *("PUT", "/api/v1/budgets/{name}", self.set_budget, "Make a budget, or change one."),
                *(of.SET_BUDGET, {200: of.BUDGET_DEFINITION, 201: of.BUDGET_DEFINITION}),
            ),
            _change(
                *("DELETE", "/api/v1/budgets/{name}", self.unset_budget, "Take back what was decided of a budget."),
                *(of.NOTHING, {200: of.UNSET_BUDGET}, WHY),
            ),
            _change(
                *("POST", "/api/v1/budgets/{name}/reset", self.reset_budget, "Forgive what was spent so far."),
                *(of.RESET, {200: of.BUDGET_DEFINITION}),
            ),
            _look(
                *("/api/v1/annotations", self.annotations, "What happened when, the latest first.", of.ANNOTATIONS),
                *(SINCE, UNTIL, LIMIT, CURSOR),
            ),
            _change(
                *("POST", "/api/v1/annotations", self.annotate, "Say what happened."),
                *(of.ANNOTATION, {201: of.ANNOTATION_ROW}),
            ),
            _change(
                *("DELETE", "/api/v1/annotations/{id}", self.remove_annotation, "Take an annotation away."),
                *(of.NOTHING, {200: of.ANNOTATION_ROW}, WHY),
            ),
            _look("/api/v1/changes", self.changes, "What operators changed, newest first.", of.CHANGES, LIMIT, CURSOR),
            _look("/grafana/annotations", self.grafana, "Annotations, for Grafana.", of.FOR_GRAFANA, SINCE, UNTIL),
        ]

    # -- keys ---------------------------------------------------------------------------------------------------------

    async def keys(self, request: web.Request) -> web.Response:
        """The config's keys, then those that were made at run time, newest first."""
        rows = await self._decisions.keys(request.query.get("search", ""))
        some, following = self._decisions.page(rows, limit_of(request.query), request.query.get("cursor", ""))
        return answer({"keys": some, "next": following, "mode": self._decisions.mode()})

    async def create_key(self, request: web.Request) -> web.Response:
        """The one answer that holds the key itself."""
        wanted, asked = await _asked(request, of.NEW_KEY)
        return _one(await self._decisions.create_key(asked, wanted), 201)

    async def rotate_key(self, request: web.Request) -> web.Response:
        """A new key in the place of another, which is good for a while still."""
        wanted, asked = await _asked(request, of.ROTATE)
        return _one(await self._decisions.rotate_key(asked, request.match_info["id"], wanted), 201)

    async def revoke_key(self, request: web.Request) -> web.Response:
        """From now on it is refused, on all replicas within a second."""
        _, asked = await _asked(request, of.NOTHING)
        return _one(await self._decisions.revoke_key(asked, request.match_info["id"]))

    # -- budgets ------------------------------------------------------------------------------------------------------

    async def set_budget(self, request: web.Request) -> web.Response:
        """What is sent of it changes; one of the config is copied first."""
        wanted, asked = await _asked(request, of.SET_BUDGET)
        row, is_new = await self._decisions.set_budget(asked, request.match_info["name"], wanted)
        return _one(row, 201 if is_new else 200)

    async def unset_budget(self, request: web.Request) -> web.Response:
        """The config's budget of that name, if there is one, holds again."""
        _, asked = await _asked(request, of.NOTHING)
        name = request.match_info["name"]
        row = await self._decisions.unset_budget(asked, name)
        return _one(row if row is not None else {"budget": name, "source": None})

    async def reset_budget(self, request: web.Request) -> web.Response:
        """What was spent so far does not count any more in the running window."""
        wanted, asked = await _asked(request, of.RESET)
        return _one(await self._decisions.reset_budget(asked, request.match_info["name"], wanted.get("scope") or ""))

    # -- annotations and the log --------------------------------------------------------------------------------------

    async def annotations(self, request: web.Request) -> web.Response:
        """The latest first."""
        rows = await self._decisions.annotations(moment(request.query, "since"), moment(request.query, "until"))
        some, following = self._decisions.page(rows, limit_of(request.query), request.query.get("cursor", ""))
        return answer({"annotations": some, "next": following})

    async def annotate(self, request: web.Request) -> web.Response:
        """At this moment, unless it is said when."""
        wanted, asked = await _asked(request, of.ANNOTATION)
        return _one(await self._decisions.annotate(asked, wanted), 201)

    async def remove_annotation(self, request: web.Request) -> web.Response:
        """The log keeps it."""
        _, asked = await _asked(request, of.NOTHING)
        return _one(await self._decisions.remove_annotation(asked, request.match_info["id"]))

    async def grafana(self, request: web.Request) -> web.Response:
        """A bare list, as Grafana's sources for JSON read it."""
        rows = await self._decisions.annotations(moment(request.query, "since"), moment(request.query, "until"))
        return answer([self._decisions.for_grafana(row) for row in rows[:MAX_LIST]])

    async def changes(self, request: web.Request) -> web.Response:
        """Newest first, with what was before and after."""
        rows, following = await self._decisions.changes(limit_of(request.query), request.query.get("cursor", ""))
        return answer({"changes": rows, "next": following})


def _told(handler: Handler) -> Handler:
    """With what was denied as an answer."""

    @wraps(handler)
    async def tell(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Denied as denied:
            problems = [Fault(field, message) for field, message in denied.problems]
            message = "the body is not right" if problems else denied.message
            status = 400 if request.method == "GET" else STATUS[denied.why]
            raise Refused(status, message, problems) from None

    return tell


def _look(path: str, handler: Handler, says: str, shape: Schema, *query: Parameter) -> Route:
    return Route("GET", path, VIEWER, _told(handler), says, query, answers={200: shape})


def _change(
    method: str,
    path: str,
    handler: Handler,
    says: str,
    body: Schema,
    answers: Mapping[int, Schema],
    *query: Parameter,
) -> Route:
    return Route(method, path, OPERATOR, _told(handler), says, query, body, answers)


async def _asked(request: web.Request, schema: Schema) -> tuple[dict[str, Any], Asked]:
    """The body without its reason, and who asks for it."""
    body = await body_of(request, schema)
    reason = body.pop("reason", "") or request.query.get("reason", "")
    return body, Asked(who(request).name, reason, lambda version: expect_version(request, version))


def _one(row: Row, status: int = 200) -> web.Response:
    response = answer(row, status)
    if row.get("version") is not None:
        response.headers["ETag"] = etag_of(row["version"])
    return response
