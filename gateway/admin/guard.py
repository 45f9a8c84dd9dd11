"""What stands before every handler of the admin listener: who asks, from where, what for. In this order, and nothing is told before:

the name that was asked for (421), another web site (403), the token (401, or 429 while guesses are locked out), the role (403), the
media type of a change (415), the query (400). An open route asks for none of it but the name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from aiohttp import web

from gateway.admin import questions
from gateway.admin.answers import Refused
from gateway.admin.lockout import Lockout
from gateway.admin.origin import is_from_elsewhere, is_loopback, is_own_name
from gateway.admin.routes import LETS_IN, OPEN, OPERATOR, VIEWER, WHO, Route, Who
from gateway.admin.tokens import LOOPBACK, No, Token, whose

NO_TOKEN = "a bearer token is needed: Authorization: Bearer, then admin.token or one of admin.tokens"  # noqa: S105 - a sentence
CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Guard:
    """Lets requests pass. ``tokens`` may change while it stands."""

    def __init__(self, host: str, tokens: Sequence[Token], clock: Callable[[], float] = time.monotonic) -> None:
        """``host`` is the address listened on; ``clock`` that of the lockout."""
        self.tokens = tokens
        self._host = host
        self._lockout = Lockout(clock)

    def check(self, request: web.Request, route: Route | None) -> None:
        """Raises Refused. ``route`` is None for what is not there, which only those who may look are told."""
        if is_loopback(self._host) and not is_own_name(request, self._host):
            raise Refused(421, "this listener answers to localhost only")
        if route is not None and route.role == OPEN:
            return
        if is_from_elsewhere(request):
            raise Refused(403, "this listener answers no other web site")
        asking = self._who(request)
        if (route.role if route is not None else VIEWER) == OPERATOR and asking.role != OPERATOR:
            raise Refused(403, "this is for operators, and the token is a viewer's")
        request[WHO] = asking
        request[LETS_IN] = lambda: self._lets_in(_token_of(request))
        if route is not None:
            _check_media(request)
            questions.check(route.query, request.query)

    def _who(self, request: web.Request) -> Who:
        if not self.tokens:
            return LOOPBACK
        given = _token_of(request)
        if not given:
            raise Refused(401, NO_TOKEN, headers=CHALLENGE)
        address = request.remote or ""
        left_s = self._lockout.left_s(address)
        if left_s:
            message = "too many wrong tokens came from this address: none of it is looked at for a while"
            raise Refused(429, message, headers={"Retry-After": str(left_s)})
        found = whose(self.tokens, given, time.time())
        if isinstance(found, Who):
            return found
        if found is No.WRONG:
            self._lockout.count(address)
        raise Refused(401, found.value, headers=CHALLENGE)

    def _lets_in(self, given: bytes) -> bool:
        return not self.tokens or isinstance(whose(self.tokens, given, time.time()), Who)


def _check_media(request: web.Request) -> None:
    """A change says that it is JSON, which no form of a web page can; a DELETE, which none can send either, only of what it brings."""
    if request.method in ("GET", "HEAD") or (request.method == "DELETE" and not request.can_read_body):
        return
    if request.content_type != "application/json" or "Content-Encoding" in request.headers:
        raise Refused(415, "a change takes application/json, not packed", headers={"Accept": "application/json"})


def _token_of(request: web.Request) -> bytes:
    """The bearer token that was sent; empty where there is none."""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip().encode("utf-8", "replace") if kind.lower() == "bearer" else b""
