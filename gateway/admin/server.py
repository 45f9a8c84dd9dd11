"""The admin listener: who may ask, which headers protect the page, and nothing that a browser elsewhere could misuse.

Off loopback it needs a token. On loopback it answers only to names of this machine, so that a web page whose name was
bound to 127.0.0.1 (DNS rebinding) reads nothing. Errors never repeat what was asked.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources

from aiohttp import web

from gateway.admin.answers import Refused, problem
from gateway.admin.api import Api, Sources
from gateway.admin.bodies import MAX_BODY_BYTES
from gateway.admin.connection import Runner
from gateway.admin.routes import OPEN, OPERATOR, VIEWER, WHO, Handler, Route, Who
from gateway.errors import MEANINGS, Failure

log = logging.getLogger("gateway.admin")

NO_TOKEN = "a bearer token is needed: Authorization: Bearer, then admin.token"  # noqa: S105 - a sentence
WRONG_TOKEN = "the bearer token is not admin.token"  # noqa: S105
PAGE = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
}
"""The page holds no numbers: it asks the API for them, with the token."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Tell = Callable[[Mapping[str, str | int | float]], None]
"""Gets time, method, path, status, duration_ms, client and user_agent of a request."""


class AdminServer:
    """Listens for operators and probes."""

    def __init__(
        self, host: str, port: int, token: str, sources: Sources, tell: Tell | None = None, more: Sequence[Route] = ()
    ) -> None:
        """``tell`` gets every request that was answered; ``more`` are routes of other parts."""
        if not is_loopback(host) and not token:
            raise ValueError("off loopback the admin listener needs a token")
        self._host = host
        self._wanted_port = port
        self._token = token.encode()
        self._tell = tell
        self._runner: web.AppRunner | None = None
        self._app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        pages = [Route("GET", path, OPEN, _page(*file), "The live page.") for path, file in PAGE.items()]
        self._routes = {(each.method, each.path): each for each in [*Api(sources).routes(), *more, *pages]}
        self._app.add_routes(map(_served, self._routes.values()))

    @property
    def port(self) -> int:
        """The port listened on."""
        if self._runner is None:
            return self._wanted_port
        port: int = self._runner.addresses[0][1]
        return port

    async def start(self) -> None:
        """Listen. OSError when the address cannot be had."""
        self._runner = Runner(self._app, HEADERS, shutdown_s=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._wanted_port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        response = await self._answer(request, handler)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if self._tell is not None:
            self._tell(_access(request, response.status, time.perf_counter() - began))
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_loopback(self._host) and not self._is_known(request):
            return problem(421, "this listener answers to localhost only")
        if self._role(request) != OPEN and not self._may(request):
            refused = problem(401, WRONG_TOKEN if _token_of(request) else NO_TOKEN)
            refused.headers["WWW-Authenticate"] = "Bearer"
            return refused
        request[WHO] = Who("admin.token" if self._token else "loopback", OPERATOR)
        try:
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

    def _role(self, request: web.Request) -> str:
        """Who may use the route; what is not there says so to viewers only."""
        method = "GET" if request.method == "HEAD" else request.method
        route = self._routes.get((method, _template(request)))
        return route.role if route is not None else VIEWER

    def _may(self, request: web.Request) -> bool:
        if not self._token:
            return True
        return hmac.compare_digest(_token_of(request), self._token)

    def _is_known(self, request: web.Request) -> bool:
        name = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
        return name in (self._host, "localhost") or is_loopback(name.strip("[]"))


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token_of(request: web.Request) -> bytes:
    """The bearer token that was sent; empty where there is none."""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip().encode("utf-8", "replace") if kind.lower() == "bearer" else b""


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
    """HEAD is answered wherever GET is (RFC 9110 9.3.2)."""
    if route.method == "GET":
        return web.get(route.path, route.handler)
    return web.route(route.method, route.path, route.handler)


def _page(name: str, kind: str) -> Handler:
    body = (resources.files("gateway.admin") / "page" / name).read_bytes()

    async def send(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=kind, charset="utf-8", headers={"Cache-Control": "no-cache"})

    return send
