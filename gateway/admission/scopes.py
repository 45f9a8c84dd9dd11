"""Scopes: whose spend a budget limits. ``team:search+model:gpt-5*`` and a call's facts -> the account's scope, or no match.

A scope is ``global``, or parts joined by ``+`` that must all match: ``team:NAME`` (also ``user``, ``agent``, ``key``, ``model``,
``provider``, ``upstream``), ``tag:NAME=VALUE``, ``request`` (all calls of one correlation id), ``call`` (each call by itself).
``KIND:*`` (``tag:NAME``) gives each its own account; a pattern of models (``model:gpt-5*``) is one account for all of them. Laws:
the order of parts makes no difference; what a caller leaves out counts as ``-`` under ``*``; no name of a caller's can be
taken for another scope.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from gateway.call import Caller
from gateway.value import value

NOBODY = "-"
KINDS = ("call", "request", "user", "agent", "key", "tag", "team", "model", "upstream", "provider", "global")
"""From the most specific to the least: the order of parts, and of claims."""
ALONE = frozenset(("global", "call", "request"))
"""Kinds without a name."""
NAMED = tuple(kind for kind in KINDS if kind not in (*ALONE, "tag"))
_BETWEEN = re.compile(rf"\+(?=(?:{'|'.join(KINDS)})(?::|\+|$))")
_PATTERN = re.compile(r"[*?\[]")


class Facts(NamedTuple):
    """What of a call decides which budgets it meets."""

    team: str = ""
    user: str = ""
    agent: str = ""
    key: str = ""
    model: str = ""
    provider: str = ""
    upstream: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    request: str = ""


@lru_cache(maxsize=1024)  # the same few models come with every call: a tuple with names takes as long as ten look-ups
def way_of(model: str, provider: str, upstream: str) -> Facts:
    """What is known of a call beside its caller."""
    return Facts(model=model, provider=provider, upstream=upstream)


def facts_of(caller: Caller, way: Facts | None) -> Facts:
    """The caller's, with what is known of the call's way."""
    model, provider, upstream = (way.model, way.provider, way.upstream) if way is not None else ("", "", "")
    who = (caller.team, caller.user, caller.agent, caller.key_name)
    return Facts(*who, model, provider, upstream, caller.tags, caller.correlation_id)


@value
class Part:
    """One condition. ``name`` is ``*`` where each has its own account; ``tag`` is the tag's name."""

    kind: str
    name: str = ""
    tag: str = ""

    def of(self, facts: Facts) -> str | None:
        """What stands for it in the account's scope; None where it does not match."""
        if self.kind in ALONE:
            return f"request:{_escaped(facts.request or NOBODY)}" if self.kind == "request" else self.kind
        value = dict(facts.tags).get(self.tag, "") if self.kind == "tag" else getattr(facts, self.kind)
        if self.name == "*":
            return f"{self.label}{_escaped(value or NOBODY)}"
        if self.kind == "model" and _PATTERN.search(self.name):
            return f"{self.label}{self.name}" if fnmatchcase(value, self.name) else None
        return f"{self.label}{_escaped(self.name)}" if (value or NOBODY) == self.name else None

    @property
    def written(self) -> str | None:
        """The scope of the one account that it stands for; None where it stands for several, or for what has no name."""
        several = self.name == "*" or (self.kind == "model" and _PATTERN.search(self.name))
        if self.kind in ALONE or several or (self.kind == "tag" and self.name == NOBODY):
            return None
        return self.label + _escaped(self.name)

    @property
    def pattern(self) -> str:
        """A GLOB of what stands for it in the scopes of accounts."""
        if self.kind in ALONE:
            return self.kind
        if self.name == "*":
            return f"{self.label}*"
        is_pattern = self.kind == "model" and _PATTERN.search(self.name)
        return _PATTERN.sub(r"[\g<0>]", f"{self.label}{self.name if is_pattern else _escaped(self.name)}")

    @property
    def label(self) -> str:
        """What comes before the name."""
        return f"tag:{self.tag}=" if self.kind == "tag" else f"{self.kind}:"


@value
class Scope:
    """Parts, the most specific first."""

    parts: tuple[Part, ...]
    kinds: frozenset[str]
    """Of its parts."""
    is_general: bool
    """Whether it stands for many accounts."""
    only_name: str | None
    """Where it has one part, with a name in full: that account's scope, which only calls meet that have it among their names."""

    @property
    def pattern(self) -> str:
        """A GLOB of the scopes of its accounts, if ``*`` stands for no ``+``."""
        return "+".join(part.pattern for part in self.parts)

    def of(self, facts: Facts) -> str | None:
        """The scope of the account that a call is booked under; None where the budget does not speak of it."""
        if len(self.parts) == 1:
            return self.parts[0].of(facts)
        found = [part.of(facts) for part in self.parts]
        return None if None in found else "+".join(text for text in found if text is not None)


def parse_scope(text: str) -> Scope:
    """ValueError, in words for a person, for what is no scope."""
    parts = [_part(each) for each in _BETWEEN.split(text)]
    seen = [(part.kind, part.tag) for part in parts]
    if len(set(seen)) < len(seen):
        raise ValueError("names one kind twice")
    if len(parts) > 1 and any(part.kind == "global" for part in parts):
        raise ValueError("global stands alone")
    only = parts[0] if len(parts) == 1 else None
    return Scope(
        parts=tuple(sorted(parts, key=lambda part: (KINDS.index(part.kind), part.tag))),
        kinds=frozenset(part.kind for part in parts),
        is_general=any(part.name == "*" or part.kind == "request" for part in parts),
        only_name=only.written if only is not None else None,
    )


def names_of(facts: Facts) -> list[str]:
    """Every scope of one part that names something of a call (``Scope.only_name``)."""
    named = [f"{kind}:{_escaped(getattr(facts, kind) or NOBODY)}" for kind in NAMED]
    return named + [f"tag:{tag}={_escaped(text or NOBODY)}" for tag, text in facts.tags]


def specificity(scope: str) -> int:
    """Of an account's scope: where its claims stand among the others."""
    return KINDS.index(scope.partition(":")[0].partition("+")[0])


def _part(text: str) -> Part:
    kind, colon, name = text.partition(":")
    if kind not in KINDS or (kind in ALONE) == bool(colon) or name != name.strip():
        raise ValueError(
            "must be global, call, request, or KIND:NAME or KIND:* with team, user, agent, key, model, provider, upstream"
            " or tag:NAME=VALUE; several joined by +"
        )
    if kind in ALONE:
        return Part(kind)
    tag = ""
    if kind == "tag":
        tag, equals, value = name.partition("=")
        name = value if equals else "*"
    if not name or (kind == "tag" and not tag):
        raise ValueError("lacks a name")
    if "*" in name and name != "*" and kind != "model":
        raise ValueError("takes * alone, not as a part of a name; only models can be patterns")
    return Part(kind, name, tag)


def _escaped(name: str) -> str:
    """A name that cannot be read as several parts."""
    return name.replace("%", "%25").replace("+", "%2B") if "+" in name else name


EVERY = {kind: parse_scope(f"{kind}:*") for kind in NAMED}
"""Scopes of which each name of a kind has its own account."""
