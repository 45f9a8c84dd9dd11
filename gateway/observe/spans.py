"""A record as spans: the call, and below it what it spent its time on, in the words of OpenTelemetry's GenAI conventions.

A pure function of the Record, so that spans agree with log line, metrics and bill. The children follow one another without a gap:
``admit`` (read, limits, reserve) until the request leaves, ``upstream`` until the answer ends, ``meter`` (usage, price, books)
until it is settled, which nobody waits for. Names: semantic conventions 1.41.1; with ``latest`` those of the
semantic-conventions-genai repository, where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from gateway.call import ADMIT, METER, ROOT, UPSTREAM, Record, Said, own_trace_id, span_id
from gateway.observe.names import READ, WRITTEN
from gateway.observe.protobuf import Attributes, Value
from gateway.value import value

INTERNAL, SERVER, CLIENT = 1, 2, 3
"""Kinds of spans (opentelemetry/proto/trace/v1)."""
OPERATIONS = {
    "chat": "chat",
    "responses": "chat",
    "messages": "chat",
    "text_completion": "text_completion",
    "embeddings": "embeddings",
    "generate_content": "generate_content",
    "embed_content": "embeddings",
}
"""``gen_ai.operation.name`` has well-known values; other operations keep their own name."""
PROVIDERS = {
    "google": "gcp.gemini",
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "moonshotai": "moonshot_ai",
}
"""``gen_ai.provider.name`` where the conventions write it in another way."""
CACHE_READ = ("cached_input", "cached_audio", "cached_image")
CACHE_WRITE = ("cache_write", "cache_write_1h")


Shared = tuple[tuple[str, Value], ...]


@value
class Span:
    """Ids in hex, moments in Unix nanoseconds; ``parent_id`` is "" for a root. ``error`` is "" where all is well."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    shared: Shared
    """Attributes that many spans have alike."""
    own: Attributes
    events: tuple[tuple[str, int], ...] = ()
    error: str = ""
    link: tuple[str, str] = ("", "")
    """Trace and span of a caller that this trace is not a part of."""

    @property
    def attributes(self) -> dict[str, Value]:
        """All of them."""
        return dict((*self.shared, *self.own))


@value
class Style:
    """How spans are to be written for one receiver."""

    latest: bool = False
    """The newest names of the conventions instead of 1.41.1."""
    own_root: bool = False
    """A trace of its own for each call, linked to the caller's: for a receiver that does not get the caller's spans."""
    brief: bool = False
    """The call alone, without its parts."""


def spans_of(record: Record, booked_ns: int, style: Style, said: Said | None = None) -> list[Span]:
    """The call first, then its parts in order. ``booked_ns``: when it was settled. 9 us."""
    started_ns = unix_ns(record.started_at)
    ended_ns = started_ns + int(record.latency_ms * 1e6)
    remote = (record.trace_id, record.parent_span_id)
    trace_id = own_trace_id(record.call_id) if style.own_root else record.trace_id
    parent_id = "" if style.own_root else record.parent_span_id
    root_id = span_id(record.call_id, ROOT)
    operation = OPERATIONS.get(record.operation, record.operation) or "request"
    root = Span(
        trace_id,
        root_id,
        parent_id,
        f"{operation} {record.model_requested}" if record.model_requested else operation,
        SERVER if record.parent_span_id else CLIENT,
        started_ns,
        ended_ns,
        _kind_of(record, operation),
        _of_call(record, style, said),
        error=record.error_type,
        link=remote if style.own_root and record.parent_span_id else ("", ""),
    )
    if style.brief:
        return [root]
    left_ns = started_ns + int((record.latency_ms if record.sent_ms is None else record.sent_ms) * 1e6)
    read = (("request read", started_ns + int(record.read_ms * 1e6)),)
    spans = [root, _part(root, ADMIT, "admit", INTERNAL, started_ns, left_ns, _of_admission(record), read)]
    if record.sent_ms is not None:
        first = (("first byte", started_ns + int(record.ttft_ms * 1e6)),) if record.ttft_ms is not None else ()
        spans.append(_part(root, UPSTREAM, "upstream", CLIENT, left_ns, ended_ns, _of_upstream(record), first))
    until_ns = max(ended_ns, booked_ns)
    spans.append(_part(root, METER, "meter", INTERNAL, ended_ns, until_ns, _of_metering(record), ()))
    return spans


def _part(
    root: Span,
    part: int,
    name: str,
    kind: int,
    start_ns: int,
    end_ns: int,
    told: tuple[Shared, Attributes],
    events: tuple[tuple[str, int], ...],
) -> Span:
    identity = f"{int(root.span_id, 16) ^ part:016x}"
    return Span(root.trace_id, identity, root.span_id, name, kind, start_ns, end_ns, told[0], told[1], events)


@lru_cache(maxsize=4096)  # what is the same for many calls is put together, and written, once
def _of_kind(*values: Value) -> Shared:
    return tuple((name, value) for name, value in zip(OF_KIND, values, strict=True) if value != "")


OF_KIND = (
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model", "gen_ai.request.stream",
    "error.type", "http.response.status_code", "tollgate.team", "tollgate.agent", "tollgate.call_type", "tollgate.key_name",
    "tollgate.outcome", "tollgate.usage_source", "tollgate.config_version",
)  # fmt: skip


def _kind_of(record: Record, operation: str) -> Shared:
    return _of_kind(
        operation, PROVIDERS.get(record.provider, record.provider), record.model_requested, record.model_served,
        record.stream, record.error_type, record.status, record.team, record.agent, record.call_type, record.key_name,
        record.outcome, record.usage_source, record.config_version,
    )  # fmt: skip


def _of_call(record: Record, style: Style, said: Said | None) -> Attributes:
    told: list[tuple[str, Value]] = [
        ("session.id", record.correlation_id),
        ("tollgate.call_id", record.call_id),
        ("tollgate.correlation_id", record.correlation_id),
        ("tollgate.cost_nanousd", record.cost_nanousd),
        ("tollgate.cost_usd", record.cost_nanousd / 1e9),
    ]
    if record.user:
        told.append(("user.id", record.user))
    if record.usage:
        _tell_usage(told, record.usage, style)
    if record.ttft_ms is not None and record.stream:
        told.append(("gen_ai.response.time_to_first_chunk", record.ttft_ms / 1000))
    if record.tags:
        told += [(f"tollgate.tags.{name}", text) for name, text in record.tags.items()]
    if said is not None:
        told += [("gen_ai.input.messages", said.input), ("gen_ai.output.messages", said.output)]
    return told


def _tell_usage(told: list[tuple[str, Value]], usage: Mapping[str, int], style: Style) -> None:
    """What is read from a cache, or written to it, is a part of ``input_tokens`` in the conventions."""
    read = written = cached = kept = 0
    for unit, count in usage.items():
        if unit in READ:
            read += count
            if unit in CACHE_READ:
                cached += count
            elif unit in CACHE_WRITE:
                kept += count
        elif unit in WRITTEN:
            written += count
    told += (("gen_ai.usage.input_tokens", read), ("gen_ai.usage.output_tokens", written))
    if cached:
        told.append(("gen_ai.usage.cache_read.input_tokens", cached))
    if kept:
        told.append(("gen_ai.usage.cache_write.input_tokens", kept))
        if not style.latest:
            told.append(("gen_ai.usage.cache_creation.input_tokens", kept))
    if usage.get("reasoning"):
        told.append(("gen_ai.usage.reasoning.output_tokens", usage["reasoning"]))


def _of_admission(record: Record) -> tuple[Shared, Attributes]:
    told: list[tuple[str, Value]] = [
        ("tollgate.reserve_ms", record.reserve_ms),
        ("tollgate.held_nanousd", record.held_nanousd),
    ]
    if record.waited_ms:
        told.append(("tollgate.waited_ms", record.waited_ms))
    if record.would_refuse:
        told.append(("tollgate.would_refuse", record.would_refuse))
    return ((("tollgate.budgets", record.budgets),) if record.budgets else ()), told


def _of_upstream(record: Record) -> tuple[Shared, Attributes]:
    shared = (
        ("tollgate.upstream", record.upstream),
        ("tollgate.attempts", record.attempts),
        ("http.response.status_code", record.status),
    )
    return shared, (
        ("http.request.body.size", record.request_bytes),
        ("http.response.body.size", record.response_bytes),
    )


def _of_metering(record: Record) -> tuple[Shared, Attributes]:
    shared: Shared = (
        ("tollgate.usage_method", record.usage_method),
        ("tollgate.price_rows", record.price_rows),
        ("tollgate.pricebook", record.pricebook),
        ("tollgate.unpriced", record.unpriced),
    )
    return shared if record.price_rows else (), (("tollgate.cost_nanousd", record.cost_nanousd),)


@lru_cache(maxsize=8)
def _second_ns(text: str) -> int:
    return int(datetime.fromisoformat(text + "+00:00").timestamp()) * 1_000_000_000


def unix_ns(text: str) -> int:
    """A moment as records have it (RFC 3339 in UTC with milliseconds)."""
    return _second_ns(text[:19]) + int(text[20:23] or 0) * 1_000_000
