"""What a change brings with it: its body, read and held against what the route declares; the version that it means to change.

A handler that changes something begins with ``body = await body_of(request, SCHEMA)`` and goes on with what is right. All that is
wrong is a ``Refused``, which the guard answers: 413 for too much, 422 with the faults of each field, 412 for another version.
"""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import orjson
from aiohttp import ClientPayloadError, web

from gateway.admin.answers import Refused
from gateway.admin.shapes import Fault, Schema, faults

MAX_BODY_BYTES = 1 << 20
AT_ONCE_BYTES = 16 << 10
"""So much is read within the event loop: less than a millisecond. More is read in a thread."""
MAX_EXPONENT = 18
UNREADABLE = "must be JSON (RFC 8259), each name once"


async def body_of(request: web.Request, schema: Schema) -> dict[str, Any]:
    """The body, an object as ``schema`` has it; an empty body is ``{}``. Numbers with a fraction are Decimal, never float: money may
    be among them. Raises Refused.
    """
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refused(413, f"a body has at most {MAX_BODY_BYTES} bytes") from None
    except (ClientPayloadError, ConnectionError, web.PayloadAccessError):
        raise Refused(400, "the body could not be read to its end") from None
    if len(raw) <= AT_ONCE_BYTES:
        value, found = _checked(raw, schema)
    else:
        value, found = await asyncio.to_thread(_checked, raw, schema)
    if found:
        raise Refused(422, "the body is not right", found)
    return value


def expect_version(request: web.Request, version: int | None) -> None:
    """Hold If-Match (RFC 9110 13.1.1) against the version of what is there; None = nothing is. Raises Refused (412)."""
    wanted = request.if_match
    if wanted is None:
        return
    there = {"*", f"v{version}"} if version is not None else set()
    if not any(each.value in there and not each.is_weak for each in wanted):
        raise Refused(412, "it has been changed since: read it again, then change what is there now")


def etag_of(version: int) -> str:
    """The ETag of an entry: what ``expect_version`` is given back."""
    return f'"v{version}"'


def _checked(raw: bytes, schema: Schema) -> tuple[dict[str, Any], list[Fault]]:
    try:
        value = _parsed(raw) if raw.strip() else {}
    except (ValueError, ArithmeticError, RecursionError):
        return {}, [Fault("", UNREADABLE)]
    if not isinstance(value, dict):
        return {}, [Fault("", "must be an object")]
    return value, faults(schema, value)


def _parsed(raw: bytes) -> Any:
    """What is no JSON (NaN, half of a surrogate pair) orjson refuses; numbers stay exact in the other one."""
    orjson.loads(raw)
    return json.loads(raw, parse_float=_exact, object_pairs_hook=_once)


def _exact(text: str) -> int | Decimal:
    number = Decimal(text)
    is_whole = number.is_finite() and abs(number.adjusted()) <= MAX_EXPONENT and number == number.to_integral_value()
    return int(number) if is_whole else number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found
