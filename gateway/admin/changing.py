"""What operators change while the gateway runs: keys, budgets, annotations, and the log of it all.

Each change is held against its schema, then handed to ``Decisions``, which is the same for the command line. A change can be meant for
one version of a thing (If-Match); it is answered with the thing as it is now, and its version as ETag.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from aiohttp import web

from gateway.admin.answers import Refused, answer
from gateway.admin.bodies import body_of, etag_of, expect_version
from gateway.admin.routes import OPERATOR, VIEWER, Handler, Parameter, Route, who
from gateway.admin.shapes import Fault, Schema
from gateway.changes import Asked, Denied

MAX_LIST = 500
DEFAULT_LIST = 50
STATUS = {"absent": 404, "conflict": 409, "unfit": 422}
Row = Mapping[str, Any]
Wanted = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decisions:
    """Who carries it out. All raise Denied, and Failure while the store cannot be asked."""

    mode: Callable[[], str]
    """``auth.mode``."""
    keys: Callable[[str], Awaitable[Sequence[Row]]]
    """Gets what to search for."""
    create_key: Callable[[Asked, Wanted], Awaitable[Row]]
    rotate_key: Callable[[Asked, str, Wanted], Awaitable[Row]]
    revoke_key: Callable[[Asked, str], Awaitable[Row]]
    set_budget: Callable[[Asked, str, Wanted], Awaitable[tuple[Row, bool]]]
    """The row, and whether it is new."""
    unset_budget: Callable[[Asked, str], Awaitable[Row | None]]
    reset_budget: Callable[[Asked, str, str], Awaitable[Row]]
    annotations: Callable[[str, str], Awaitable[Sequence[Row]]]
    """Gets since and until."""
    for_grafana: Callable[[Row], Row]
    annotate: Callable[[Asked, Wanted], Awaitable[Row]]
    remove_annotation: Callable[[Asked, str], Awaitable[Row]]
    changes: Callable[[int, str], Awaitable[tuple[Sequence[Row], str | None]]]
    page: Callable[[Sequence[Row], int, str], tuple[Sequence[Row], str | None]]


TEXT: Schema = {"type": ["string", "null"]}
TEXTS: Schema = {"type": ["array", "null"], "items": {"type": "string"}}
REASON: Schema = {"type": "string", "maxLength": 500, "description": "Why; it stands in the log of changes."}
MONEY: Schema = {"type": ["string", "number"], "description": "Dollars, as a decimal number or its text."}


def _body(properties: Mapping[str, Schema], required: Sequence[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": {**properties, "reason": REASON},
        "required": list(required),
        "additionalProperties": False,
    }


BUDGET = {
    "scope": TEXT,
    "limit_usd": MONEY,
    "window": TEXT,
    "mode": TEXT,
    "timezone": TEXT,
    "week_start": TEXT,
    "notify_at": {"type": ["array", "null"], "items": {"type": "integer"}},
    "on_exhausted": TEXT,
    "lost": TEXT,
}
NEW_KEY = _body(
    {
        "name": {"type": "string"},
        "team": TEXT,
        "user": TEXT,
        "models": TEXTS,
        "upstreams": TEXTS,
        "cidr": TEXTS,
        "expires": {**TEXT, "description": "A day, a time, or so long from now: 90d."},
        "budget": {
            "type": ["object", "null"],
            "properties": {name: each for name, each in BUDGET.items() if name != "scope"},
            "required": ["limit_usd"],
            "additionalProperties": False,
        },
    },
    ["name"],
)
ROTATE = _body({"overlap": {**TEXT, "description": "How long the old key is good still: 24h."}, "expires": TEXT})
SET_BUDGET = _body(BUDGET)
RESET = _body({"scope": {**TEXT, "description": "Which account of a budget that is one for each: team:search."}})
ANNOTATION = _body({"text": {"type": "string"}, "at": TEXT, "until": TEXT, "tags": TEXTS}, ["text"])
NOTHING = _body({})
LIMIT = Parameter(
    "limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": MAX_LIST, "default": DEFAULT_LIST}
)
CURSOR = Parameter("cursor", "What the page before said is next.")
SEARCH = Parameter("search", "A part of what is looked for.")
WHY = Parameter("reason", "Why; it stands in the log of changes.")
SINCE = Parameter("since", "A day (UTC) or a time.")
UNTIL = Parameter("until", "A day (UTC) or a time.")


class Changing:
    """One method a route."""

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions

    def routes(self) -> list[Route]:
        """What is served where."""
        return [
            Route("GET", "/api/v1/keys", VIEWER, _told(self.keys), "Gateway keys.", (LIMIT, CURSOR, SEARCH)),
            _change("POST", "/api/v1/keys", self.create_key, "Make a gateway key; it is shown this once.", NEW_KEY),
            _change("POST", "/api/v1/keys/{id}/rotate", self.rotate_key, "Replace a key, with an overlap.", ROTATE),
            _change("DELETE", "/api/v1/keys/{id}", self.revoke_key, "Revoke a key.", NOTHING, (WHY,)),
            _change("PUT", "/api/v1/budgets/{name}", self.set_budget, "Make or change a budget.", SET_BUDGET),
            _change("DELETE", "/api/v1/budgets/{name}", self.unset_budget, "Take a budget away.", NOTHING, (WHY,)),
            _change("POST", "/api/v1/budgets/{name}/reset", self.reset_budget, "Forgive what was spent.", RESET),
            Route(
                *("GET", "/api/v1/annotations", VIEWER, _told(self.annotations), "What happened when."),
                (SINCE, UNTIL, LIMIT, CURSOR),
            ),
            _change("POST", "/api/v1/annotations", self.annotate, "Say what happened.", ANNOTATION),
            _change("DELETE", "/api/v1/annotations/{id}", self.remove_annotation, "Take it back.", NOTHING, (WHY,)),
            Route("GET", "/api/v1/changes", VIEWER, _told(self.changes), "The log of changes.", (LIMIT, CURSOR)),
            Route(
                *("GET", "/grafana/annotations", VIEWER, _told(self.grafana), "Annotations, for Grafana."),
                (SINCE, UNTIL),
            ),
        ]

    # -- keys ---------------------------------------------------------------------------------------------------------

    async def keys(self, request: web.Request) -> web.Response:
        """The config's keys, then those that were made at run time, newest first."""
        rows = await self._decisions.keys(request.query.get("search", ""))
        some, following = self._decisions.page(rows, _limit(request), request.query.get("cursor", ""))
        return answer({"keys": some, "next": following, "mode": self._decisions.mode()})

    async def create_key(self, request: web.Request) -> web.Response:
        """The one answer that holds the key itself."""
        wanted, asked = await _asked(request, NEW_KEY)
        return _one(await self._decisions.create_key(asked, wanted), 201)

    async def rotate_key(self, request: web.Request) -> web.Response:
        """A new key in the place of another, which is good for a while still."""
        wanted, asked = await _asked(request, ROTATE)
        return _one(await self._decisions.rotate_key(asked, request.match_info["id"], wanted), 201)

    async def revoke_key(self, request: web.Request) -> web.Response:
        """From now on it is refused, on all replicas within a second."""
        _, asked = await _asked(request, NOTHING)
        return _one(await self._decisions.revoke_key(asked, request.match_info["id"]))

    # -- budgets ------------------------------------------------------------------------------------------------------

    async def set_budget(self, request: web.Request) -> web.Response:
        """What is sent of it changes; one of the config is copied first."""
        wanted, asked = await _asked(request, SET_BUDGET)
        row, is_new = await self._decisions.set_budget(asked, request.match_info["name"], wanted)
        return _one(row, 201 if is_new else 200)

    async def unset_budget(self, request: web.Request) -> web.Response:
        """The config's budget of that name, if there is one, holds again."""
        _, asked = await _asked(request, NOTHING)
        name = request.match_info["name"]
        row = await self._decisions.unset_budget(asked, name)
        return _one(row if row is not None else {"budget": name, "source": None})

    async def reset_budget(self, request: web.Request) -> web.Response:
        """What was spent so far does not count any more in the running window."""
        wanted, asked = await _asked(request, RESET)
        return _one(await self._decisions.reset_budget(asked, request.match_info["name"], wanted.get("scope") or ""))

    # -- annotations and the log --------------------------------------------------------------------------------------

    async def annotations(self, request: web.Request) -> web.Response:
        """The latest first."""
        rows = await self._decisions.annotations(request.query.get("since", ""), request.query.get("until", ""))
        some, following = self._decisions.page(rows, _limit(request), request.query.get("cursor", ""))
        return answer({"annotations": some, "next": following})

    async def annotate(self, request: web.Request) -> web.Response:
        """At this moment, unless it is said when."""
        wanted, asked = await _asked(request, ANNOTATION)
        return _one(await self._decisions.annotate(asked, wanted), 201)

    async def remove_annotation(self, request: web.Request) -> web.Response:
        """The log keeps it."""
        _, asked = await _asked(request, NOTHING)
        return _one(await self._decisions.remove_annotation(asked, request.match_info["id"]))

    async def grafana(self, request: web.Request) -> web.Response:
        """A bare list, as Grafana's sources for JSON read it."""
        rows = await self._decisions.annotations(request.query.get("since", ""), request.query.get("until", ""))
        return answer([self._decisions.for_grafana(row) for row in rows[:MAX_LIST]])

    async def changes(self, request: web.Request) -> web.Response:
        """Newest first, with what was before and after."""
        rows, following = await self._decisions.changes(_limit(request), request.query.get("cursor", ""))
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
            raise Refused(STATUS[denied.why], message, problems) from None

    return tell


def _change(
    method: str, path: str, handler: Handler, says: str, body: Schema, query: tuple[Parameter, ...] = ()
) -> Route:
    return Route(method, path, OPERATOR, _told(handler), says, query, body)


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


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(DEFAULT_LIST))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIST):
        raise Refused(400, f"limit must be from 1 to {MAX_LIST}")
    return int(text)
