"""Which header fields do not travel, and how the two heads are written.

Three lists with their reasons, the note that is taken of a head when it comes, and two functions that write a request head for the
upstream and a response head for the front. Everything that is not on a list goes through as it came: order, duplicates, case and bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from gateway.call import Fields, Headers

HOP_BY_HOP = frozenset(
    (
        b"connection",  # RFC 9110 7.6.1: must be removed or replaced, with every field that it names
        b"proxy-connection",  # RFC 9110 7.6.1: never standard, still sent
        b"keep-alive",  # RFC 9110 7.6.1
        b"te",  # RFC 9110 10.1.4: what the next hop may send; we ask for trailers ourselves
        b"transfer-encoding",  # RFC 9112 6.1: the framing of one hop
        b"upgrade",  # RFC 9110 7.8: websocket.py writes its own
    )
)
FOR_US = frozenset(
    (
        b"expect",  # RFC 9110 10.1.1: answered by the front, the body is already on its way
        b"proxy-authorization",  # RFC 9110 11.7.2: meant for the next proxy, and it is a secret
    )
)
OURS = b"x-tollgate-"
"""Prefix of the fields that speak to the gateway; a provider never sees them."""
FRAMING = frozenset((b"content-length", b"host", b"content-type", b"content-encoding"))
"""Fields that ``Connection`` may not name away (RFC 9110 7.6.1: a sender must not list fields meant for all recipients)."""

NOT_FORWARDED = HOP_BY_HOP | FOR_US
STAYS_OR_GOES = NOT_FORWARDED | FRAMING | frozenset((b"close",))
"""Names that ``Connection`` changes nothing about."""
CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key"))
"""Where callers put a provider's key; dropped when the config supplies its own."""
VIA = (b"Via", b"1.1 tollgate")  # RFC 9110 7.6.3: a gateway must; a pseudonym without a version is allowed


MEANT = (
    NOT_FORWARDED
    | FRAMING
    | CREDENTIALS
    | frozenset((b"traceparent", b"x-correlation-id", b"x-request-id", b"idempotency-key"))
)
"""All fields that somebody here asks for; those that begin with ``OURS`` as well."""
NOTHING: frozenset[bytes] = frozenset()
FORWARDED = MEANT - NOT_FORWARDED
"""Those of them that travel."""
MAX_SPELLINGS = 1024
MAX_SPELLING = 64


class _Names(dict[bytes, bytes]):
    """Spelling -> the lower-case name of a field that is meant, and b"" for all others. Callers spell as they like, so that there is
    an end to what is remembered.
    """

    def __missing__(self, spelling: bytes) -> bytes:
        name = spelling.lower()
        name = name if name in MEANT or name.startswith(OURS) else b""
        if len(self) < MAX_SPELLINGS and len(spelling) <= MAX_SPELLING:
            self[spelling] = name
        return name


_names = _Names()


def noted(headers: Headers) -> Fields:
    """The fields that are meant, by lower-case name: gone through once, where each question went through all of them (5 us a call)."""
    fields: dict[bytes, list[bytes]] = {}
    for spelling, value in headers:
        name = _names[spelling]
        if name:
            if name in fields:
                fields[name].append(value)
            else:
                fields[name] = [value]
    return fields


def value_of(fields: Fields, name: bytes) -> bytes | None:
    """The value of the first field of that (lower-case) name, one of ``MEANT``."""
    values = fields.get(name)
    return values[0] if values is not None else None


def names_token(fields: Fields, name: bytes, token: bytes) -> bool:
    """Whether a comma-separated field, one of ``MEANT``, holds a token (both lower-case)."""
    values = fields.get(name)
    return values is not None and any(token in _listed(value) for value in values)


def first(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first field of that (lower-case) name, whichever it is."""
    for field, value in headers:
        if field.lower() == name:
            return value
    return None


def _listed(value: bytes) -> frozenset[bytes]:
    return _split(value) if len(value) <= MAX_SPELLING else _split.__wrapped__(value)


@lru_cache(maxsize=256)
def _split(value: bytes) -> frozenset[bytes]:
    return frozenset([part.strip() for part in value.lower().split(b",")])


def _named_by_connection(fields: Fields) -> frozenset[bytes]:
    """What does not travel because this hop's ``Connection`` says so. Empty as a rule: what it names mostly never travels."""
    if b"connection" not in fields:
        return NOTHING
    return NOTHING.union(*map(_listed, fields[b"connection"])) - STAYS_OR_GOES


def request_head(
    method: str,
    target: bytes,
    headers: Headers,
    fields: Fields,
    *,
    host: bytes,
    credential: tuple[bytes, bytes] | None,
    length: int | None,
    upgrade: bool = False,
    traceparent: bytes = b"",
) -> bytes:
    """The request head for an upstream; ``fields`` are the ``noted`` of ``headers``.

    ``length`` is the body's length when it is known to differ from what the headers say (a chunked upload that was read
    whole), -1 for a body of unknown length, None to leave the framing as it stands. ``credential`` replaces the caller's
    own ``Authorization``, ``x-api-key`` and ``x-goog-api-key``; ``traceparent`` replaces the caller's, or stands where there
    was none.
    """
    pairs: list[tuple[bytes, bytes]] = []
    if b"host" not in fields:  # HTTP/1.0 knows none, and this hop needs one (RFC 9112 3.2)
        pairs.append((b"Host", host))
    named = _named_by_connection(fields)
    for pair in headers:
        name = _names[pair[0]]
        if name:
            if name not in FORWARDED:
                continue
            if name == b"host":
                pairs.append((pair[0], host))  # the field keeps its place and its case
                continue
            if (
                (credential is not None and name in CREDENTIALS)
                or (length is not None and name == b"content-length")
                or (traceparent and name == b"traceparent")
            ):
                continue
        if named and pair[0].lower() in named:
            continue
        pairs.append(pair)
    if credential is not None:
        pairs.append(credential)
    if traceparent:
        pairs.append((b"traceparent", traceparent))
    if length is not None:
        pairs.append((b"Transfer-Encoding", b"chunked") if length < 0 else (b"Content-Length", b"%d" % length))
    if upgrade:
        pairs += ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
    elif b"te" in fields and any(b"trailers" in value.lower() for value in fields[b"te"]):
        pairs += ((b"TE", b"trailers"), (b"Connection", b"TE"))
    pairs.append(VIA)
    return _head(b"%b %b HTTP/1.1" % (method.encode("ascii"), target), pairs)


def response_head(
    status: int,
    reason: bytes,
    headers: Headers,
    fields: Fields,
    *,
    chunked: bool,
    close: bool,
    extra: Headers = (),
    upgrade: bool = False,
) -> bytes:
    """The response head for the front: the upstream's fields as they came, then ours; ``fields`` are the ``noted`` of ``headers``.

    ``chunked`` writes ``Transfer-Encoding: chunked``, in the place where the upstream had it if it had it.
    """
    if HOP_BY_HOP.isdisjoint(fields):
        pairs = [*headers, *extra]
    else:
        pairs = _end_to_end(headers, fields, chunked=chunked, upgrade=upgrade)
        pairs += extra
        chunked = chunked and b"transfer-encoding" not in fields
    if chunked:
        pairs.append((b"Transfer-Encoding", b"chunked"))
    if close:
        pairs.append((b"Connection", b"close"))
    return _head(b"HTTP/1.1 %d %b" % (status, reason), pairs)


def _end_to_end(headers: Headers, fields: Fields, *, chunked: bool, upgrade: bool) -> list[tuple[bytes, bytes]]:
    """An answer's fields without those of its hop, but for what the next hop says in their place."""
    pairs: list[tuple[bytes, bytes]] = []
    named = _named_by_connection(fields)
    for pair in headers:
        name = _names[pair[0]]
        if name in HOP_BY_HOP or (named and pair[0].lower() in named):
            if chunked and name == b"transfer-encoding":
                chunked = False
                pairs.append((pair[0], b"chunked"))
            elif upgrade and name in {b"connection", b"upgrade"}:
                pairs.append(pair)
            continue
        pairs.append(pair)
    return pairs


def _head(first_line: bytes, pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A head with the empty line at its end."""
    return b"\r\n".join([first_line, *map(b": ".join, pairs), b"", b""])
