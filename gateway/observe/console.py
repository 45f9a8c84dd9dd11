"""Spans for a person who tries things out: one JSON object a line, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import orjson

from gateway.observe.output import Output
from gateway.observe.protobuf import Attributes
from gateway.observe.spans import Span


def span(told: Span) -> bytes:
    """One span, as a line."""
    found = {
        "event": "span",
        "name": told.name,
        "trace_id": told.trace_id,
        "span_id": told.span_id,
        "parent_id": told.parent_id,
        "start_ns": told.start_ns,
        "duration_ms": (told.end_ns - told.start_ns) / 1e6,
        "error": told.error,
        "events": {name: (at_ns - told.start_ns) / 1e6 for name, at_ns in told.events},
        "attributes": told.attributes,
    }
    return orjson.dumps(found) + b"\n"


def traces_request(resource: Attributes, spans: Sequence[bytes]) -> bytes:
    """All lines together."""
    return b"".join(spans)


class Screen:
    """A transport to standard error. Loses lines that nobody reads."""

    def __init__(self) -> None:
        self._output = Output(sys.stderr.buffer)

    async def send(self, body: bytes) -> None:
        """Write."""
        self._output.write(body.splitlines(keepends=True))

    async def close(self) -> None:
        """Nothing to give back."""
