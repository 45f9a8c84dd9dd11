"""Spans as an OTLP request (opentelemetry/proto/collector/trace/v1, 1.9): what goes to any receiver of traces."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

from gateway import __version__
from gateway.observe.protobuf import Attributes, attributes, fixed32, number, sized, tag, varint
from gateway.observe.spans import Shared, Span

SCOPE = sized(1, b"tollgate") + sized(2, __version__.encode())
SCHEMA = "https://opentelemetry.io/schemas/1.41.1"
FAILED = 2
"""``STATUS_CODE_ERROR``."""
_FLAGS = fixed32(16, 1)
"""W3C Trace Context: sampled."""
_MOMENT = struct.Struct("<Q")
_TIMES = struct.Struct("<BQBQ")
"""Fields 7 and 8, fixed64: start and end."""


def span(told: Span) -> bytes:
    """One span: its field in a ``ScopeSpans``."""
    parts = [
        b"\x0a\x10", bytes.fromhex(told.trace_id),
        b"\x12\x08", bytes.fromhex(told.span_id),
        _named(told.name, told.kind),
        _TIMES.pack(0x39, told.start_ns, 0x41, told.end_ns),
        _shared(told.shared),
        attributes(9, told.own),
        _FLAGS,
    ]  # fmt: skip
    if told.parent_id:
        parts += (b"\x22\x08", bytes.fromhex(told.parent_id))
    for event, at_ns in told.events:
        before, after = _event(event)
        parts += (before, _MOMENT.pack(at_ns), after)
    if told.link[0]:
        parts.append(sized(13, sized(1, bytes.fromhex(told.link[0])) + sized(2, bytes.fromhex(told.link[1]))))
    if told.error:
        parts.append(sized(15, sized(2, told.error.encode("utf-8", "replace")) + number(3, FAILED)))
    return sized(2, b"".join(parts))


@lru_cache(maxsize=1024)
def _named(name: str, kind: int) -> bytes:
    return sized(5, name.encode("utf-8", "replace")) + number(6, kind)


@lru_cache(maxsize=64)
def _event(name: str) -> tuple[bytes, bytes]:
    """What stands before and after the moment of an event."""
    after = sized(2, name.encode())
    return tag(11, 2) + varint(len(after) + 9) + b"\x09", after


@lru_cache(maxsize=4096)  # 1 us instead of 8
def _shared(told: Shared) -> bytes:
    return attributes(9, told)


def traces_request(resource: Attributes, spans: Sequence[bytes]) -> bytes:
    """An ``ExportTraceServiceRequest`` of spans that ``span`` has written."""
    return _request(resource, spans)


def metrics_request(resource: Attributes, metrics: Iterable[bytes]) -> bytes:
    """An ``ExportMetricsServiceRequest``; each metric is written as field 2 of ``ScopeMetrics``. The same shape as for traces."""
    return _request(resource, metrics)


def _request(resource: Attributes, written: Iterable[bytes]) -> bytes:
    scope = sized(1, SCOPE) + b"".join(written) + sized(3, SCHEMA.encode())
    return sized(1, sized(1, attributes(1, resource)) + sized(2, scope))
