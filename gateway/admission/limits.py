"""Which limits does a call meet? Its facts, and the tokens that it likely takes -> uses, the most specific first.

Owns the rules by which limits apply; knows no store and no clock. Scopes are those of budgets, and so are the rules: ``team:NAME``
replaces ``team:*`` for that team, unit by unit; of two that come to the same scope (``team:a+model:*``, ``team:*+model:x``) the lower
one holds; a caller without a name counts as ``-``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter

from gateway.accounts import TOKENS, UNITS, Use
from gateway.admission.scopes import Facts, facts_of, parse_scope, specificity
from gateway.call import Caller
from gateway.value import value

REMEMBERED_CALLERS = 4096
WITHOUT = frozenset(("call", "request"))
"""Kinds of scopes that limits do not have: one call, or what belongs to one request, is over before a minute is."""


@value
class Limit:
    """One line of ``limits:``; 0 = of this unit there is no limit. ValueError for a scope that no limit can have."""

    name: str
    scope: str
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrent: int = 0

    def __post_init__(self) -> None:
        if parse_scope(self.scope).kinds & WITHOUT:
            raise ValueError("a limit is not on a single call or request")


class Limits:
    """Limits, compiled: the uses of a caller are put together once, and a call only fills in its tokens."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self.limits = tuple(limits)
        self._scoped = [
            (parse_scope(limit.scope), limit, unit, allowed)
            for limit in limits
            for unit in UNITS
            if (allowed := getattr(limit, unit))
        ]
        kinds = {kind for scope, *_ in self._scoped for kind in scope.kinds}
        self._of_caller = _getter(
            kinds, {"team": "team", "user": "user", "agent": "agent", "key": "key_name", "tag": "tags"}
        )
        self._of_way = _getter(kinds, {"model": "model", "provider": "provider", "upstream": "upstream"})
        self._known: dict[tuple[object, object], tuple[Use, ...]] = {}
        self.counts_tokens = any(limit.tokens_per_minute for limit in limits)
        """Whether it matters to any of them how many tokens a call takes."""

    def uses(self, caller: Caller, way: Facts, read: int = 0, written: int = 0) -> tuple[Use, ...]:
        """What one call uses of its limits. ``way``: model, provider, upstream. ``read`` and ``written`` are the tokens that it
        likely takes.
        """
        key = (self._of_caller(caller), self._of_way(way))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= REMEMBERED_CALLERS:
                self._known.clear()  # as in ``budgets``: callers are named by headers
            found = self._known[key] = self._compile(facts_of(caller, way))
        if not self.counts_tokens:
            return found
        return tuple([_with_tokens(use, read, written) if use.unit == TOKENS else use for use in found])

    def _compile(self, facts: Facts) -> tuple[Use, ...]:
        met = [(text, *each) for each in self._scoped if (text := each[0].of(facts)) is not None]
        named = {(text, unit) for text, scope, _, unit, _ in met if not scope.is_general}
        found: dict[tuple[str, str], Use] = {}
        for text, scope, limit, unit, allowed in met:
            if scope.is_general and (text, unit) in named:
                continue
            known = found.get((text, unit))
            if known is None or allowed < known.allowed:
                found[text, unit] = Use(text, unit, 1, allowed, limit.name)
        return tuple(sorted(found.values(), key=lambda use: (specificity(use.scope), UNITS.index(use.unit))))


def _with_tokens(use: Use, read: int, written: int) -> Use:
    """What is written is a guess, and alone keeps no call out for ever: it is cut to what the whole limit has room for."""
    return Use(use.scope, use.unit, max(1, read, min(read + written, use.allowed)), use.allowed, use.limit)


def _getter(kinds: Collection[str], fields: Mapping[str, str]) -> Callable[[object], object]:
    """Reads what of a caller or a way decides which limits a call meets."""
    names = [field for kind, field in fields.items() if kind in kinds]
    return attrgetter(*names) if names else _nothing


def _nothing(of: object) -> None:
    return None
