"""What the admin listener serves, declared: each route with who may use it and what goes in and out.

One table serves the routing, the check of roles and the OpenAPI document, so that none of them can say something else than the
others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field

from aiohttp import web

from gateway.admin.shapes import Schema
from gateway.value import value

OPEN, VIEWER, OPERATOR = "open", "viewer", "operator"
"""Who may use a route: anybody, who may look, who may change things. An operator is a viewer too."""
ROLES = (OPEN, VIEWER, OPERATOR)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@value
class Who:
    """Whoever asks: the name of the token, never the token. ``role`` is viewer or operator."""

    name: str
    role: str


@value
class Parameter:
    """One parameter of the query."""

    name: str
    says: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    repeated: bool = False


@value
class Route:
    """``path`` has its variable parts in braces. ``body`` is what a change takes; ``answers`` what comes back, by status."""

    method: str
    path: str
    role: str
    handler: Handler
    says: str
    query: tuple[Parameter, ...] = ()
    body: Schema | None = None
    answers: Mapping[int, Schema] = field(default_factory=dict)
    media: str = "application/json"
    other_media: tuple[str, ...] = ()
    """What an answer may come as besides, where whoever asks can choose."""


WHO = web.RequestKey("who", Who)
LETS_IN: web.RequestKey[Callable[[], bool]] = web.RequestKey("lets_in")


def who(request: web.Request) -> Who:
    """Whoever asks; the guard has looked at the token before."""
    return request[WHO]


def is_still_let_in(request: web.Request) -> bool:
    """Whether what was sent would still be enough: for answers that go on after the guard has looked."""
    return request[LETS_IN]()
