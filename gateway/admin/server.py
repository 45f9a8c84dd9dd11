"""The admin listener: who may ask, which headers protect the page, and nothing that a browser elsewhere could misuse.

Off loopback it needs a token. On loopback it answers only to names of this machine, so that a web page whose name was
bound to 127.0.0.1 (DNS rebinding) reads nothing. Errors never repeat what was asked.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from aiohttp import web

from gateway.admin import pages
from gateway.admin.answers import Refused, problem
from gateway.admin.api import Api, Sources
from gateway.admin.bodies import MAX_BODY_BYTES
from gateway.admin.calls import Calls
from gateway.admin.conditional import unless_known
from gateway.admin.connection import Runner
from gateway.admin.guard import Guard
from gateway.admin.openapi import About
from gateway.admin.origin import is_loopback
from gateway.admin.routes import Handler, Route
from gateway.admin.tokens import Token, has_operator
from gateway.errors import MEANINGS, Failure

log = logging.getLogger("gateway.admin")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_VARIABLE = re.compile(r"\{(\w+)\}")
Tell = Callable[[Mapping[str, str | int | float]], None]
"""Gets time, method, path, status, duration_ms, client and user_agent of a request."""


class AdminServer:
    """Listens for operators and probes."""

    def __init__(
        self,
        host: str,
        port: int,
        tokens: Sequence[Token],
        sources: Sources,
        tell: Tell | None = None,
        more: Sequence[Route] = (),
    ) -> None:
        """``tell`` gets every request that was answered; ``more`` are routes of parts that are not made here."""
        if not is_loopback(host) and not has_operator(tokens):
            raise ValueError("off loopback the admin listener needs the token of an operator")
        self._host = host
        self._wanted_port = port
        self._guard = Guard(host, tokens)
        self._tell = tell
        self._runner: web.AppRunner | None = None
        self._app = web.Application(middlewares=[self._around], client_max_size=MAX_BODY_BYTES)
        self.api = _api(sources, more)
        """Every route but those of the page's files."""
        self._routes = {
            served: each for each in [*self.api, *pages.routes()] for served in self._app.add_routes([_served(each)])
        }
        """Whatever is served has its route here: none can be reached as if it was nobody's."""

    def admit(self, tokens: Sequence[Token]) -> None:
        """From now on these tokens are right, and no others."""
        self._guard.tokens = tokens

    @property
    def port(self) -> int:
        """The port listened on."""
        if self._runner is None:
            return self._wanted_port
        port: int = self._runner.addresses[0][1]
        return port

    async def start(self, sockets: Sequence[socket.socket] = ()) -> None:
        """Listen, on ``sockets`` where somebody has opened them already. OSError when the address cannot be had."""
        self._runner = Runner(self._app, HEADERS, shutdown_s=1.0)
        await self._runner.setup()
        for each in sockets:
            await web.SockSite(self._runner, each).start()
        if not sockets:
            await web.TCPSite(self._runner, self._host, self._wanted_port).start()

    async def stop(self) -> None:
        """Stop listening."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self._wanted_port = runner.addresses[0][1] if runner.addresses else self._wanted_port
            await runner.cleanup()

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        response = await unless_known(request, await self._answer(request, handler))
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if self._tell is not None:
            self._tell(_access(request, response.status, time.perf_counter() - began))
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._guard.check(request, self._routes.get(request.match_info.route))
            return await handler(request)
        except Refused as refused:
            return refused.answer()
        except web.HTTPException as refusal:
            told = problem(refusal.status, refusal.reason or "not possible")
            if "Allow" in refusal.headers:  # RFC 9110 15.5.6: a 405 names the methods that there are
                told.headers["Allow"] = refusal.headers["Allow"]
            return told
        except Failure as failure:
            return problem(MEANINGS[failure.kind].status, failure.message)
        except Exception:
            log.exception("a bug in the admin API")
            return problem(500, "the gateway failed while answering")


def _api(sources: Sources, more: Sequence[Route]) -> list[Route]:
    """Every part puts its routes here; the last one tells of all of them."""
    parts = [*Api(sources).routes(), *Calls(sources).routes(), *more]
    return [*parts, *About(parts).routes()]


def _template(request: web.Request) -> str:
    """The path of the route that a request matched, with the names of its variable parts; "" where none did."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""


def _access(request: web.Request, status: int, duration_s: float) -> Mapping[str, str | int | float]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "time": now,
        "method": request.method,
        "path": _template(request),
        "status": status,
        "duration_ms": round(duration_s * 1000, 3),
        "client": request.remote or "",
        "user_agent": request.headers.get("User-Agent", ""),
    }


def _served(route: Route) -> web.RouteDef:
    """HEAD is answered wherever GET is (RFC 9110 9.3.2). A name in a path may have braces, too."""
    path = _VARIABLE.sub(r"{\1:[^/]+}", route.path)
    if route.method == "GET":
        return web.get(path, route.handler)
    return web.route(route.method, path, route.handler)
