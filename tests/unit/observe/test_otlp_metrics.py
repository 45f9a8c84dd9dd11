"""Metrics over OTLP: what is written is read back with the official classes, and is what is scraped."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.observe.gen_ai import GenAi
from gateway.observe.metrics import Metrics
from gateway.observe.names import GAUGES, HISTOGRAMS
from gateway.observe.otlp import metrics_request
from gateway.observe.otlp_metrics import POINTS_A_SLICE, metrics, unit_of
from tests.harness.finished import batch as finished
from tests.promise.test_sink import records
from tests.unit.observe.test_metrics import ALL, RECORD, REFUSED

START, NOW = 1_700_000_000_000_000_000, 1_700_000_060_000_000_000
TRACE = "0af7651916cd43dd8448eb211c80319c"
Point = dict[frozenset[tuple[str, str]], Any]


def read(families: Any) -> dict[str, Metric]:
    """By name, points of all pieces together."""
    pieces = [piece for piece, _ in metrics(families, START, NOW)]
    request = ExportMetricsServiceRequest.FromString(metrics_request([("service.name", "tollgate")], pieces))
    [group] = request.resource_metrics
    assert [(each.key, each.value.string_value) for each in group.resource.attributes] == [("service.name", "tollgate")]
    found: dict[str, Metric] = {}
    for each in group.scope_metrics[0].metrics:
        if each.name in found:
            kind = each.WhichOneof("data")
            getattr(found[each.name], kind).data_points.extend(getattr(each, kind).data_points)
        else:
            found[each.name] = each
    return found


def own(counted: Metrics) -> dict[str, Metric]:
    return read((family.name, unit_of(family.name), family) for family in counted.families())


def points(metric: Metric) -> Point:
    found = {
        frozenset((each.key, each.value.string_value) for each in point.attributes): point
        for point in getattr(metric, metric.WhichOneof("data")).data_points
    }
    for point in found.values():
        assert (point.start_time_unix_nano, point.time_unix_nano) == (START, NOW)
    return found


def same_as_scraped(counted: Metrics) -> None:
    """Every sample of ``/metrics`` is a point or a part of one, and there is no point more."""
    pushed = own(counted)
    for family in text_string_to_metric_families(counted.render().decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        if not family.samples:
            continue
        metric = pushed.pop(name)
        kind = {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}[family.type]
        assert metric.WhichOneof("data") == kind, name
        assert metric.description == family.documentation
        found = points(metric)
        buckets: dict[Any, list[float]] = defaultdict(list)
        for sample in family.samples:
            labels = frozenset((key, value) for key, value in sample.labels.items() if value and key != "le")
            point = found[labels]
            if sample.name.endswith("_bucket") and kind == "histogram":
                buckets[labels].append(sample.value)
            elif sample.name.endswith("_sum") and kind == "histogram":
                assert point.sum == sample.value
            elif sample.name.endswith("_count") and kind == "histogram":
                assert point.count == sample.value == sum(point.bucket_counts)
            else:
                assert point.as_double == sample.value, name
        assert set(found) == {
            frozenset((key, value) for key, value in sample.labels.items() if value and key != "le")
            for sample in family.samples
        }
        for labels, cumulated in buckets.items():
            assert [sum(found[labels].bucket_counts[: n + 1]) for n in range(len(cumulated))] == cumulated
            assert tuple(found[labels].explicit_bounds) == HISTOGRAMS[name][2]
        if kind == "sum":
            assert metric.sum.is_monotonic
        if kind != "gauge":
            assert getattr(metric, kind).aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    assert not [name for name, metric in pushed.items() if points(metric)]


def test_what_is_pushed_is_what_is_scraped() -> None:
    """Counters, histograms and gauges, names and labels and help."""
    counted = Metrics(ALL, 100)
    counted.take(
        finished([RECORD, REFUSED, replace(RECORD, unpriced=True, team='odd "team"\n 日本', own_count={"input": 9})])
    )
    counted.count_sink_error("log")
    counted.watch(lambda: {name: {("x",) * len(labels): 1.5} for name, (_, labels) in GAUGES.items()})
    same_as_scraped(counted)
    assert {"llm_tokens_total": "{token}", "llm_request_duration_seconds": "s", "process_open_fds": ""}.items() <= {
        name: metric.unit for name, metric in own(counted).items()
    }.items()
    assert own(counted).keys() >= GAUGES.keys()


@settings(max_examples=40, deadline=None)
@given(batch=st.lists(records, max_size=6))
def test_they_are_the_same_whatever_the_calls(batch: list[Any]) -> None:
    """Any names, any numbers."""
    counted = Metrics(ALL, 3)
    counted.take(finished(batch))
    same_as_scraped(counted)


def test_many_series_come_in_pieces() -> None:
    """None of which takes long, and none of which is missing."""
    counted = Metrics(ALL, 1000)
    counted.take(finished([replace(RECORD, team=f"t{n}") for n in range(500)]))
    counts = [count for _, count in metrics(((family.name, "", family) for family in counted.families()), START, NOW)]
    assert max(counts) == POINTS_A_SLICE
    assert len(points(own(counted)["llm_cost_usd_total"])) == 500


def test_exemplars_go_along() -> None:
    """Trace, value and moment, in the bucket's point and at the sum."""
    counted = Metrics(ALL, 9)
    counted.take(finished([replace(RECORD, trace_id=TRACE)]))
    pushed = own(counted)
    [point] = points(pushed["llm_request_duration_seconds"]).values()
    [exemplar] = point.exemplars
    assert (exemplar.trace_id.hex(), exemplar.as_double) == (TRACE, 0.7)
    assert exemplar.time_unix_nano > START
    [point] = points(pushed["llm_cost_usd_total"]).values()
    assert [(each.trace_id.hex(), each.as_double) for each in point.exemplars] == [(TRACE, 1_234e-9)]


# -- gen_ai --------------------------------------------------------------------------------------------------------------


def gen_ai(*told: Any, latest: bool = False, most: int = 100) -> dict[str, Metric]:
    sink = GenAi(ALL, most, 1000, latest=latest)
    sink.take(finished(told))
    return read(sink.families())


FAILED = replace(
    RECORD, error_type="upstream_error", status=502, usage={}, usage_source="", ttft_ms=None, model_served=""
)
WHO = {
    ("gen_ai.operation.name", "chat"), ("gen_ai.provider.name", "openai"), ("gen_ai.request.model", "gpt-4o"),
    ("gen_ai.response.model", "gpt-4o-mini"), ("tollgate.team", "search"), ("tollgate.agent", "bot"),
    ("tollgate.call_type", "routing"),
}  # fmt: skip


def test_names_units_and_bounds_are_those_of_the_conventions() -> None:
    """Semantic conventions 1.41.1, written a second time."""
    found = gen_ai(RECORD)
    durations = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
    tokens = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]
    expected = {
        "gen_ai.client.token.usage": ("{token}", tokens),
        "gen_ai.client.operation.duration": ("s", durations),
        "gen_ai.server.request.duration": ("s", durations),
        "gen_ai.server.time_per_output_token": (
            "s", [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5]),
        "gen_ai.server.time_to_first_token": (
            "s", [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]),
    }  # fmt: skip
    assert {
        name: (metric.unit, list(next(iter(points(metric).values())).explicit_bounds)) for name, metric in found.items()
    } == expected


def test_a_call_counts_under_the_attributes_of_the_conventions() -> None:
    """Input with what was cached, output with reasoning; a call that failed has an ``error.type`` and no tokens."""
    found = gen_ai(RECORD, FAILED)
    usage = {
        dict(labels)["gen_ai.token.type"]: point for labels, point in points(found["gen_ai.client.token.usage"]).items()
    }
    assert {kind: (point.sum, point.count) for kind, point in usage.items()} == {"input": (14, 1), "output": (7, 1)}
    for name in ("gen_ai.client.operation.duration", "gen_ai.server.request.duration"):
        by = points(found[name])
        assert by[frozenset(WHO)].sum == pytest.approx(0.7)
        failed = (WHO - {("gen_ai.response.model", "gpt-4o-mini")}) | {
            ("error.type", "upstream_error"), ("gen_ai.response.model", "gpt-4o"),
        }  # fmt: skip
        assert by.keys() == {frozenset(WHO), frozenset(failed)}
    assert points(found["gen_ai.server.time_to_first_token"])[frozenset(WHO)].sum == pytest.approx(0.1)
    assert points(found["gen_ai.server.time_per_output_token"])[frozenset(WHO)].sum == pytest.approx(0.1)


def test_the_newest_names_count_by_modality() -> None:
    """semantic-conventions-genai: counters of tokens instead of one histogram."""
    heard = replace(RECORD, usage={"input": 10, "cached_input": 4, "cache_write_1h": 3, "audio_in": 6, "cached_audio": 1,
                                   "output": 5, "reasoning": 2, "audio_out": 8, "searches": 2})  # fmt: skip
    found = gen_ai(heard, heard, latest=True)
    prefix = "gen_ai.client.inference."
    sums = {
        name.removeprefix(f"{prefix}usage."): {
            dict(labels)["gen_ai.token.modality"]: point.as_double for labels, point in points(metric).items()
        }
        for name, metric in found.items()
        if name.startswith(f"{prefix}usage.")
    }
    assert sums == {
        "input_tokens": {"text": 34, "audio": 14},
        "output_tokens": {"text": 14, "audio": 16},
        "cache_read.input_tokens": {"text": 8, "audio": 2},
        "cache_write.input_tokens": {"text": 6},
        "reasoning.output_tokens": {"text": 4},
    }
    assert {name for name in found if not name.startswith(f"{prefix}usage.")} == {
        f"{prefix}duration", f"{prefix}time_to_first_chunk", f"{prefix}operation.input_tokens",
        f"{prefix}operation.output_tokens", "gen_ai.server.request.duration", "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
    }  # fmt: skip
    [read_tokens] = points(found[f"{prefix}operation.input_tokens"]).values()
    [written] = points(found[f"{prefix}operation.output_tokens"]).values()
    assert (read_tokens.sum, written.sum) == (48, 30)


@pytest.mark.parametrize("latest", [False, True])
def test_callers_cannot_make_it_grow(latest: bool) -> None:
    """The same bounds as for labels."""
    odd = [
        replace(RECORD, team=f"t{n}", model_served=f"m{n}", operation=f"o{n}", error_type=f"e{n}") for n in range(500)
    ]
    for metric in gen_ai(*odd, latest=latest, most=3).values():
        assert len(points(metric)) <= 8


@pytest.mark.parametrize("latest", [False, True])
@settings(max_examples=40, deadline=None)
@given(batch=st.lists(records, max_size=6))
def test_it_takes_whatever_a_call_came_to(latest: bool, batch: list[Any]) -> None:
    """And says something that can be read, with every call in it."""
    found = gen_ai(*batch, latest=latest)
    if batch:
        assert sum(point.count for point in points(found["gen_ai.server.request.duration"]).values()) == len(batch)
