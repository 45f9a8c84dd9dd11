"""Spans of any record, as the official classes read them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Official

from gateway.call import METER, ROOT, UPSTREAM, span_id
from gateway.observe import console, otlp, protobuf, zipkin
from gateway.observe.spans import Style, spans_of, unix_ns
from gateway.observe.tracing import Sampler, is_in_share, traceparent_of
from tests.harness.receivers import spans_in, told
from tests.promise.test_sink import records
from tests.unit.observe.test_metrics import RECORD

CALL = "019aa6b0-1234-7abc-8def-0123456789ab"
SOUND = replace(RECORD, call_id=CALL, trace_id=CALL.replace("-", ""))
BOOKED_NS = unix_ns(SOUND.started_at) + 10**9
values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.integers(-(2**63), 2**63 - 1), st.booleans(),
    st.floats(allow_nan=False), st.tuples(st.text(max_size=5).filter(str.isascii)),
)  # fmt: skip
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@settings(max_examples=300, deadline=None)
@given(told_values=st.lists(st.tuples(keys, values), max_size=20), field=st.integers(1, 100))
def test_any_attribute_is_read_back_as_it_was(told_values, field):
    """Every kind of value, long and short, under any field number."""
    written = protobuf.attributes(field, told_values)
    head = protobuf.tag(field, 2)
    read = []
    while written:
        assert written.startswith(head)
        rest = written[len(head) :]
        size, shift, at = 0, 0, 0
        while True:
            size |= (rest[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if rest[at - 1] < 128:
                break
        read.append(KeyValue.FromString(rest[at : at + size]))
        written = rest[at + size :]
    found = [(each.key, next(iter(told([each]).values()))) for each in read]
    assert found == [(key, list(value) if isinstance(value, tuple) else value) for key, value in told_values]
    assert [type(value) for _, value in found] == [
        list if isinstance(value, tuple) else type(value) for _, value in told_values
    ]


@pytest.mark.parametrize("form", [otlp, zipkin, console])
@pytest.mark.parametrize("style", [Style(), Style(latest=True, own_root=True)])
@settings(max_examples=60, deadline=None)
@given(record=records)
def test_any_record_is_spans_in_any_form(form, style, record):
    """Whatever stands in it, the first span is the call, and the parts hang below it."""
    record = replace(record, call_id=CALL, trace_id=SOUND.trace_id, started_at="2026-11-21T10:00:00.123Z")
    spans = spans_of(record, BOOKED_NS, style)
    assert {span.parent_id for span in spans[1:]} == {spans[0].span_id}
    body = form.traces_request([("service.name", "x")], [form.span(span) for span in spans])
    if form is otlp:
        read = spans_in(ExportTraceServiceRequest.FromString(body))
        assert [each["span_id"] for each in read] == [span.span_id for span in spans]
        assert [each["attributes"] for each in read] == [
            {key: list(value) if isinstance(value, tuple) else value for key, value in span.attributes.items()}
            for span in spans
        ]


def test_a_trace_of_its_own_is_linked_to_the_callers():
    """For a receiver that never gets the caller's root."""
    record = replace(SOUND, trace_id="4bf92f3577b34da6a3ce929d0e0e4736", parent_span_id="00f067aa0ba902b7")
    root = spans_of(record, BOOKED_NS, Style(own_root=True))[0]
    assert (root.trace_id, root.parent_id) == (CALL.replace("-", ""), "")
    read = Official.FromString(otlp.span(root)[3:])
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in read.links] == [
        (record.trace_id, record.parent_span_id)
    ]
    assert not spans_of(SOUND, BOOKED_NS, Style(own_root=True))[0].link[0]


def test_the_call_alone():
    """For a receiver that wants to know what calls cost, not where their time went."""
    assert spans_of(SOUND, BOOKED_NS, Style(brief=True)) == spans_of(SOUND, BOOKED_NS, Style())[:1]


def test_both_generations_of_names():
    """What was written to a cache has an older name beside the newer one, unless only the newest are wanted."""
    record = replace(SOUND, usage={"input": 1, "cache_write": 3, "output": 2})
    usual, latest = (spans_of(record, BOOKED_NS, Style(latest))[0].attributes for latest in (False, True))
    assert usual["gen_ai.usage.cache_creation.input_tokens"] == usual["gen_ai.usage.cache_write.input_tokens"] == 3
    assert "gen_ai.usage.cache_creation.input_tokens" not in latest
    assert usual["gen_ai.usage.input_tokens"] == 4


@settings(max_examples=200, deadline=None)
@given(number=st.integers(0, 2**128 - 1), rate=st.floats(0, 1))
def test_the_share_goes_by_the_random_part_of_the_trace_id(number, rate):
    """So that every system that goes by it decides alike; a larger share holds the smaller one."""
    trace_id = f"{number:032x}"
    assert is_in_share(trace_id, rate) == (rate >= 1 or (number & (2**56 - 1)) / 2**56 < rate)
    if is_in_share(trace_id, rate):
        assert is_in_share(trace_id, min(1.0, rate * 1.5))


def test_what_an_answer_told_of_is_no_trace():
    """Nor is a correction."""
    assert Sampler().takes(SOUND)
    assert not Sampler().takes(replace(SOUND, told_by="c"))
    assert not Sampler().takes(replace(SOUND, corrects="c"))
    assert not Sampler(rate=0).takes(SOUND)
    assert Sampler(rate=0).takes(replace(SOUND, error_type="500"))
    assert not Sampler(rate=0, on_error=False).takes(replace(SOUND, error_type="500"))
    assert Sampler(rate=0, over_nanousd=SOUND.cost_nanousd).takes(SOUND)


def test_who_knows_the_call_knows_its_spans():
    """What is sent upstream is the span that is exported later."""
    from gateway.call import Caller  # noqa: PLC0415

    field = traceparent_of(0.0)(Caller(), CALL).decode()
    assert field == f"00-{CALL.replace('-', '')}-{span_id(CALL, UPSTREAM)}-00"
    assert len({span_id(CALL, part) for part in range(ROOT, METER + 1)}) == 4


def test_a_whole_request_as_others_read_it():
    """The kind, the scope, the schema and the flags, by the official JSON form."""
    body = otlp.traces_request([("service.name", "x")], [otlp.span(spans_of(SOUND, BOOKED_NS, Style())[0])])
    read = MessageToDict(ExportTraceServiceRequest.FromString(body))
    (scope,) = read["resourceSpans"][0]["scopeSpans"]
    assert scope["scope"]["name"] == "tollgate"
    assert scope["schemaUrl"].startswith("https://opentelemetry.io/schemas/")
    (span,) = scope["spans"]
    assert (span["kind"], span["flags"]) == ("SPAN_KIND_CLIENT", 1)
