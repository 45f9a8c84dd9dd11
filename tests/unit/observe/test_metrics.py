"""Metrics: the names and labels that dashboards rely on, right sums, and a bound that no caller's labels can pass."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.call import Record
from gateway.observe.labels import MAX_LABEL_CHARS
from gateway.observe.metrics import Metrics
from gateway.observe.names import COUNTERS, GAUGES, HISTOGRAMS
from tests.harness.finished import batch as finished

ALL = ("team", "agent", "call_type")
CALL = {*ALL, "provider", "model"}
SECTION_8 = {
    "llm_requests_total": CALL | {"status"},
    "llm_tokens_total": CALL | {"type"},
    "llm_cost_usd_total": CALL,
    "llm_request_duration_seconds": CALL,
    "llm_time_to_first_token_seconds": CALL,
    "llm_time_per_output_token_seconds": CALL,
    "llm_errors_total": CALL | {"error_type"},
    "llm_active_requests": {"provider"},
    "llm_usage_source_total": {"source"},
    "llm_budget_limit_usd": {"budget", "scope", "window"},
    "llm_budget_spent_usd": {"budget", "scope", "window"},
    "llm_budget_held_usd": {"budget", "scope", "window"},
    "llm_budget_rejections_total": {"budget"},
    "llm_queue_depth": set(),
    "tollgate_overhead_seconds": {"phase"},
    "tollgate_store_up": set(),
    "tollgate_config_version_info": {"version"},
    "tollgate_pricebook_info": {"version"},
    "tollgate_build_info": {"version"},
}
"""The contract (INTERFACE, section 8), written a second time: what is there has these labels and no others."""
TYPES = {"input", "output", "cached_input", "cache_write", "reasoning"}
RECORD = Record(
    call_id="c1", correlation_id="c1", trace_id="", started_at="2026-11-21T00:00:00.000Z", team="search", user="u",
    agent="bot", call_type="routing", tags={}, key_name="", upstream="openai", provider="openai", protocol="openai",
    operation="chat", model_requested="gpt-4o", model_served="gpt-4o-mini", stream=True, status=200, error_type="",
    attempts=1, usage={"input": 10, "cached_input": 4, "output": 5, "reasoning": 2}, usage_source="provider",
    usage_method="usage", usage_raw=None, cost_nanousd=1_234, price_rows=(), pricebook="b", unpriced=False,
    service_tier="", held_nanousd=0, budgets=(), latency_ms=700.0, ttft_ms=100.0, overhead_ms=0.3, read_ms=0.1, reserve_ms=0.2, sent_ms=0.4, request_bytes=1,
    response_bytes=1, config_version="v", outcome="completed",
)  # fmt: skip
REFUSED = replace(
    RECORD, status=429, error_type="budget_exceeded", attempts=0, usage={}, usage_source="", cost_nanousd=0, ttft_ms=None,
    model_served="", outcome="refused", budgets=("search/day",),
)  # fmt: skip


def families(metrics: Metrics) -> dict[str, Metric]:
    """What Prometheus reads, by family."""
    return {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """The sum of all series of one name that have these labels."""
    return sum(
        sample.value
        for family in families(metrics).values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def told(*records: Record, labels: tuple[str, ...] = ALL, most: int = 100) -> Metrics:
    metrics = Metrics(labels, most)
    metrics.take(finished(records))
    return metrics


def full() -> Metrics:
    """Every metric with at least one series."""
    metrics = told(RECORD, REFUSED, replace(RECORD, unpriced=True, team='odd "team"\n\\ 日本'))
    metrics.count_sink_error("log")
    metrics.watch(lambda: {name: {("x",) * len(labels): 1.0} for name, (_, labels) in GAUGES.items()})
    return metrics


def test_names_and_labels_are_those_of_the_contract() -> None:
    """A dashboard that was built from the contract finds its series."""
    found: dict[str, set[frozenset[str]]] = {}
    for family in families(full()).values():
        name = family.name + ("_total" if family.type == "counter" else "")
        found[name] = {frozenset(sample.labels) - {"le"} for sample in family.samples}
    assert found.keys() == {*COUNTERS, *GAUGES, *HISTOGRAMS}
    for name, labels in SECTION_8.items():
        assert found[name] == {frozenset(labels)}, name


def test_a_call_counts_once_in_everything_that_it_is_part_of() -> None:
    """Requests, tokens by kind, dollars, times; under the model that served it."""
    metrics = told(RECORD, RECORD)
    who = {"team": "search", "agent": "bot", "call_type": "routing", "provider": "openai", "model": "gpt-4o-mini"}
    assert value(metrics, "llm_requests_total", **who, status="200") == 2
    assert value(metrics, "llm_cost_usd_total", **who) == pytest.approx(2 * 1_234e-9)
    tokens = {kind: value(metrics, "llm_tokens_total", **who, type=kind) for kind in TYPES}
    assert tokens == {"input": 20, "cached_input": 8, "output": 10, "reasoning": 4, "cache_write": 0}
    assert value(metrics, "llm_usage_source_total", source="provider") == 2
    assert value(metrics, "llm_request_duration_seconds_sum", **who) == pytest.approx(1.4)
    assert value(metrics, "llm_request_duration_seconds_bucket", **who, le="1.28") == 2
    assert value(metrics, "llm_request_duration_seconds_bucket", **who, le="0.64") == 0
    assert value(metrics, "llm_time_to_first_token_seconds_sum", **who) == pytest.approx(0.2)
    assert value(metrics, "llm_time_per_output_token_seconds_sum", **who) == pytest.approx(2 * 0.6 / 6)
    assert value(metrics, "tollgate_overhead_seconds_count", phase="admit") == 2
    assert value(metrics, "llm_errors_total") == 0


def test_the_store_is_not_charged_with_the_wait_for_room() -> None:
    """Other calls held it; a call that asked no store has no time there."""
    metrics = told(replace(RECORD, reserve_ms=250.0, waited_ms=240.0), replace(RECORD, reserve_ms=0.0))
    assert value(metrics, "tollgate_store_seconds_count", operation="reserve") == 1
    assert value(metrics, "tollgate_store_seconds_sum", operation="reserve") == pytest.approx(0.01)


def test_a_refused_call_is_an_error_that_cost_nothing() -> None:
    """It has a status, a kind of error and a budget, and no share in anything that a provider did."""
    metrics = told(REFUSED, replace(REFUSED, error_type="budget_held"), replace(REFUSED, error_type="malformed_body"))
    assert value(metrics, "llm_requests_total", status="429", model="gpt-4o") == 3
    assert value(metrics, "llm_errors_total", error_type="budget_exceeded") == 1
    assert value(metrics, "llm_budget_rejections_total", budget="search/day") == 2
    for name in (
        "llm_cost_usd_total",
        "llm_tokens_total",
        "llm_usage_source_total",
        "llm_time_to_first_token_seconds_count",
    ):
        assert value(metrics, name) == 0, name
    assert value(metrics, "tollgate_overhead_seconds_count") == 0


def test_what_was_charged_by_estimate_is_counted_by_model() -> None:
    """So that an operator sees which prices are missing."""
    metrics = told(replace(RECORD, unpriced=True, model_requested="gpt-99"), RECORD)
    assert value(metrics, "llm_unpriced_total", model="gpt-99") == value(metrics, "llm_unpriced_total") == 1


@pytest.mark.parametrize(
    ("unit", "kind"),
    [
        ("input", "input"), ("audio_in", "input"), ("image_in", "input"), ("cached_input", "cached_input"),
        ("cache_write", "cache_write"), ("cache_write_1h", "cache_write"), ("output", "output"),
        ("audio_out", "output"), ("image_out", "output"), ("reasoning", "reasoning"),
    ],
)  # fmt: skip
def test_every_token_has_one_of_the_five_kinds(unit: str, kind: str) -> None:
    """None is paid for and counted nowhere: audio and images are tokens as well, and so is what is cached for an hour."""
    metrics = told(replace(RECORD, usage={unit: 7}))
    assert value(metrics, "llm_tokens_total", type=kind) == value(metrics, "llm_tokens_total") == 7


def test_a_search_is_no_token() -> None:
    """It is billed, but by the piece."""
    assert value(told(replace(RECORD, usage={"searches": 3})), "llm_tokens_total") == 0


@pytest.mark.parametrize("labels", [(), ("team",), ("agent", "team")])
def test_only_the_caller_labels_of_the_config_are_kept(labels: tuple[str, ...]) -> None:
    """A label that is not asked for has no series."""
    [sample] = families(told(RECORD, labels=labels))["llm_cost_usd"].samples
    assert sample.labels.keys() == {*labels, "provider", "model"}


# -- bounds ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["team", "agent", "call_type", "provider", "model_served"])
def test_a_label_has_no_more_values_than_it_may(field: str) -> None:
    """Values beyond the bound become ``other``; those that were there first keep their series; no call is lost."""
    label = "model" if field == "model_served" else field
    metrics = told(*(replace(RECORD, **{field: f"v{number % 7}"}) for number in range(70)), most=3)
    found = {sample.labels[label] for sample in families(metrics)["llm_requests"].samples}
    assert found == {"v0", "v1", "v2", "other"}
    assert [value(metrics, "llm_requests_total", **{label: each}) for each in ("v0", "v1", "v2", "other")] == [
        10,
        10,
        10,
        40,
    ]
    assert value(metrics, "llm_cost_usd_total") == pytest.approx(70 * 1_234e-9)


def test_no_call_can_make_the_exposition_large() -> None:
    """A thousand callers with long names of their own in every field: a bounded number of bounded series."""
    metrics = Metrics(ALL, 2)
    for number in range(1000):
        name = f"{number:04d}" + "x" * 500
        odd: dict[str, Any] = dict.fromkeys(
            ("team", "agent", "call_type", "provider", "model_served", "error_type"), name
        )
        metrics.take(finished([replace(RECORD, **odd), replace(REFUSED, budgets=(name,), error_type="budget_held")]))
    samples = [sample for family in families(metrics).values() for sample in family.samples]
    assert len(samples) < 3000
    assert max(len(text) for sample in samples for text in sample.labels.values()) <= MAX_LABEL_CHARS


def test_combinations_are_bounded_in_all() -> None:
    """The product of bounded labels is huge: what is one too many counts under ``other``, with its provider, and is not lost."""
    metrics = Metrics(ALL, 50, 20)
    records = [replace(RECORD, team=f"t{n % 9}", agent=f"a{n % 11}", status=200 + n % 2) for n in range(990)]
    metrics.take(finished(records))
    found = {frozenset(sample.labels.items()) for sample in families(metrics)["llm_cost_usd"].samples}
    assert len(found) == 20 + 1
    beyond = {"team": "other", "agent": "other", "call_type": "other", "model": "other", "provider": "openai"}
    assert value(metrics, "llm_requests_total", **beyond) == 990 - 20 * 10
    assert value(metrics, "llm_requests_total", **beyond, status="200") == 395
    assert value(metrics, "llm_requests_total") == 990
    assert value(metrics, "llm_tokens_total", type="input") == 9900
    assert value(metrics, "llm_request_duration_seconds_count") == 990


amount = st.integers(0, 10**12)
some = st.builds(
    lambda team, cost, read, written: replace(
        RECORD, team=team, cost_nanousd=cost, usage={"input": read, "output": written}
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=80), amount, st.integers(0, 10**9), st.integers(0, 10**9),
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(batches=st.lists(st.lists(some, max_size=4), max_size=8))
def test_sums_are_right_whatever_the_labels(batches: list[list[Record]]) -> None:
    """Dollars to the nano-dollar and tokens to the token, by any names, in any batches."""
    metrics = Metrics(ALL, 3)
    for batch in batches:
        metrics.take(finished(batch))
    records = [record for batch in batches for record in batch]
    assert round(value(metrics, "llm_cost_usd_total") * 10**9) == sum(each.cost_nanousd for each in records)
    assert value(metrics, "llm_tokens_total") == sum(sum(each.usage.values()) for each in records)
    assert value(metrics, "llm_requests_total") == len(records)


# -- the exposition --------------------------------------------------------------------------------------------------------


def test_gauges_are_read_when_somebody_looks() -> None:
    """They show the present, not the moment of registration; a series that is gone is gone."""
    readings: dict[str, Any] = {}
    metrics = Metrics(ALL, 9)
    metrics.watch(lambda: readings)
    for now in (3.0, 1.0):
        readings["llm_active_requests"] = {("openai",): now}
        assert value(metrics, "llm_active_requests", provider="openai") == now
    readings.clear()
    assert "llm_active_requests" not in families(metrics)


def test_promtool_accepts_the_exposition() -> None:
    """Prometheus' own linter: names, types, help and escapes."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    found = subprocess.run([promtool, "check", "metrics"], input=full().render(), capture_output=True, check=False)
    assert (found.returncode, found.stdout.decode(), found.stderr.decode()) == (0, "", "")
