"""The query of a request against the parameters that its route declares: what nobody declared would be silently left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from multidict import MultiMapping

from gateway.admin.answers import Refused
from gateway.admin.routes import Parameter
from gateway.admin.shapes import Schema, faults, near

MAX_LIST = 500
DEFAULT_LIST = 50
LIMIT = Parameter(
    "limit",
    "The most that is listed at once.",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIST, "default": DEFAULT_LIST},
)
CURSOR = Parameter("cursor", "Where the list goes on: `next` of the page before.", {"type": "string", "maxLength": 500})
_WHOLE = re.compile(r"-?[0-9]{1,15}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
NOTHING: Schema = {"type": "string", "maxLength": 0}
DAY: Schema = {"anyOf": [{"type": "string", "format": "date"}, NOTHING]}
MOMENT: Schema = {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}, NOTHING]}
"""For ``moment``: checked there, since only a calendar knows whether there is such a day. Empty is as if it was not there."""


def check(declared: Sequence[Parameter], query: MultiMapping[str]) -> None:
    """Raises Refused (400) for an unknown parameter, one that stands twice, and a value that is not what it may be."""
    known = {each.name: each for each in declared}
    for name in query:
        if name not in known:
            raise Refused(400, f"there is no such parameter; {near(name, known)}")
    for name, parameter in known.items():
        values = query.getall(name, [])
        if len(values) > 1 and not parameter.repeated:
            raise Refused(400, f"{name} can be asked for once")
        for text in values:
            found = faults(parameter.schema, _read(parameter.schema, text))
            if found:
                raise Refused(400, f"{name} {found[0].message}")


def limit_of(query: Mapping[str, str]) -> int:
    """How many to list; checked before."""
    return int(query.get("limit", DEFAULT_LIST))


def moment(query: Mapping[str, str], name: str) -> str:
    """A day (UTC, its beginning) or a time of RFC 3339, as records write it: RFC 3339 in UTC with milliseconds. "" where it is
    not asked for. Raises Refused (400).
    """
    text = query.get(name, "").strip()
    if not text:
        return ""
    text = text.upper().replace(" ", "+")  # a plus sign that was not encoded arrives as a space
    try:
        found = datetime.fromisoformat(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)
        if found.tzinfo is None:
            raise ValueError
        return found.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except ValueError:
        message = f"{name} must be a day such as 2026-11-21 (UTC) or a time such as 2026-11-21T12:00:00Z"
        raise Refused(400, message) from None
    except OverflowError:  # a time zone took it beyond the years that there are
        raise Refused(400, f"{name} is in no year that can be asked for") from None


def _read(schema: Schema, text: str) -> Any:
    """The text of a parameter as the type that its schema names; as it is where it is none."""
    kind = schema.get("type")
    if kind == "integer":
        return int(text) if _WHOLE.fullmatch(text) else text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return text
