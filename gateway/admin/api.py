"""The admin API: questions about calls and budgets, answered from the sources that ``app`` hands in. Reads only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from aiohttp import web

from gateway import __version__
from gateway.admin import schemas
from gateway.admin.accept import OPEN_METRICS, PLAIN, asks_open_metrics
from gateway.admin.answers import answer, problem
from gateway.admin.questions import DAY
from gateway.admin.routes import OPEN, VIEWER, Parameter, Route
from gateway.selection import Page, Selection
from gateway.value import value
from pricing.money import format_usd

__all__ = ["Api", "Sources", "answer", "problem", "with_usd"]

READY_QUERY = (
    Parameter("verbose", "In lines for people, as text/plain."),
    Parameter("exclude", "A check to leave out.", repeated=True),
)
SPEND_QUERY = (
    Parameter("by", "Dimensions with commas between them, of those that spend.by in the config declares: team,model."),
    Parameter("period", "The length of a row.", schemas.one_of("day", "week", "month")),
    Parameter("since", "The first day (UTC). Default: seven periods back.", DAY),
    Parameter("until", "The day after the last one.", DAY),
)


@value
class Sources:
    """Where the answers come from; each is asked when somebody asks."""

    find: Callable[[str], Awaitable[dict[str, Any] | None]]
    recent: Callable[[int, str, str], Awaitable[list[dict[str, Any]]]]
    """(limit, before, correlation_id) -> records, newest first."""
    page: Callable[[Selection, int, str], Awaitable[Page]]
    """(what is wanted, limit, the call id after which the list goes on)."""
    is_active: Callable[[str], Awaitable[bool]]
    status: Callable[[], Awaitable[dict[str, Any]]]
    """The state at a glance, without what the listener knows itself."""
    spend: Callable[[str | None, str, str, str], Awaitable[dict[str, Any]]]
    """(by, period, since, until) -> the report; Failure for what cannot be asked."""
    upstreams: Callable[[], Awaitable[list[dict[str, Any]]]]
    targets: Callable[[], Awaitable[dict[str, Any]]]
    config: Callable[[], dict[str, Any]]
    version: Callable[[], str]
    is_draining: Callable[[], bool]
    checks: Callable[[], Awaitable[Mapping[str, dict[str, Any]]]]
    """What each health check found last, by name: status (ok, warn, failed), time_ms, and more."""
    metrics: Callable[[bool], Awaitable[Iterator[bytes]]]
    """The exposition, in slices that take a millisecond each: as OpenMetrics, or in Prometheus' own format."""


def with_usd(record: dict[str, Any]) -> dict[str, Any]:
    """A record with its money in dollars as well."""
    return {
        **record,
        "cost_usd": format_usd(record.get("cost_nanousd", 0)),
        "held_usd": format_usd(record.get("held_nanousd", 0)),
    }


async def _unhurried(slices: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Calls go on between two slices."""
    for each in slices:
        yield each
        await asyncio.sleep(0)


def _lines(checks: Mapping[str, dict[str, Any]], status: str) -> str:
    """As the probes of Kubernetes' own API server say it: [+]store ok, [-]disk failed: why."""
    signs = {"ok": "[+]", "warn": "[!]", "failed": "[-]"}
    lines = [
        f"{signs[told['status']]}{name} {told['status']}" + (f": {told['output']}" if "output" in told else "")
        for name, told in checks.items()
    ]
    lines += ["[-]shutdown failed: the process is on its way out"] if status == "draining" else []
    return "\n".join([*lines, "ready check passed" if status == "ready" else "ready check failed", ""])


class Api:
    """One method a route."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._started = time.monotonic()

    def routes(self) -> list[Route]:
        """What is served where."""
        return [
            *self._probes(),
            Route(
                "GET",
                "/metrics",
                VIEWER,
                self.metrics,
                "Prometheus' exposition, or OpenMetrics.",
                media="text/plain",
                other_media=("application/openmetrics-text",),
            ),
            Route(
                "GET",
                "/system/llm-status",
                VIEWER,
                self.status,
                "The state of the gateway at a glance.",
                answers={200: schemas.STATUS},
            ),
            Route(
                "GET",
                "/api/v1/spend",
                VIEWER,
                self.spend,
                "What was spent, by period and dimensions.",
                SPEND_QUERY,
                answers={200: schemas.SPEND},
            ),
            Route(
                "GET",
                "/api/v1/upstreams",
                VIEWER,
                self.upstreams,
                "Every upstream with its connections.",
                answers={200: schemas.UPSTREAMS},
            ),
            Route(
                "GET",
                "/api/v1/targets",
                VIEWER,
                self.targets,
                "Every target and how well it was met.",
                answers={200: schemas.TARGETS},
            ),
            Route(
                "GET",
                "/api/v1/config",
                VIEWER,
                self.config,
                "The config in force, secrets masked.",
                answers={200: schemas.CONFIG},
            ),
        ]

    def _probes(self) -> list[Route]:
        """Open to all: a kubelet has no token."""
        return [
            Route("GET", "/health/live", OPEN, self.live, "Whether the process answers.", answers={200: schemas.LIVE}),
            Route(
                "GET",
                "/health/ready",
                OPEN,
                self.ready,
                "Whether calls can be served, check by check.",
                READY_QUERY,
                answers={200: schemas.READY, 503: schemas.READY},
                other_media=("text/plain",),
            ),
            Route(
                "GET",
                "/health/ready/{check}",
                OPEN,
                self.check,
                "One check by itself.",
                answers={200: schemas.CHECK, 503: schemas.CHECK},
            ),
        ]

    async def live(self, request: web.Request) -> web.Response:
        """The process answers."""
        return answer({"status": "ok", "version": __version__})

    async def ready(self, request: web.Request) -> web.Response:
        """200 while calls can be served; 503 while a part is not fit, or the process is on its way out. Answers from what the
        checks found last. ``?verbose`` says it in lines for people, ``?exclude=NAME`` leaves a check out.
        """
        excluded = request.query.getall("exclude", [])
        checks = {name: told for name, told in (await self._sources.checks()).items() if name not in excluded}
        draining = self._sources.is_draining()
        fit = not draining and all(check["status"] != "failed" for check in checks.values())
        status = "ready" if fit else "draining" if draining else "failed"
        code = 200 if fit else 503
        if "verbose" in request.query:
            return web.Response(text=_lines(checks, status), status=code, headers={"Cache-Control": "no-store"})
        version = self._sources.version()
        return answer({"status": status, "version": __version__, "config_version": version, "checks": checks}, code)

    async def check(self, request: web.Request) -> web.Response:
        """One check by itself: 503 when it failed, 404 when there is none of that name."""
        found = (await self._sources.checks()).get(request.match_info["check"])
        if found is None:
            return problem(404, "there is no such check")
        return answer(found, 503 if found["status"] == "failed" else 200)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Prometheus' text exposition, or OpenMetrics for those who ask for it."""
        open_metrics = asks_open_metrics(request.headers.get("Accept", ""))
        slices = await self._sources.metrics(open_metrics)
        kind = OPEN_METRICS if open_metrics else PLAIN
        response = web.Response(body=_unhurried(slices), headers={"Content-Type": kind, "Vary": "Accept"})
        response.enable_compression()  # a thousand combinations are 8 MB, and 0.2 packed, which aiohttp does in a thread
        return response

    async def status(self, request: web.Request) -> web.Response:
        """The state of the gateway at a glance."""
        sources = self._sources
        failed = any(check["status"] == "failed" for check in (await sources.checks()).values())
        return answer(
            {
                "status": "draining" if sources.is_draining() else "failed" if failed else "ok",
                "version": __version__,
                "uptime_s": round(time.monotonic() - self._started, 1),
                **await sources.status(),
            }
        )

    async def spend(self, request: web.Request) -> web.Response:
        """What was spent, by period and whatever it is told apart by."""
        query = request.query
        found = await self._sources.spend(
            query.get("by"), query.get("period", "day"), query.get("since", ""), query.get("until", "")
        )
        return answer(found)

    async def upstreams(self, request: web.Request) -> web.Response:
        """Every upstream with its connections."""
        return answer({"upstreams": await self._sources.upstreams()})

    async def targets(self, request: web.Request) -> web.Response:
        """Every target and how well it was met over the last hour, day and week."""
        return answer(await self._sources.targets())

    async def config(self, request: web.Request) -> web.Response:
        """The config in force, secrets masked."""
        return answer({"version": self._sources.version(), "config": self._sources.config()})
