"""Which upstream a request means: ``/v1/...`` by rule, ``/{upstream}/...`` by name.

Paths are compared and cut as bytes-for-bytes text: nothing is decoded, merged or normalised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from urllib.parse import unquote

from gateway.errors import Failure, Kind, Whose
from gateway.value import value

MAX_REMEMBERED = 256
"""Paths, and characters of one: apps use a few."""
ANTHROPIC_PATH = "/v1/messages"
"""The one path under ``/v1`` that is Anthropic's (INTERFACE 2)."""


@value
class Rule:
    """One line of ``routes``: a model pattern (shell style), a path prefix, or both; empty = matches all."""

    upstream: str
    model: str = ""
    path: str = ""

    def matches(self, path: str, model: str) -> bool:
        """Whether the rule speaks of this call."""
        return (not self.path or _is_below(path, self.path)) and (not self.model or fnmatchcase(model, self.model))


@value
class Place:
    """Where a request goes as far as its path tells: ``upstream`` is "" when a rule has to choose (``/v1/...``)."""

    upstream: str
    protocol: str
    rest: str
    """The target (path and query) after the prefix that was ours."""


class Routes:
    """The rules and the upstreams' protocols and base paths, compiled from the config."""

    def __init__(self, rules: Sequence[Rule], upstreams: Mapping[str, tuple[str, str]]) -> None:
        """``upstreams``: name -> (protocol, base path without a final slash)."""
        self._rules = tuple(rules)
        self._upstreams = dict(upstreams)
        self._places: dict[str, Place] = {}
        self._chosen: dict[tuple[str, str], str] = {}

    def place(self, target: str) -> Place:
        """Read the path. Failure(UNKNOWN_ROUTE) when it is no provider's."""
        if not target.startswith("/"):
            raise Failure(
                Kind.MALFORMED_REQUEST,
                Whose.FRONT,
                "The request target must be a path: this is a gateway, not a forward proxy.",
            )
        found = self._places.get(target)
        if found is None:
            found = self._read(target)
            if len(self._places) < MAX_REMEMBERED and len(target) < MAX_REMEMBERED and "?" not in target:
                self._places[target] = found  # a query may hold a key
        return found

    def _read(self, target: str) -> Place:
        path = target.partition("?")[0]
        prefix, _, _ = path[1:].partition("/")
        if prefix == "v1":
            return Place("", "anthropic" if _is_below(path, ANTHROPIC_PATH) else "openai", target)
        known = self._upstreams.get(prefix)
        if known is None:
            raise _unknown()
        rest = target[len(prefix) + 1 :]
        return Place(prefix, known[0], rest if rest.startswith("/") else "/" + rest)

    def choose(self, place: Place, model: str) -> tuple[str, str]:
        """(upstream, the target to ask it for)."""
        if place.upstream:
            return place.upstream, self._upstreams[place.upstream][1] + place.rest
        path = place.rest.partition("?")[0]
        upstream = self._chosen.get((path, model))
        if upstream is None:
            upstream = self._choose(path, model)
            if len(self._chosen) < MAX_REMEMBERED and len(path) < MAX_REMEMBERED:
                self._chosen[path, model] = upstream
        # a base URL that ends in /v1 names the same /v1 that the front's path begins with
        return upstream, self._upstreams[upstream][1].removesuffix("/v1") + place.rest

    def _choose(self, path: str, model: str) -> str:
        for rule in self._rules:
            if rule.matches(path, model):
                return rule.upstream
        raise _unknown()


def without_key(target: str) -> tuple[list[str], str]:
    """The values of ``key`` in a query, where Gemini's callers may put their credential, and the target without them."""
    path, mark, query = target.partition("?")
    if not mark:
        return [], target
    kept, found = [], []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name == "key" or ("%" in name and unquote(name) == "key"):
            found.append(value)
        else:
            kept.append(part)
    return found, f"{path}?{'&'.join(kept)}" if kept else path


def times_in_query(target: str, names: frozenset[str]) -> int:
    """How often a query names one of these (lower-case) parameters, however they are spelt."""
    parts = target.partition("?")[2].split("&")
    return sum(unquote(part.partition("=")[0]).casefold() in names for part in parts)


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix.rstrip("/") + "/")


def _unknown() -> Failure:
    return Failure(
        Kind.UNKNOWN_ROUTE,
        Whose.FRONT,
        "No upstream answers this path. Use /v1/... or /{upstream}/... as in the gateway's config.",
    )
