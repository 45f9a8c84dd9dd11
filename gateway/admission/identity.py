"""Who asks? Header fields become a Caller, or a Refusal.

Owns the reading of the ``x-tollgate-*`` identity fields; knows no budget. Laws: a name that decides who pays is taken as
it was sent or refused, never cut or repaired (two spellings would be two purses); whatever leaves here is printable,
bounded and safe in a log line or a label; a refusal names the field and never repeats what was in it. An unusable
correlation id is replaced instead: it only ties calls together.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.call import Caller, Fields
from gateway.errors import Kind, Refusal
from pricing.money import parse_usd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.admission.keys import Key

MAX_CHARS = 128
MAX_TAGS = 16
NAMES = {
    "team": "x-tollgate-team",
    "user": "x-tollgate-user",
    "agent": "x-tollgate-agent",
    "call_type": "x-tollgate-call-type",
}
NOTHING_SAID = dict.fromkeys(NAMES, "")
NAMED = tuple((header.encode(), field) for field, header in NAMES.items())
TAGS, BUDGET, TRACEPARENT = b"x-tollgate-tags", b"x-tollgate-budget", b"traceparent"
CORRELATION = (b"x-correlation-id", b"x-request-id")
"""The first that can be used is taken."""
FIELDS = frozenset((*(name for name, _ in NAMED), TAGS, BUDGET, *CORRELATION, TRACEPARENT))
"""All that is read, by lower-case name (RFC 9110 5.1: names do not depend on case)."""
SAYS = {
    "x-tollgate-team": "Who spends: up to 128 letters of any script and printable ASCII.",
    "x-tollgate-user": "The user for whom the call is made; the same form.",
    "x-tollgate-agent": "The agent that makes it; the same form.",
    "x-tollgate-call-type": "A free label: routing, translation, and the like.",
    "x-tollgate-tags": "key=value, with commas, up to 16.",
    "x-tollgate-budget": "2.50/day, 0.10/call, 20/month/user: tightens the caller's own limits, never loosens them.",
    "x-correlation-id": "Ties the calls of one user request together; made if absent. Passed on.",
    "x-request-id": "The same, where there is no x-correlation-id. Passed on.",
    "traceparent": "W3C Trace Context: the span that the call is a part of. Passed on.",
}
"""What each field is for, in a sentence for a reference."""
_PLAIN = re.compile(rb"[!-~](?:[ -~]{0,126}[!-~])?")
_LIMIT = re.compile(rb"([0-9]{1,7}(?:\.[0-9]{1,9})?)/(call|hour|day|week|month|total)(?:/(user|team|agent))?")
MAX_LIMITS = 8
_ID = re.compile(rb"[!-~]{1,128}")
_TAG_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ZERO_TRACE = b"0" * 32
_ZERO_PARENT = b"0" * 16


class _UnusableError(ValueError):
    """Why a value cannot be taken, in words that hold nothing of it."""


def identify(fields: Fields, new_id: str, key: Key | None = None) -> Caller | Refusal:
    """The caller of a request. ``new_id`` ties the call to nothing but itself where the client ties it to nothing. The team and
    the user of a gateway key are the caller's: the request may say the same or nothing.
    """
    values = NOTHING_SAID.copy()
    tags: tuple[tuple[str, str], ...] = ()
    limits: tuple[tuple[int, str, str], ...] = ()
    name = b""
    try:
        for name, field in NAMED:
            if name in fields:
                found = fields[name]
                values[field] = clean(found[0]) if len(found) == 1 else _only(found)
        if key is not None and (refusal := _own(key, values)) is not None:
            return refusal
        name = TAGS
        if name in fields:
            tags = _tags(fields[name])
        name = BUDGET
        if name in fields:
            limits = _limits(fields[name], values)
    except _UnusableError as fault:
        return Refusal(Kind.MALFORMED_HEADER, f"The header {name.decode()} {fault}.")
    trace_id = parent_span_id = sampled = ""
    if TRACEPARENT in fields:
        trace_id, parent_span_id, sampled = _trace(fields[TRACEPARENT])
    return Caller(
        values["team"],
        values["user"],
        values["agent"],
        values["call_type"],
        _correlation_id(fields) or trace_id or new_id,
        trace_id,
        parent_span_id,
        sampled,
        tags,
        key.name if key is not None else "",
        limits,
    )


def _own(key: Key, values: dict[str, str]) -> Refusal | None:
    """Put the names of a key where the caller's are; a refusal where they are others."""
    for field, owned in (("team", key.team), ("user", key.user)):
        if owned and values[field] not in ("", owned):
            return Refusal(
                Kind.PERMISSION,
                f"The header {NAMES[field]} names another {field} than the one that the gateway key '{key.name}' belongs to."
                " Leave it out.",
            )
        if owned:
            values[field] = owned
    return None


def _only(values: Sequence[bytes]) -> str:
    """The one value of a field that may stand there twice only if it says the same twice."""
    name = clean(values[0])
    if len(values) > 1 and any(clean(value) != name for value in values[1:]):
        raise _UnusableError("is there more than once, with different values")
    return name


@lru_cache(maxsize=4096)  # the same few names come with every call: 0.1 us instead of 0.5
def clean(value: bytes) -> str:
    """A name as text: printable ASCII, or letters of any script in UTF-8. Blank is absent. ValueError in words without it."""
    if _PLAIN.fullmatch(value):
        return value.decode("ascii")
    value = value.strip(b" \t")  # RFC 9110 5.5: not part of the value
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise _UnusableError("is not UTF-8") from None
    if len(text) > MAX_CHARS:
        raise _UnusableError(f"is longer than {MAX_CHARS} characters")
    if not all(" " <= char <= "~" or (char > "~" and char.isalpha()) for char in text):
        raise _UnusableError("holds something else than letters and printable ASCII")
    return text


def _tags(values: Sequence[bytes]) -> tuple[tuple[str, str], ...]:
    """``k=v,k=v``. Several fields are one list, and empty elements of a list do not count (RFC 9110 5.3, 5.6.1)."""
    tags: dict[str, str] = {}
    for part in b",".join(values).split(b","):
        if not part.strip(b" \t"):
            continue
        key_bytes, equals, value = part.partition(b"=")
        key = key_bytes.strip(b" \t").decode("ascii", "replace")
        if not equals or not _TAG_KEY.fullmatch(key):
            raise _UnusableError("is not a list like key=value,key=value")
        if key in tags:
            raise _UnusableError("names a key twice")
        if len(tags) == MAX_TAGS:
            raise _UnusableError(f"has more than {MAX_TAGS} tags")
        tags[key] = clean(value)
    return tuple(tags.items())


def _limits(values: Sequence[bytes], names: dict[str, str]) -> tuple[tuple[int, str, str], ...]:
    """``2.50/day``, ``0.10/call``, ``20/month/user``, several in a list; without a scope the user's if there is one, else the
    team's.
    """
    found: list[tuple[int, str, str]] = []
    for part in b",".join(values).split(b","):
        match = _LIMIT.fullmatch(part.strip(b" \t"))
        if match is None or len(found) == MAX_LIMITS:
            raise _UnusableError("is not a list of limits like 2.50/day or 20/month/user")
        amount, window, kind = (each.decode() if each is not None else "" for each in match.groups())
        found.append((parse_usd(amount), window, kind or ("user" if names["user"] else "team")))
    return tuple(found)


def _correlation_id(fields: Fields) -> str:
    """The client's own id, "" when there is none that could be sent back in a header."""
    for name in CORRELATION:
        if name in fields:
            for value in fields[name]:
                if _ID.fullmatch(value):
                    return value.decode("ascii")
    return ""


def _trace(values: Sequence[bytes]) -> tuple[str, str, str]:
    """Trace id, parent id and the sampled flag of a valid ``traceparent`` (W3C Trace Context 3.2); "" for anything else,
    twice the field included.
    """
    match = _TRACEPARENT.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return "", "", ""
    version, trace_id, parent_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more) or trace_id == _ZERO_TRACE or parent_id == _ZERO_PARENT:
        return "", "", ""
    return trace_id.decode("ascii"), parent_id.decode("ascii"), "1" if int(flags, 16) & 1 else "0"
