"""Refusals, failures, and the one table that says what each of them means on the wire.

A *refusal* is a value: an expected answer to a call that may not proceed. A *failure* is an exception: something that
should have worked did not; it says what, whose fault, and whether trying again makes sense. An error of the provider is
neither: it is a response. The words that a client reads are the dialect's (``dialects/*.refuse``); the status, the code
and the retry advice are here, once.
"""

from __future__ import annotations

from enum import StrEnum

from gateway.value import value


class Kind(StrEnum):
    """Everything that the gateway itself can answer instead of a provider."""

    BUDGET_EXCEEDED = "budget_exceeded"
    BUDGET_HELD = "budget_held"
    RATE_LIMIT = "rate_limit_exceeded"
    AUTHENTICATION = "authentication_error"
    PERMISSION = "permission_error"
    MODEL_UNPRICED = "model_unpriced"
    MALFORMED_BODY = "malformed_body"
    MALFORMED_HEADER = "malformed_header"
    MALFORMED_REQUEST = "malformed_request"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TIMEOUT = "body_timeout"
    HEADER_TOO_LARGE = "header_too_large"
    UNKNOWN_ROUTE = "unknown_route"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_RESET = "upstream_reset"
    UPSTREAM_UNREADABLE = "upstream_unreadable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    STORE_UNAVAILABLE = "store_unavailable"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL = "internal_error"


class Whose(StrEnum):
    """Which side a failure belongs to."""

    FRONT = "front"
    UPSTREAM = "upstream"
    OURS = "ours"


@value
class Meaning:
    """One row of the table: HTTP status, OpenAI ``type`` and ``code``, Anthropic ``type``, and ``x-should-retry``."""

    status: int
    type: str
    code: str
    anthropic_type: str
    retry: bool


MEANINGS: dict[Kind, Meaning] = {
    Kind.BUDGET_EXCEEDED: Meaning(429, "insufficient_quota", "budget_exceeded", "rate_limit_error", retry=False),
    Kind.BUDGET_HELD: Meaning(429, "insufficient_quota", "budget_held", "rate_limit_error", retry=True),
    Kind.RATE_LIMIT: Meaning(429, "rate_limit_exceeded", "rate_limit_exceeded", "rate_limit_error", retry=True),
    Kind.AUTHENTICATION: Meaning(
        401, "authentication_error", "authentication_error", "authentication_error", retry=False
    ),
    Kind.PERMISSION: Meaning(403, "permission_error", "permission_error", "permission_error", retry=False),
    Kind.MODEL_UNPRICED: Meaning(403, "invalid_request_error", "model_unpriced", "permission_error", retry=False),
    Kind.MALFORMED_BODY: Meaning(400, "invalid_request_error", "malformed_body", "invalid_request_error", retry=False),
    Kind.MALFORMED_HEADER: Meaning(
        400, "invalid_request_error", "malformed_header", "invalid_request_error", retry=False
    ),
    Kind.MALFORMED_REQUEST: Meaning(
        400, "invalid_request_error", "malformed_request", "invalid_request_error", retry=False
    ),
    Kind.BODY_TOO_LARGE: Meaning(413, "invalid_request_error", "body_too_large", "request_too_large", retry=False),
    Kind.BODY_TIMEOUT: Meaning(408, "invalid_request_error", "body_timeout", "invalid_request_error", retry=False),
    Kind.HEADER_TOO_LARGE: Meaning(
        431, "invalid_request_error", "header_too_large", "invalid_request_error", retry=False
    ),
    Kind.UNKNOWN_ROUTE: Meaning(404, "invalid_request_error", "unknown_route", "not_found_error", retry=False),
    Kind.UPSTREAM_UNREACHABLE: Meaning(502, "upstream_error", "upstream_unreachable", "api_error", retry=True),
    Kind.UPSTREAM_RESET: Meaning(502, "upstream_error", "upstream_reset", "api_error", retry=True),
    Kind.UPSTREAM_UNREADABLE: Meaning(502, "upstream_error", "upstream_unreadable", "api_error", retry=True),
    Kind.UPSTREAM_TIMEOUT: Meaning(504, "upstream_error", "upstream_timeout", "api_error", retry=True),
    Kind.STORE_UNAVAILABLE: Meaning(503, "store_unavailable", "store_unavailable", "api_error", retry=True),
    Kind.SHUTTING_DOWN: Meaning(503, "upstream_error", "shutting_down", "api_error", retry=True),
    Kind.INTERNAL: Meaning(500, "internal_error", "internal_error", "api_error", retry=False),
}


WHEN: dict[Kind, str] = {
    Kind.BUDGET_EXCEEDED: "A budget has no room before it resets.",
    Kind.BUDGET_HELD: "Only calls that are still running stand in the way.",
    Kind.RATE_LIMIT: "A limit on requests, tokens or calls at a time has no room.",
    Kind.AUTHENTICATION: "A gateway key is asked for, and none came, or it is unknown, revoked or expired.",
    Kind.PERMISSION: "The gateway key may not do this: a team, a user, a model, an upstream or an address that is not its own.",
    Kind.MODEL_UNPRICED: "The model has no price, and metering.unpriced is refuse.",
    Kind.MALFORMED_BODY: "A budget applies and the body cannot be read.",
    Kind.MALFORMED_HEADER: "A name in a x-tollgate-* field cannot be taken.",
    Kind.MALFORMED_REQUEST: "No valid HTTP/1.1 message, or one that two parsers could read in two ways.",
    Kind.BODY_TOO_LARGE: "Larger than front.max_body_mb.",
    Kind.BODY_TIMEOUT: "No piece of the request's body came for front.body_timeout.",
    Kind.HEADER_TOO_LARGE: "Request line or fields larger than front.max_header_kb, or more than front.max_headers.",
    Kind.UNKNOWN_ROUTE: "No upstream answers this path.",
    Kind.UPSTREAM_UNREACHABLE: "The upstream refused, has no such name, or TLS failed.",
    Kind.UPSTREAM_RESET: "The upstream closed before it answered.",
    Kind.UPSTREAM_UNREADABLE: "The answer of the upstream was no HTTP.",
    Kind.UPSTREAM_TIMEOUT: "connect_timeout or first_byte_timeout passed.",
    Kind.STORE_UNAVAILABLE: "A budget applies and the store cannot be asked.",
    Kind.SHUTTING_DOWN: "The gateway is being stopped.",
    Kind.INTERNAL: "A bug of Tollgate's.",
}
"""When each is answered, for people who look at it afterwards."""


@value
class Excess:
    """The limit that a call would have gone past, in the limit's own ``unit`` (``accounts.UNITS``). ``limit`` is its name."""

    limit: str
    scope: str
    unit: str
    allowed: int
    used: int
    needed: int


@value
class Refusal:
    """The gateway's own answer to a call. ``message`` alone must tell a person what to do.

    Money is in nano-dollars, ``resets_at`` in Unix seconds (0 = does not apply), ``retry_after_ms`` is the wait after which
    there is room again (``rate_limit_exceeded``; 0 = never) or may be (``budget_held``).
    """

    kind: Kind
    message: str
    budget: str = ""
    scope: str = ""
    window: str = ""
    limit_nanousd: int = 0
    spent_nanousd: int = 0
    held_nanousd: int = 0
    needed_nanousd: int = 0
    resets_at: int = 0
    retry_after_ms: int = 0
    excess: Excess | None = None

    @property
    def may_retry(self) -> bool:
        """Whether the same call can have another answer soon: not one that is larger than a whole limit."""
        return MEANINGS[self.kind].retry and (self.kind is not Kind.RATE_LIMIT or self.retry_after_ms > 0)


class Failure(Exception):  # noqa: N818 - the word of the house for it
    """Something that should have worked did not. Never carries text that a client sent."""

    def __init__(self, kind: Kind, whose: Whose, message: str, *, may_retry: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.whose = whose
        self.message = message
        self.may_retry = may_retry

    def refusal(self) -> Refusal:
        """The failure as an answer, for as long as nothing has been sent yet."""
        return Refusal(self.kind, self.message)


RETRY_FIELDS = {
    "x-should-retry": "true or false; the official SDKs obey it before anything else.",
    "retry-after-ms": "rate_limit_exceeded: the milliseconds until there is room; budget_held: a short wait.",
    "retry-after": "The seconds until the budget resets, or until a limit has room.",
    "RateLimit-Policy": "The limit, its unit (a budget's is micro-dollars) and its window (draft-ietf-httpapi-ratelimit-headers).",
    "RateLimit": "What is left of it, and the seconds until there is room again.",
}
"""Fields of an error of ours beside those of every answer, each in a sentence for a reference."""
WINDOW_SECONDS = {"hour": 3600, "day": 86400, "week": 604800}
"""The length that a budget's window normally has; months and DST days differ, so ``w`` is left out or approximate."""


def retry_headers(refusal: Refusal, now: float) -> tuple[tuple[bytes, bytes], ...]:
    """What tells a client when to come back.

    ``x-should-retry`` is read by the official SDKs before anything else; a truthful long ``retry-after`` is harmless only
    beside ``false``. ``RateLimit`` fields follow draft-ietf-httpapi-ratelimit-headers; it defines no unit for money, so
    that ours is named: micro-dollars.
    """
    headers = [(b"x-should-retry", b"true" if refusal.may_retry else b"false")]
    if refusal.retry_after_ms:
        headers.append((b"retry-after-ms", b"%d" % refusal.retry_after_ms))
    if refusal.excess is not None:
        return (*headers, *_of_limit(refusal.excess, -(-refusal.retry_after_ms // 1000)))
    if refusal.kind is not Kind.BUDGET_EXCEEDED:
        return tuple(headers)
    left_s = max(1, int(refusal.resets_at - now)) if refusal.resets_at else 0
    if left_s:
        headers.append((b"retry-after", b"%d" % left_s))
    name = _quoted(f"{refusal.scope}/{refusal.window}")
    length_s = WINDOW_SECONDS.get(refusal.window)
    window = b";w=%d" % length_s if length_s else b""
    reset = b";t=%d" % left_s if left_s else b""
    left = max(0, refusal.limit_nanousd - refusal.spent_nanousd) // 1000
    headers.append((b"RateLimit-Policy", b'%b;q=%d;qu="micro-usd"%b' % (name, refusal.limit_nanousd // 1000, window)))
    headers.append((b"RateLimit", b"%b;r=%d%b" % (name, left, reset)))
    return tuple(headers)


POLICIES = {
    "requests_per_minute": b";w=60",
    "tokens_per_minute": b';qu="tokens";w=60',
    "concurrent": b';qu="concurrent-requests"',
}
"""Quota unit and window of each unit of a limit (draft-ietf-httpapi-ratelimit-headers, 4.1; it has no name for tokens)."""


def _of_limit(excess: Excess, left_s: int) -> tuple[tuple[bytes, bytes], ...]:
    name, left = _quoted(f"{excess.scope}/{excess.unit}"), max(0, excess.allowed - excess.used)
    wait = ((b"retry-after", b"%d" % left_s),) if left_s else ()
    return (
        *wait,
        (b"RateLimit-Policy", b"%b;q=%d%b" % (name, excess.allowed, POLICIES[excess.unit])),
        (b"RateLimit", b"%b;r=%d%b" % (name, left, b";t=%d" % left_s if left_s else b"")),
    )


def _quoted(name: str) -> bytes:
    """A String of structured fields (RFC 9651 3.3.3) in which nothing has to be escaped."""
    return b'"%b"' % name.encode("ascii", "replace").replace(b"\\", b"").replace(b'"', b"")
