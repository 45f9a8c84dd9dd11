"""The Call: all that is known of one call, one field a step; and the Record, the same, flattened.

Each step of a call fills one field and no other (``ARCHITECTURE.md`` has the table). The values are frozen; the Call is
plain slots, because a write-once ``__setattr__`` costs more than everything else here (a test wraps it in one instead).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

import orjson

from gateway.accounts import Claim, Hold, Use
from gateway.errors import Refusal
from gateway.value import value
from pricing.money import Cost
from pricing.usage import Usage

CORRECTED = "corrected"
"""The outcome of a record that holds only the difference to an earlier one: its cost may be negative."""
ROOT, ADMIT, UPSTREAM, METER = range(4)
"""The spans of a call."""
Headers = Sequence[tuple[bytes, bytes]]
"""Header fields as received: order, duplicates and case kept."""
Fields = Mapping[bytes, Sequence[bytes]]
"""Those of them that somebody here asks for, by lower-case name: the values in order (``wire.headers.noted``)."""


@value
class Request:
    """What arrived, never changed afterwards. ``body`` is None when it is streamed through and not kept.

    ``target`` is the origin-form target as received; ``upstream_target`` is what follows the route's prefix, byte for byte.
    """

    method: str
    target: str = field(repr=False)  # as headers and bodies: a repr shows neither keys nor what was said
    headers: Headers = field(repr=False)
    fields: Fields = field(repr=False)
    """What was noted of them."""
    upstream: str
    protocol: str
    upstream_target: str = field(repr=False)
    provider: str = ""
    body: bytes | None = field(default=None, repr=False)
    priced_as: str = ""
    """The model of the book that the config names for this one."""
    sent_body: bytes | None = field(default=None, repr=False)
    """What is sent in its place, where the config allows to touch it."""
    traceparent: bytes = b""
    """What replaces the caller's, where the config allows it."""
    of_one_account: bool = False
    """Where the upstream has several keys: whether only the first of them will do (``dialects/account.py``)."""
    received_ns: int = 0
    """Monotonic nanoseconds when everything that is read before sending had arrived."""


@value
class Ask:
    """What is asked for, as far as the dialect could read it.

    ``fault`` says why the body could not be read (it is then the provider's to judge, unless a budget needs the answer).
    ``max_output_tokens`` is the caller's own bound per choice, None when there is none. ``input_bytes`` bounds the tokens of
    the text from above (one token of a byte-level vocabulary covers at least one byte); ``media_bytes`` of them are no
    text. Images and hidden prompts add ``extra_tokens``, likely ``likely_extra_tokens``. Where the body only names what is
    read (files, earlier answers, what tools bring in), ``open_input`` says that nothing in it bounds the input.
    """

    operation: str
    metered: bool
    model: str = ""
    stream: bool = False
    choices: int = 1
    max_output_tokens: int | None = None
    input_bytes: int = 0
    service_tier: str = ""
    fault: str = ""
    media_bytes: int = 0
    extra_tokens: int = 0
    likely_extra_tokens: int = 0
    open_input: bool = False
    searches: int = 0
    seconds: int = 0
    """Of sound, at the most."""
    likely_seconds: int = 0
    characters: int = 0
    """Of text to be spoken."""
    images: int = 0
    """To be made."""


@value
class Bound:
    """Nano-dollars: the expected cost, and the cost that the call cannot exceed. Rates in femto-dollars a token of output."""

    likely_nanousd: int
    most_nanousd: int
    likely_input_nanousd: int = 0
    output_femto: int = 0


@value
class Caller:
    """Who asks. All values are clean: printable, bounded, safe in a log line or a label."""

    team: str = ""
    user: str = ""
    agent: str = ""
    call_type: str = ""
    correlation_id: str = ""
    trace_id: str = ""
    parent_span_id: str = ""
    """Of the caller's ``traceparent``: the span that this call is a part of."""
    sampled: str = ""
    """What that says of sampling: "1", "0", or nothing."""
    tags: tuple[tuple[str, str], ...] = ()
    key_name: str = ""
    limits: tuple[tuple[int, str, str], ...] = ()
    """What it wishes itself: (nano-dollars, window or ``call``, kind of scope)."""


@value
class Ending:
    """How the exchange with the upstream went. Times are monotonic nanoseconds; 0 = did not happen.

    ``outcome`` is one of completed, client_disconnected, upstream_error, refused, cut, lost. ``status`` is what the client
    was sent (0 = nothing).
    """

    outcome: str
    status: int = 0
    error_type: str = ""
    upstream: str = ""
    attempts: int = 0
    sent_ns: int = 0
    first_byte_ns: int = 0
    ended_ns: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    provider_key: str = ""
    """The name of the key that the upstream was shown, where it has several."""


@value
class Metered:
    """What was used, and who says so: ``source`` is provider, counted, estimated, or "" when nothing is billed.

    ``method`` names how (``usage``, ``o200k_base``, ``bytes``...); ``raw`` is the provider's own usage object as it came.
    """

    usage: Usage
    source: str = ""
    method: str = ""
    model_served: str = ""
    service_tier: str = ""
    raw: dict[str, Any] | None = None
    largest_input: int = 0
    """Of a usage that is the sum of several requests: the input tokens of the largest. A price for long contexts goes by what
    one request reads. 0 where it is one request."""
    awaits: str = ""
    """What the provider calls an answer that is still being written: its usage is an estimate until it is fetched."""


@value
class Receipt:
    """The books are right: what the store booked for this call."""

    call_id: str
    cost_nanousd: int
    again: bool = False
    """True when the store had settled this call before: nothing was changed."""
    overdrafts: tuple[tuple[Claim, int], ...] = ()
    """Limits that this settlement went past, and how many nano-dollars of it lie beyond."""


@dataclass(slots=True)
class Call:
    """All that is known of one call. One field a step; each starts as None; nobody writes a second one."""

    call_id: str
    started_at: float
    """Unix seconds when the request head was complete."""
    started_ns: int
    """The same moment on the monotonic clock, in nanoseconds."""
    config_version: str = ""
    waited_ns: int = 0
    """For room that other calls held."""
    reserve_ns: int = 0
    """How long the store took to grant or refuse, that wait included."""
    request: Request | None = None
    ask: Ask | None = None
    caller: Caller | None = None
    bound: Bound | None = None
    claims: Sequence[Claim] | None = None
    uses: tuple[Use, ...] | None = None
    hold: Hold | None = None
    refusal: Refusal | None = None
    ending: Ending | None = None
    usage: Metered | None = None
    cost: Cost | None = None
    compared: dict[str, int] | None = None
    receipt: Receipt | None = None


@value
class Record:
    """One finished call, flat. Log line, stored row, admin API and metrics all read this, so they cannot disagree."""

    call_id: str
    correlation_id: str
    trace_id: str
    started_at: str
    """RFC 3339, UTC, milliseconds."""
    team: str
    user: str
    agent: str
    call_type: str
    tags: dict[str, str]
    key_name: str
    upstream: str
    provider: str
    protocol: str
    operation: str
    model_requested: str
    model_served: str
    stream: bool
    status: int
    error_type: str
    attempts: int
    usage: dict[str, int]
    usage_source: str
    usage_method: str
    usage_raw: dict[str, Any] | None
    cost_nanousd: int
    price_rows: tuple[str, ...]
    pricebook: str
    unpriced: bool
    service_tier: str
    held_nanousd: int
    budgets: tuple[str, ...]
    latency_ms: float
    ttft_ms: float | None
    overhead_ms: float
    """What the gateway itself took of that, before the request left."""
    read_ms: float
    """Until the request was read, from its head on; and so the next ones."""
    reserve_ms: float
    """The store's part: a duration."""
    sent_ms: float | None
    """Until it began to leave for the upstream."""
    request_bytes: int
    response_bytes: int
    config_version: str
    outcome: str
    accounts: tuple[str, ...] = field(default=())
    parent_span_id: str = ""
    """See ``Caller``; and the next one."""
    sampled: str = ""
    touched: tuple[str, ...] = field(default=())
    """What the config allowed to change of the bytes: ``stream_usage``."""
    priced_as: str = ""
    """The model whose price holds, where the config says so."""
    own_count: dict[str, int] = field(default_factory=dict)
    """What the gateway itself counted of some calls that their provider metered: input, output."""
    awaits: str = ""
    """See ``Metered``."""
    told_by: str = ""
    """The call whose answer told of this work, where it is not a call of its own: a batch, a background response."""
    corrects: str = ""
    """The call that this record corrects: then its cost is only the difference."""
    corrected_nanousd: int = 0
    """What that call had been charged so far."""
    corrected_usage: dict[str, int] = field(default_factory=dict)
    """What it had been said to have used so far."""
    largest_input: int = 0
    """See ``Metered``."""
    would_refuse: tuple[str, ...] = field(default=())
    """Budgets in shadow mode that had no room for it."""
    refused_by: dict[str, str] = field(default_factory=dict)
    """The limit that had no room for it: limit, scope, unit."""
    waited_ms: float = 0
    """For room that other calls held."""
    provider_key: str = ""
    """See ``Ending``."""


@value
class Said:
    """What was said in a call, redacted and bounded: messages as OTel GenAI writes them, as JSON texts."""

    input: str
    output: str


RARE: dict[str, Any] = {
    "touched": [],
    "priced_as": "",
    "own_count": {},
    "awaits": "",
    "told_by": "",
    "corrects": "",
    "corrected_nanousd": 0,
    "corrected_usage": {},
    "largest_input": 0,
    "would_refuse": [],
    "refused_by": {},
    "waited_ms": 0,
    "provider_key": "",
}
"""The last fields of a Record, as they mostly are: then they are left out of what is stored and logged."""
_ALIKE = (
    ("upstream", "provider", "protocol", "operation", "model_requested", "model_served", "stream", "status", "error_type", "attempts"),
    ("usage_source", "usage_method"),
    ("price_rows", "pricebook", "unpriced", "service_tier"),
    ("config_version", "outcome"),
)  # fmt: skip
"""Fields that many records have alike, those that follow one another together. None of them tells callers apart."""
_FURTHER = frozenset(name for row in _ALIKE for name in row[1:])
_FORM = dict.fromkeys(each.name for each in fields(Record) if each.name not in RARE and each.name not in _FURTHER)
"""The usual fields in their order, each row of those by its first."""
MAX_FORMS = 1024
"""Sets of values of these that are remembered, some 3 KB each."""


def own_trace_id(call_id: str) -> str:
    """The trace id (32 hex digits) of a call whose caller has none: its own id without dashes."""
    return call_id.replace("-", "")


def span_id(call_id: str, part: int = ROOT) -> str:
    """The id (16 hex digits) of one of a call's spans: its own random digits, so that whoever knows the call knows them."""
    return f"{int(call_id[19:23] + call_id[24:], 16) ^ part:016x}"


def as_json(record: Record) -> bytes:
    """The Record as JSON, without its rare fields where none of them says anything. What of the provider's own usage cannot be written
    (orjson reads a thousand levels and writes 250) is left out: one odd answer must not keep a batch of calls out of the books.
    """
    told = _form(
        record.upstream, record.provider, record.protocol, record.operation, record.model_requested, record.model_served,
        record.stream, record.status, record.error_type, record.attempts, record.usage_source, record.usage_method,
        record.price_rows, record.pricebook, record.unpriced, record.service_tier, record.config_version, record.outcome,
    ).copy()  # fmt: skip
    told["call_id"] = record.call_id
    told["correlation_id"] = record.correlation_id
    told["trace_id"] = record.trace_id
    told["started_at"] = record.started_at
    told["team"] = record.team
    told["user"] = record.user
    told["agent"] = record.agent
    told["call_type"] = record.call_type
    told["tags"] = record.tags
    told["key_name"] = record.key_name
    told["usage"] = record.usage
    told["usage_raw"] = record.usage_raw
    told["cost_nanousd"] = record.cost_nanousd
    told["held_nanousd"] = record.held_nanousd
    told["budgets"] = record.budgets
    told["latency_ms"] = record.latency_ms
    told["ttft_ms"] = record.ttft_ms
    told["overhead_ms"] = record.overhead_ms
    told["read_ms"] = record.read_ms
    told["reserve_ms"] = record.reserve_ms
    told["sent_ms"] = record.sent_ms
    told["request_bytes"] = record.request_bytes
    told["response_bytes"] = record.response_bytes
    told["accounts"] = record.accounts
    told["parent_span_id"] = record.parent_span_id
    told["sampled"] = record.sampled
    rare = (
        record.touched, record.priced_as, record.own_count, record.awaits, record.told_by, record.corrects, record.corrected_nanousd,
        record.corrected_usage, record.largest_input, record.would_refuse, record.refused_by, record.waited_ms, record.provider_key,
    )  # fmt: skip
    if any(rare):
        told.update(zip(RARE, rare, strict=True))
    try:
        return orjson.dumps(told)
    except TypeError:
        told["usage_raw"] = _what_can_be_written(record.usage_raw)
        return orjson.dumps(told)


@lru_cache(maxsize=MAX_FORMS)
def _form(*alike: object) -> dict[str, Any]:
    """A place for what is each record's own, and what many have alike as it was written once, a row of fields as the value of its first
    (orjson does not look into a Fragment). A dataclass takes orjson twice as long as all this.
    """
    form: dict[str, Any] = _FORM.copy()
    values = iter(alike)
    for row in _ALIKE:
        text = orjson.dumps(dict(zip(row, values, strict=False)))
        form[row[0]] = orjson.Fragment(text[len(f'{{"{row[0]}":') : -1])
    return form


def _what_can_be_written(raw: dict[str, Any] | None) -> dict[str, Any] | None:
    """So many of its fields that an audit can read the counts again."""
    kept = {}
    for name, found in (raw or {}).items():
        with suppress(TypeError):
            orjson.dumps({"usage_raw": {name: found}})
            kept[name] = found
    return kept or None


def from_json(text: str | bytes) -> dict[str, Any]:
    """What ``as_json`` wrote, every field there."""
    return {**RARE, **orjson.loads(text)}
