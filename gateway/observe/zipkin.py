"""Spans in Zipkin's JSON (https://zipkin.io/zipkin-api, v2): a list of spans, times in microseconds, all tags texts."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from gateway.observe.protobuf import Attributes
from gateway.observe.spans import CLIENT, SERVER, Span

PATH = "/api/v2/spans"
SERVICE = b'"localEndpoint":{"serviceName":"tollgate"}'
KINDS = {CLIENT: "CLIENT", SERVER: "SERVER"}


def span(told: Span) -> bytes:
    """One span."""
    found = {
        "traceId": told.trace_id,
        "id": told.span_id,
        "name": told.name,
        "timestamp": told.start_ns // 1000,
        "duration": max(1, (told.end_ns - told.start_ns) // 1000),
        "annotations": [{"timestamp": at_ns // 1000, "value": name} for name, at_ns in told.events],
        "tags": {key: _text(value) for key, value in told.attributes.items()}
        | ({"error": told.error} if told.error else {}),
        **({"parentId": told.parent_id} if told.parent_id else {}),
        **({"kind": KINDS[told.kind]} if told.kind in KINDS else {}),
    }
    return orjson.dumps(found)[:-1] + b"," + SERVICE + b"}"


def traces_request(resource: Attributes, spans: Sequence[bytes]) -> bytes:
    """What is posted. Zipkin has no place for a resource but the name of the service."""
    name = orjson.dumps({"serviceName": dict(resource).get("service.name", "tollgate")})
    return b"[" + b",".join(spans).replace(SERVICE, b'"localEndpoint":' + name) + b"]"


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
