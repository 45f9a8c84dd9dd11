"""Which header fields do not travel, and how the two heads are written.

Three lists with their reasons, and two functions that write a request head for the upstream and a response head for the
front. Everything that is not on a list goes through as it came: order, duplicates, case and bytes.
"""

from __future__ import annotations

from gateway.call import Headers

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
VIA = b"Via: 1.1 tollgate\r\n"  # RFC 9110 7.6.3: a gateway must; a pseudonym without a version is allowed


def first(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first field of that (lower-case) name."""
    for field, value in headers:
        if field.lower() == name:
            return value
    return None


def has_token(headers: Headers, name: bytes, token: bytes) -> bool:
    """Whether a comma-separated field holds a token (both lower-case)."""
    for field, value in headers:
        if field.lower() == name and token in [part.strip() for part in value.lower().split(b",")]:
            return True
    return False


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    named: set[bytes] = set()
    for field, value in headers:
        if field.lower() == b"connection":
            named.update(part.strip() for part in value.lower().split(b","))
    return frozenset(named - FRAMING)


def request_head(
    method: str,
    target: bytes,
    headers: Headers,
    *,
    host: bytes,
    credential: tuple[bytes, bytes] | None,
    length: int | None,
    upgrade: bool = False,
    traceparent: bytes = b"",
) -> bytes:
    """The request head for an upstream.

    ``length`` is the body's length when it is known to differ from what the headers say (a chunked upload that was read
    whole), -1 for a body of unknown length, None to leave the framing as it stands. ``credential`` replaces the caller's
    own ``Authorization``, ``x-api-key`` and ``x-goog-api-key``; ``traceparent`` replaces the caller's, or stands where there
    was none.
    """
    lines = [method.encode("ascii"), b" ", target, b" HTTP/1.1\r\n"]
    named = _named_by_connection(headers)
    trailers = False
    for field, value in headers:
        name = field.lower()
        if name in NOT_FORWARDED or name in named or name.startswith(OURS):
            trailers = trailers or (name == b"te" and b"trailers" in value.lower())
            continue
        if name == b"host":
            value = host  # noqa: PLW2901 - the field keeps its place and its case
        elif (
            (credential is not None and name in CREDENTIALS)
            or (name == b"content-length" and length is not None)
            or (traceparent and name == b"traceparent")
        ):
            continue
        lines += (field, b": ", value, b"\r\n")
    if credential is not None:
        lines += (credential[0], b": ", credential[1], b"\r\n")
    if traceparent:
        lines += (b"traceparent: ", traceparent, b"\r\n")
    if length is not None:
        lines.append(b"Transfer-Encoding: chunked\r\n" if length < 0 else b"Content-Length: %d\r\n" % length)
    if upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    elif trailers:
        lines.append(b"TE: trailers\r\nConnection: TE\r\n")
    lines += (VIA, b"\r\n")
    return b"".join(lines)


CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key"))
"""Where callers put a provider's key; dropped when the config supplies its own."""


def response_head(
    status: int,
    reason: bytes,
    headers: Headers,
    *,
    chunked: bool,
    close: bool,
    extra: Headers = (),
    upgrade: bool = False,
) -> bytes:
    """The response head for the front: the upstream's fields as they came, then ours.

    ``chunked`` writes ``Transfer-Encoding: chunked``, in the place where the upstream had it if it had it.
    """
    lines = [b"HTTP/1.1 %d " % status, reason, b"\r\n"]
    named = _named_by_connection(headers)
    for field, value in headers:
        name = field.lower()
        if name in HOP_BY_HOP or name in named:
            if chunked and name == b"transfer-encoding":
                chunked = False
                lines += (field, b": chunked\r\n")
            elif upgrade and name in {b"connection", b"upgrade"}:
                lines += (field, b": ", value, b"\r\n")
            continue
        lines += (field, b": ", value, b"\r\n")
    for field, value in extra:
        lines += (field, b": ", value, b"\r\n")
    if chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    if close:
        lines.append(b"Connection: close\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)
