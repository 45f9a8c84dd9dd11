"""Prometheus metrics from records.

Label values come from callers, so each label keeps at most so many values and calls the rest ``other``; children are looked
up once per combination and remembered. A record costs about 10 us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gateway.accounts import Claim, Notice
from gateway.call import Record
from gateway.observe import Batch
from gateway.observe.names import CALLER_LABELS, COUNTERS, GAUGES, HISTOGRAMS, OF_A_CALL, READ, WRITTEN
from gateway.observe.recent import outcome_of

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asked for
MAX_LABEL_CHARS = 64
MAX_REMEMBERED = 10_000
OTHER = "other"
TYPE_OF = READ | WRITTEN

Reading = Mapping[tuple[str, ...], float]
"""Values of a gauge by label values, read when somebody scrapes."""


@dataclass(frozen=True, slots=True)
class _Children:
    """The metrics of one combination of caller, provider and model."""

    cost: Any
    duration: Any
    ttft: Any
    tpot: Any
    tokens: Mapping[str, Any]
    """By unit of usage; several units may be of one type."""


class Metrics:
    """A sink. ``labels`` are the caller labels that are kept; ``max_values`` bounds each label."""

    name = "metrics"

    def __init__(self, labels: Sequence[str], max_values: int) -> None:
        self._labels = tuple(label for label in CALLER_LABELS if label in labels)
        self._max_values = max_values
        self._values: dict[str, set[str]] = {}
        self._registry = CollectorRegistry()
        self._counters = {
            name: Counter(name.removesuffix("_total"), text, self._expand(labels), registry=self._registry)
            for name, (text, labels) in COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(name, text, self._expand(labels), buckets=buckets, registry=self._registry)
            for name, (text, labels, buckets) in HISTOGRAMS.items()
        }
        self._overhead = self._histograms["tollgate_overhead_seconds"].labels("admit")
        self._children: dict[tuple[str, ...], _Children] = {}
        self._statuses: dict[tuple[str, ...], Any] = {}

    def watch(self, readings: Callable[[], Mapping[str, Reading]]) -> None:
        """Gauges whose values are asked for at each scrape: name -> label values -> value."""
        self._registry.register(_Asked(readings))

    def render(self) -> bytes:
        """The text exposition."""
        return generate_latest(self._registry)

    def count_sink_error(self, sink: str) -> None:
        """A sink failed to take a batch."""
        self._counters["tollgate_sink_errors_total"].labels(sink).inc()

    def count_export(self, signal: str, outcome: str, items: int) -> None:
        """Spans or metrics went out, or did not."""
        if outcome == "dropped":
            self._counters["tollgate_telemetry_dropped_total"].labels(signal).inc(items)
        else:
            self._counters["tollgate_telemetry_exported_total"].labels(signal, outcome).inc(items)

    def count_overdraft(self, claim: Claim, nanousd: int) -> None:
        """A settlement went past a limit."""
        self._counters["llm_budget_overdraft_usd_total"].labels(self._bounded("budget", claim.budget)).inc(
            nanousd / 1e9
        )

    def count_unheld(self) -> None:
        """A call that a budget limits went on although the store was down."""
        self._counters["llm_budget_unheld_calls_total"].inc()

    def count_webhook(self, kind: str, outcome: str) -> None:
        """An event was delivered to a webhook, could not be, or was dropped."""
        self._counters["tollgate_webhook_deliveries_total"].labels(kind, outcome).inc()

    def count_notice(self, notice: Notice) -> None:
        """A threshold was crossed."""
        budget = self._bounded("budget", notice.budget)
        self._counters["llm_budget_notices_total"].labels(budget, str(notice.percent)).inc()

    def count_target(self, target: str, calls: int, missed: int) -> None:
        """Calls that a target speaks of; ``missed`` are among them."""
        self._counters["llm_target_calls_total"].labels(target).inc(calls)
        violations = self._counters["llm_target_violations_total"].labels(target)  # there from the first call on
        if missed:
            violations.inc(missed)

    def take(self, batch: Batch) -> None:
        """Count a batch."""
        for record in batch.records:
            self._take(record)

    def _take(self, record: Record) -> None:
        if record.corrects:
            self._correct(record.cost_nanousd)
            return
        base = self._base(record)
        children = self._children.get(base) or self._remember(base)
        self._spent(record, children)
        if record.told_by:
            return  # work that no call of ours waited for
        self._status(base, record).inc()
        children.duration.observe(record.latency_ms / 1000)
        if record.usage_source:
            self._counters["llm_usage_source_total"].labels(record.usage_source).inc()
            self._timing(record, children)
        if record.attempts:
            self._overhead.observe(record.overhead_ms / 1000)
            self._attempted(record)
        if record.error_type or record.unpriced:
            self._exceptions(record, base)
        if record.own_count:
            self._compare(record, base)
        for budget in record.would_refuse:
            self._counters["llm_budget_shadow_rejections_total"].labels(self._bounded("budget", budget)).inc()

    def _attempted(self, record: Record) -> None:
        """A request is sent again only after a kept connection turned out to be closed."""
        counter, upstream = self._counters["llm_upstream_attempts_total"], self._bounded("upstream", record.upstream)
        counter.labels(upstream, outcome_of(record)).inc()
        if record.attempts > 1:
            counter.labels(upstream, "disconnected").inc(record.attempts - 1)

    def _compare(self, record: Record, base: tuple[str, ...]) -> None:
        for kind, units in (("input", READ), ("output", WRITTEN)):
            told = sum(record.usage.get(unit, 0) for unit in units)
            if told and kind in record.own_count:
                ratio = record.own_count[kind] / told
                self._histograms["tollgate_own_count_ratio"].labels(*base[-2:], kind).observe(ratio)

    def _spent(self, record: Record, children: _Children) -> None:
        if record.cost_nanousd:
            children.cost.inc(record.cost_nanousd / 1e9)
        for unit, count in record.usage.items():
            child = children.tokens.get(unit)
            if child is not None:
                child.inc(count)

    def _correct(self, nanousd: int) -> None:
        direction = "up" if nanousd > 0 else "down"
        self._counters["llm_cost_corrections_usd_total"].labels(direction).inc(abs(nanousd) / 1e9)

    def _timing(self, record: Record, children: _Children) -> None:
        if record.ttft_ms is None:
            return
        children.ttft.observe(record.ttft_ms / 1000)
        written = sum(record.usage.get(unit, 0) for unit in WRITTEN)
        if record.stream and written > 1:
            children.tpot.observe((record.latency_ms - record.ttft_ms) / 1000 / (written - 1))

    def _exceptions(self, record: Record, base: tuple[str, ...]) -> None:
        if record.error_type:
            self._counters["llm_errors_total"].labels(*base, self._bounded("error_type", record.error_type)).inc()
        if record.error_type in ("budget_exceeded", "budget_held"):
            for budget in record.budgets[:1]:
                self._counters["llm_budget_rejections_total"].labels(self._bounded("budget", budget)).inc()
        if record.unpriced:
            self._counters["llm_unpriced_total"].labels(self._bounded("model", record.model_requested)).inc()

    def _status(self, base: tuple[str, ...], record: Record) -> Any:
        key = (*base, str(record.status))
        child = self._statuses.get(key)
        if child is None:
            if len(self._statuses) >= MAX_REMEMBERED:
                self._statuses.clear()
            child = self._statuses[key] = self._counters["llm_requests_total"].labels(*key)
        return child

    def _base(self, record: Record) -> tuple[str, ...]:
        values = [self._bounded(label, getattr(record, label)) for label in self._labels]
        model = record.model_served or record.model_requested
        return (*values, self._bounded("provider", record.provider), self._bounded("model", model))

    def _bounded(self, label: str, value: str) -> str:
        """The value, or ``other`` once the label has as many values as it may."""
        value = value[:MAX_LABEL_CHARS]
        known = self._values.setdefault(label, set())
        if value in known:
            return value
        if len(known) >= self._max_values:
            return OTHER
        known.add(value)
        return value

    def _remember(self, base: tuple[str, ...]) -> _Children:
        if len(self._children) >= MAX_REMEMBERED:
            self._children.clear()
        tokens = {kind: self._counters["llm_tokens_total"].labels(*base, kind) for kind in TYPE_OF.values()}
        found = _Children(
            cost=self._counters["llm_cost_usd_total"].labels(*base),
            duration=self._histograms["llm_request_duration_seconds"].labels(*base),
            ttft=self._histograms["llm_time_to_first_token_seconds"].labels(*base),
            tpot=self._histograms["llm_time_per_output_token_seconds"].labels(*base),
            tokens={unit: tokens[kind] for unit, kind in TYPE_OF.items()},
        )
        self._children[base] = found
        return found

    def _expand(self, labels: Iterable[str]) -> list[str]:
        return [name for label in labels for name in (self._labels if label == OF_A_CALL[0] else (label,))]


class _Asked(Collector):
    """Gauges that are read at a scrape."""

    def __init__(self, readings: Callable[[], Mapping[str, Reading]]) -> None:
        self._readings = readings

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One family for each gauge that has values."""
        for name, values in self._readings().items():
            text, labels = GAUGES[name]
            family = GaugeMetricFamily(name, text, labels=labels)
            for label_values, value in values.items():
                family.add_metric(list(label_values), value)
            yield family
