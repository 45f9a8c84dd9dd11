"""The admin API as an OpenAPI 3.1 document, made from the table of routes: it says what is checked, because it is what is checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any

from aiohttp import web

from gateway import __version__
from gateway.admin import schemas
from gateway.admin.answers import answer
from gateway.admin.routes import OPEN, OPERATOR, VIEWER, Parameter, Route, who
from gateway.admin.shapes import Schema

JSON = "application/json"
ABOUT = (
    "The operator's side of Tollgate. A token goes into `Authorization: Bearer ...`; `x-role` says who may use an operation. "
    "Every JSON answer to a GET has an ETag, and If-None-Match is answered with 304. Changes take If-Match where what they "
    "change has a version."
)
CHANGES = {409: "It is in the way of something else.", 412: "It has been changed since.", 413: "The body is too large."}
VARIABLE: Schema = {"type": "string", "minLength": 1}
_VARIABLES = re.compile(r"\{(\w+)(?::[^}]*)?\}")


class About:
    """Who asks, and what there is to ask."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """``routes``: all others."""
        self._others = routes

    def routes(self) -> list[Route]:
        """What is served where."""
        return [
            Route(
                "GET",
                "/api/v1/me",
                VIEWER,
                self.me,
                "Whose token this is, and what it may do.",
                answers={200: schemas.ME},
            ),
            Route(
                "GET", "/api/v1/openapi.json", VIEWER, self.openapi, "This document.", answers={200: schemas.DOCUMENT}
            ),
        ]

    async def me(self, request: web.Request) -> web.Response:
        """The name of the token, never the token."""
        asking = who(request)
        return answer({"name": asking.name, "role": asking.role, "version": __version__})

    async def openapi(self, request: web.Request) -> web.Response:
        """The same for everybody."""
        return answer(self._document)

    @cached_property
    def _document(self) -> dict[str, Any]:
        return document([*self._others, *self.routes()])


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Of these routes."""
    named: dict[str, Any] = {}
    error = _content(schemas.ERROR, (JSON,), named)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(_VARIABLES.sub(r"{\1}", route.path), {})[route.method.lower()] = _operation(
            route, error, named
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tollgate admin API", "version": __version__, "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(named.items())),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, error: Mapping[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    variables = [
        {"name": name, "in": "path", "required": True, "schema": dict(VARIABLE)}
        for name in _VARIABLES.findall(route.path)
    ]
    found: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *re.findall(r"\w+", route.path)]),
        "tags": [_tag(route.path)],
        "summary": route.says,
        "x-role": route.role,
        "security": [] if route.role == OPEN else [{"bearer": []}],
        "parameters": [*variables, *(_parameter(each, named) for each in route.query)],
        "responses": {str(status): each for status, each in sorted(_responses(route, error, named).items())},
    }
    if route.body is not None:
        found["requestBody"] = {"content": _content(route.body, (JSON,), named), "required": route.method != "DELETE"}
    return found


def _responses(route: Route, error: Mapping[str, Any], named: dict[str, Any]) -> dict[int, dict[str, Any]]:
    told = {status: {"description": _phrase(status), "content": error} for status in _refusals(route)}
    if route.method == "GET":
        told[304] = {"description": "It is what If-None-Match names."}
    for status, shape in (route.answers or {200: {}}).items():
        content = _content(shape, (route.media, *route.other_media), named)
        told[status] = {
            "description": CHANGES.get(status, route.says if status < 300 else _phrase(status)),
            "content": content,
        }
    return told


def _refusals(route: Route) -> list[int]:
    """What a route answers beside what it declares, because of what is checked before and around it."""
    found = [421, 500, 503]
    if route.role != OPEN:
        found += [400, 401, 403, 429]
    if "{" in route.path:
        found += [404]
    if route.role == OPERATOR:
        found += [*CHANGES, 415, 422]
    return found


def _parameter(each: Parameter, named: dict[str, Any]) -> dict[str, Any]:
    inner = _named(each.schema, named)
    wanted = {"type": "array", "items": inner} if each.repeated else inner
    return {"name": each.name, "in": "query", "description": each.says, "required": False, "schema": wanted}


def _content(shape: Schema, media: Sequence[str], named: dict[str, Any]) -> dict[str, Any]:
    return {kind: {"schema": _named(shape, named) if kind == JSON else {"type": "string"}} for kind in media}


def _named(shape: Schema, named: dict[str, Any]) -> dict[str, Any]:
    """The schema, with a reference in place of each part that has a title. Two different ones of one title are a bug."""
    found: dict[str, Any] = {}
    for keyword, value in shape.items():
        if keyword == "properties":
            found[keyword] = {name: _named(inner, named) for name, inner in value.items()}
        elif keyword in ("items", "additionalProperties") and isinstance(value, Mapping):
            found[keyword] = _named(value, named)
        elif keyword == "anyOf":
            found[keyword] = [_named(inner, named) for inner in value]
        else:
            found[keyword] = value
    title = shape.get("title")
    if title is None:
        return found
    if named.setdefault(title, found) != found:
        raise ValueError(f"two schemas are called {title}")
    return {"$ref": f"#/components/schemas/{title}"}


def _tag(path: str) -> str:
    """What an operation is about: the first word of its path that says something."""
    words = [word for word in re.findall(r"\w+", path) if word not in ("api", "v1")]
    return str(words[0])


def _phrase(status: int) -> str:
    return CHANGES.get(status) or f"{HTTPStatus(status).phrase}."
