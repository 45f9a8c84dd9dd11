"""Spans on their way to the exporter: in requests that receivers take, and nothing that stops them for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.call import Record, Said
from gateway.observe import Batch, otlp, zipkin
from gateway.observe.exporter import Exporter
from gateway.observe.otel_env import resource
from gateway.observe.spans import Span, Style
from gateway.observe.tracing import Form, Sampler, Traces
from tests.harness.receivers import spans_in, told
from tests.unit.observe.test_spans import SOUND

GRPC_TAKES = 4 << 20
"""What a gRPC server takes by default; the collector's, over HTTP, 20 MiB."""


class Kept:
    """Takes everything."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def send(self, body: bytes) -> None:
        self.bodies.append(body)

    async def close(self) -> None:
        pass


class Sink:
    """Traces to a transport that keeps what it gets."""

    def __init__(self, form: Form = otlp, told: Sequence[tuple[str, str]] = (("service.name", "x"),)) -> None:
        self.kept = Kept()
        self.counts: Counter[str] = Counter()
        exporter = Exporter("traces", self.kept, self._count)
        self.traces = Traces(exporter, form, Sampler(), Style(), tuple(told), content=True)

    def _count(self, signal: str, outcome: str, items: int) -> None:
        self.counts[outcome] += items


def call(number: int) -> Record:
    return replace(SOUND, call_id=f"019aa6b0-1234-7abc-8def-{number:012x}", trace_id=f"{number + 1:032x}")


async def test_long_texts_make_more_requests_and_not_longer_ones() -> None:
    """512 calls with 64 KB of what was said would be 32 MB, which no receiver takes."""
    sink = Sink()
    sink.traces.start()
    records = [call(number) for number in range(200)]
    said = {record.call_id: Said("a" * 32_768, "b" * 32_768) for record in records}
    sink.traces.take(Batch(records, [], said))
    async with asyncio.timeout(10):
        while sink.traces._pending:
            await asyncio.sleep(0)
    await sink.traces.close(10)
    assert max(map(len, sink.kept.bodies)) < GRPC_TAKES // 2
    spans = [span for body in sink.kept.bodies for span in spans_in(ExportTraceServiceRequest.FromString(body))]
    assert len(spans) == 4 * sink.counts["exported"] == 4 * (200 - sink.counts["dropped"])


async def test_a_call_that_cannot_be_written_leaves_no_part_behind() -> None:
    """It is counted as dropped; half a trace would look like a bug of the gateway's."""

    class Breaks:
        traces_request = staticmethod(otlp.traces_request)

        def span(self, told: Span) -> bytes:
            if told.name == "meter":
                raise ValueError
            return otlp.span(told)

    sink = Sink(Breaks())
    sink.traces.start()
    sink.traces.take(Batch([call(1)], []))
    await sink.traces.close(5)
    assert (sink.kept.bodies, sink.counts) == ([], {"dropped": 1})


@pytest.mark.parametrize("form", [otlp, zipkin])
async def test_variables_that_are_no_utf8_do_not_stop_the_spans(form: Form) -> None:
    """The environment may hold any bytes."""
    found = resource({"OTEL_SERVICE_NAME": "caf\udce9", "OTEL_RESOURCE_ATTRIBUTES": "k\udce9y=v\udce9"})
    sink = Sink(form, found)
    sink.traces.start()
    sink.traces.take(Batch([call(1)], []))
    await sink.traces.close(5)
    [body] = sink.kept.bodies
    if form is otlp:
        [group] = ExportTraceServiceRequest.FromString(body).resource_spans
        assert told(group.resource.attributes)["service.name"] == "caf\N{REPLACEMENT CHARACTER}"
