"""What the live page shows: spend beside the period before, how it goes now, percentiles, budgets, and the stream of events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from typing import Any

from aiohttp import web

from gateway.admin.answers import answer, problem
from gateway.admin.questions import CURSOR, LIMIT, MAX_LIST, limit_of
from gateway.admin.routes import VIEWER, Parameter, Route, is_still_let_in
from gateway.admin.schemas import listed, or_null
from gateway.admin.shapes import Schema
from gateway.value import value

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
MOMENT: Schema = {"type": "string", "format": "date-time"}
MAX_SEARCH = 200
DEFAULT_ROWS = 20


def _object(fields: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(fields), "required": list(fields)}


COUNTS: Mapping[str, Schema] = {
    **dict.fromkeys(
        ("calls", "failed", "refused", "input", "cached_input", "output", "cost_nanousd", "estimated", "unpriced"),
        WHOLE,
    ),
    "cost_usd": TEXT,
}
OVERVIEW = _object(
    {
        "as_of": MOMENT,
        "period": TEXT,
        "since": MOMENT,
        "until": MOMENT,
        "previous_since": MOMENT,
        "previous_until": MOMENT,
        "by": TEXT,
        "totals": _object(COUNTS),
        "previous": _object(COUNTS),
        "rows": listed(
            _object(
                {
                    "value": or_null(TEXT),
                    **COUNTS,
                    "previous_cost_nanousd": WHOLE,
                    "previous_cost_usd": TEXT,
                    "previous_calls": WHOLE,
                }
            )
        ),
        "others": or_null(_object({"values": WHOLE, **COUNTS})),
        "series": listed(
            _object(
                {
                    "at": MOMENT,
                    **{name: COUNTS[name] for name in ("calls", "failed", "refused", "cost_nanousd", "cost_usd")},
                }
            )
        ),
        "dimensions": listed(TEXT),
    }
)
NOW = _object(
    {
        "at": MOMENT,
        "in_flight": WHOLE,
        "calls_per_s": NUMBER,
        "cost_per_minute_nanousd": WHOLE,
        "cost_per_minute_usd": TEXT,
        **dict.fromkeys(("ttft_p50_ms", "ttft_p95_ms", "latency_p50_ms", "latency_p95_ms"), or_null(NUMBER)),
        "errors_per_minute": WHOLE,
        "refused_per_minute": WHOLE,
        "estimated_share": NUMBER,
        "unpriced_share": NUMBER,
        "queue_depth": WHOLE,
        "owed_settlements": WHOLE,
        "config_version": TEXT,
        "revision": WHOLE,
        "status": {"type": "string", "enum": ["ok", "failed", "draining"]},
    }
)
PERCENTILES = or_null(_object(dict.fromkeys(("p50", "p90", "p95", "p99"), NUMBER)))
DURATIONS = _object({"value": or_null(TEXT), "calls": WHOLE, "latency_ms": PERCENTILES, "ttft_ms": PERCENTILES})
LATENCY = _object({"as_of": MOMENT, "window": TEXT, "by": TEXT, "rows": listed(DURATIONS), "all": DURATIONS})
BUDGET = _object(
    {
        **dict.fromkeys(
            ("budget", "budget_scope", "scope", "window", "window_id", "mode", "timezone", "week_start"), TEXT
        ),
        **dict.fromkeys(
            ("limit_nanousd", "spent_nanousd", "held_nanousd", "remaining_nanousd", "forgiven_nanousd"), WHOLE
        ),
        **dict.fromkeys(("limit_usd", "spent_usd", "held_usd", "remaining_usd", "forgiven_usd"), TEXT),
        "used_ratio": NUMBER,
        "exhausts_at": or_null(MOMENT),
        "resets_at": or_null(MOMENT),
        "source": {"type": "string", "enum": ["config", "runtime"]},
        "version": or_null(WHOLE),
        **dict.fromkeys(("reason", "changed_by"), or_null(TEXT)),
        "changed_at": or_null(MOMENT),
    }
)
BUDGETS = _object({"budgets": listed(BUDGET), "next": or_null(TEXT)})


def _one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values), "default": values[0]}


SEARCH = Parameter(
    "search", "Only those that hold this text, whatever the case.", {"type": "string", "maxLength": MAX_SEARCH}
)


@value
class Figures:
    """Where the answers come from."""

    overview: Callable[[str, str, int, str], Awaitable[dict[str, Any]]]
    """(period, by, limit, search); Failure for what cannot be asked."""
    periods: Collection[str]
    dimensions: Collection[str]
    """What spend can be told apart by."""
    now: Callable[[], Awaitable[dict[str, Any]]]
    latency: Callable[[str, str], Awaitable[dict[str, Any]]]
    """(window, by)."""
    windows: Collection[str]
    latency_by: Collection[str]
    budgets: Callable[[int, str, str, str], Awaitable[dict[str, Any]]]
    """(limit, cursor, search, sort); Failure for a cursor that is none."""
    is_full: Callable[[], bool]
    """Whether no more listeners are taken."""
    listen: Callable[[], AsyncGenerator[bytes]]


class Overview:
    """One method a route."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def routes(self) -> list[Route]:
        """What is served where."""
        figures = self._figures
        periods, windows, latency_by = (
            _one_of(*figures.periods),
            _one_of(*figures.windows),
            _one_of(*figures.latency_by),
        )
        rows = Parameter(
            "limit", "The most rows.", {"type": "integer", "minimum": 1, "maximum": MAX_LIST, "default": DEFAULT_ROWS}
        )
        return [
            Route(
                "GET",
                "/api/v1/overview",
                VIEWER,
                self.overview,
                "Spend by one dimension over the running period, beside the same span of the one before.",
                (
                    Parameter("period", "The running hour, day, week or month, of UTC.", {**periods, "default": "day"}),
                    Parameter("by", "What it is told apart by.", {"type": "string", "enum": list(figures.dimensions)}),
                    rows,
                    SEARCH,
                ),
                answers={200: OVERVIEW},
            ),
            Route("GET", "/api/v1/now", VIEWER, self.now, "How it goes at the moment.", answers={200: NOW}),
            Route(
                "GET",
                "/api/v1/latency",
                VIEWER,
                self.latency,
                "Percentiles of how long calls took, and until their first byte.",
                (
                    Parameter("window", "How far back.", windows),
                    Parameter("by", "What they are told apart by.", latency_by),
                ),
                answers={200: LATENCY},
            ),
            Route(
                "GET",
                "/api/v1/budgets",
                VIEWER,
                self.budgets,
                "Every budget with what is spent and held of it; of a wildcard each account that has spent.",
                (
                    LIMIT,
                    CURSOR,
                    SEARCH,
                    Parameter("sort", "The most used first, or by name.", _one_of("used", "name")),
                ),
                answers={200: BUDGETS},
            ),
            Route(
                "GET",
                "/api/v1/events",
                VIEWER,
                self.events,
                "Server-sent events: `now` once a second, `call` for calls that ended, `changed`.",
                answers={200: TEXT},
                media="text/event-stream",
            ),
        ]

    async def overview(self, request: web.Request) -> web.Response:
        """Spend of the running period."""
        query = request.query
        limit = int(query.get("limit", DEFAULT_ROWS))
        found = await self._figures.overview(
            query.get("period", "day"), query.get("by", ""), limit, query.get("search", "")
        )
        return answer(found)

    async def now(self, request: web.Request) -> web.Response:
        """The latest figures."""
        return answer(await self._figures.now())

    async def latency(self, request: web.Request) -> web.Response:
        """Percentiles."""
        figures, query = self._figures, request.query
        window = query.get("window", next(iter(figures.windows)))
        return answer(await figures.latency(window, query.get("by", next(iter(figures.latency_by)))))

    async def budgets(self, request: web.Request) -> web.Response:
        """A page of budgets."""
        query = request.query
        asked = (query.get("cursor", ""), query.get("search", ""), query.get("sort", "used"))
        return answer(await self._figures.budgets(limit_of(query), *asked))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The stream; 503 when there are too many listeners already."""
        if self._figures.is_full():
            refused = problem(503, "too many listeners")
            refused.headers["Retry-After"] = "10"
            return refused
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return web.Response(headers=headers)
        return _Stream(self._figures.listen(), headers, lambda: is_still_let_in(request))


class _Stream(web.StreamResponse):
    """An answer that goes on. It is written after the listener's own headers were added, and whoever listens is known to have left
    at once, which a body that is an iterator would not tell. It ends when ``goes_on`` says so: a token expires, or is taken away.
    """

    def __init__(self, events: AsyncGenerator[bytes], headers: Mapping[str, str], goes_on: Callable[[], bool]) -> None:
        super().__init__(headers=headers)
        self._events = events
        self._goes_on = goes_on

    async def write_eof(self, data: bytes = b"") -> None:
        """What aiohttp asks for after the head."""
        async with contextlib.aclosing(self._events) as events:
            async for each in events:
                if not self._goes_on():
                    break
                await self.write(each)
        await super().write_eof(data)
