"""What the admin API's changes take and answer, and who carries them out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from gateway.admin.schemas import (
    NANOUSD,
    REASON,
    TEXT,
    TEXT_OR_NULL,
    TIME_OR_NULL,
    USD,
    WHOLE,
    listed,
    money,
    or_null,
    shape,
)
from gateway.admin.shapes import Schema
from gateway.changes import Asked
from gateway.value import value

Row = Mapping[str, Any]
Wanted = Mapping[str, Any]


@value
class Decisions:
    """Who carries it out. All raise Denied, and Failure while the store cannot be asked."""

    mode: Callable[[], str]
    """``auth.mode``."""
    keys: Callable[[str], Awaitable[Sequence[Row]]]
    """Gets what to search for."""
    create_key: Callable[[Asked, Wanted], Awaitable[Row]]
    rotate_key: Callable[[Asked, str, Wanted], Awaitable[Row]]
    revoke_key: Callable[[Asked, str], Awaitable[Row]]
    set_budget: Callable[[Asked, str, Wanted], Awaitable[tuple[Row, bool]]]
    """The row, and whether it is new."""
    unset_budget: Callable[[Asked, str], Awaitable[Row | None]]
    reset_budget: Callable[[Asked, str, str], Awaitable[Row]]
    annotations: Callable[[str, str], Awaitable[Sequence[Row]]]
    """Gets since and until."""
    for_grafana: Callable[[Row], Row]
    annotate: Callable[[Asked, Wanted], Awaitable[Row]]
    remove_annotation: Callable[[Asked, str], Awaitable[Row]]
    changes: Callable[[int, str], Awaitable[tuple[Sequence[Row], str | None]]]
    page: Callable[[Sequence[Row], int, str], tuple[Sequence[Row], str | None]]


def _body(properties: Mapping[str, Schema], required: Sequence[str] = ()) -> Schema:
    found: dict[str, Any] = {
        "type": "object",
        "properties": {**properties, "reason": REASON},
        "additionalProperties": False,
    }
    return found | ({"required": list(required)} if required else {})


def _choice(*words: str) -> Schema:
    return {"type": ["string", "null"], "enum": [*words, None]}


_NAME: Schema = {"type": ["string", "null"], "maxLength": 128}
_TEXTS: Schema = {"type": ["array", "null"], "items": {"type": "string", "minLength": 1}, "uniqueItems": True}
_MONEY: Schema = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": 9_000_000},
        {
            "type": "string",
            "pattern": "^[0-9]{1,7}([.][0-9]{1,9})?$",
            "description": "must be dollars above 0, such as 10 or 2.50",
        },
    ],
    "description": "Dollars, with at most nine places.",
}
_EXPIRES: Schema = {"type": ["string", "null"], "description": "A day (UTC), a time, or so long from now: 90d."}
_LIMIT: dict[str, Schema] = {
    "limit_usd": _MONEY,
    "window": _choice("hour", "day", "week", "month", "total"),
    "mode": _choice("hard", "strict", "soft", "shadow"),
    "timezone": {"type": ["string", "null"], "description": "IANA time zone: Europe/Berlin."},
    "week_start": _choice("monday", "saturday", "sunday"),
    "notify_at": {
        "type": ["array", "null"],
        "items": {"type": "integer", "minimum": 1, "maximum": 1000},
        "maxItems": 20,
    },
    "on_exhausted": _choice("finish", "cut"),
    "lost": _choice("hold", "estimate"),
}
NEW_KEY = _body(
    {
        "name": {"type": "string", "minLength": 1, "maxLength": 128},
        "team": _NAME,
        "user": _NAME,
        "models": _TEXTS,
        "upstreams": _TEXTS,
        "cidr": _TEXTS,
        "expires": _EXPIRES,
        "budget": {
            "type": ["object", "null"],
            "properties": _LIMIT,
            "required": ["limit_usd"],
            "additionalProperties": False,
        },
    },
    ["name"],
)
ROTATE = _body(
    {
        "overlap": {"type": ["string", "null"], "description": "How long the old key is good still: 24h."},
        "expires": _EXPIRES,
    }
)
SET_BUDGET = _body(
    {"scope": {"type": ["string", "null"], "description": "Whose spend: team:search, user:*."}, **_LIMIT}
)
RESET = _body(
    {"scope": {"type": ["string", "null"], "description": "Of a budget that is one for each: which account."}}
)
ANNOTATION = _body(
    {
        "text": {"type": "string", "minLength": 1, "maxLength": 1000},
        "at": {"type": ["string", "null"], "description": "A time; now where it is left out."},
        "until": {"type": ["string", "null"], "description": "When it was over."},
        "tags": {
            "type": ["array", "null"],
            "items": {"type": "string", "minLength": 1, "maxLength": 64},
            "maxItems": 10,
            "uniqueItems": True,
        },
    },
    ["text"],
)
NOTHING = _body({})

_VERSION: Schema = {
    "type": ["integer", "null"],
    "description": "Of the run-time entry; also its ETag, v12. Null: it is the config's.",
}
_KEY: dict[str, Schema] = {
    "id": TEXT,
    "name": TEXT,
    "team": TEXT,
    "user": TEXT,
    "models": listed(TEXT),
    "upstreams": listed(TEXT),
    "cidr": listed(TEXT),
    "expires": TEXT_OR_NULL,
    "state": {"type": "string", "enum": ["active", "expired", "revoked"]},
    "source": {"type": "string", "enum": ["config", "runtime"]},
    "created_at": TIME_OR_NULL,
    "created_by": TEXT_OR_NULL,
    "revoked_at": TIME_OR_NULL,
    "revoked_by": TEXT_OR_NULL,
    "replaced_by": TEXT_OR_NULL,
    "hash": {"type": "string", "description": "The first 12 hex digits of its SHA-256."},
    "version": _VERSION,
    "note": TEXT,
}
KEY = shape("Key", _KEY, optional=("note",))
KEYS = shape("Keys", {"keys": listed(KEY), "next": TEXT_OR_NULL, "mode": TEXT})
MADE_KEY = shape(
    "MadeKey",
    {
        "key": {"type": "string", "description": "The key itself, in this answer and nowhere else."},
        **_KEY,
        "budget": TEXT,
        "replaces": TEXT,
    },
    optional=("note", "budget", "replaces"),
)
BUDGET_DEFINITION = shape(
    "BudgetDefinition",
    {
        "budget": TEXT,
        "scope": TEXT,
        "window": TEXT,
        "mode": TEXT,
        "timezone": TEXT,
        "week_start": TEXT,
        "notify_at": listed(WHOLE),
        "on_exhausted": TEXT,
        "lost": TEXT,
        "limit_nanousd": NANOUSD,
        "limit_usd": USD,
        "source": TEXT_OR_NULL,
        "version": _VERSION,
        "reason": TEXT_OR_NULL,
        "changed_by": TEXT_OR_NULL,
        "changed_at": TIME_OR_NULL,
        "account": TEXT,
        "window_id": TEXT,
        **money("spent", "held", "remaining", "forgiven"),
        "resets_at": TIME_OR_NULL,
    },
    optional=("account", "window_id", "resets_at", *money("spent", "held", "remaining", "forgiven")),
)
UNSET_BUDGET = {"anyOf": [BUDGET_DEFINITION, shape("NoBudget", {"budget": TEXT, "source": {"type": "null"}})]}
ANNOTATION_ROW = shape(
    "Annotation",
    {
        "id": TEXT,
        "at": TEXT,
        "until": TEXT_OR_NULL,
        "text": TEXT,
        "tags": listed(TEXT),
        "by": TEXT,
        "version": WHOLE,
    },
)
ANNOTATIONS = shape("Annotations", {"annotations": listed(ANNOTATION_ROW), "next": TEXT_OR_NULL})
FOR_GRAFANA = listed(
    shape(
        "GrafanaAnnotation",
        {"time": WHOLE, "timeEnd": {"type": ["integer", "null"]}, "title": TEXT, "text": TEXT, "tags": listed(TEXT)},
    )
)
CHANGES = shape(
    "Changes",
    {
        "changes": listed(
            shape(
                "Change",
                {
                    "revision": WHOLE,
                    "at": TEXT,
                    "by": TEXT,
                    "action": TEXT,
                    "target": TEXT,
                    "before": or_null({"type": "object"}),
                    "after": or_null({"type": "object"}),
                    "reason": TEXT,
                },
            )
        ),
        "next": TEXT_OR_NULL,
    },
)
