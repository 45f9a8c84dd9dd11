"""What calls come to in metrics: each record is counted once, in every family that it is part of.

Families are declared in ``names``, kept as ``series``, bounded by ``labels``, written by ``exposition``. A record costs 3.2 us.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.accounts import Claim, Notice
from gateway.call import Record
from gateway.observe import Batch
from gateway.observe.exposition import expose
from gateway.observe.labels import Labels, Values
from gateway.observe.names import COUNTERS, GAUGES, HISTOGRAMS, OF_A_CALL, READ, WRITTEN
from gateway.observe.recent import outcome_of
from gateway.observe.series import Family, Histogram, Number, counter, gauge, histogram
from pricing.money import NANO

KINDS_OF_A_CALL = 5
"""Series of one name that a combination may have: there are five kinds of tokens, and no more statuses as a rule."""
MAX_REMEMBERED_STATUSES = 8
SAYS_OF_KEY = {401: "rejected", 403: "rejected", 429: "rate_limited"}
"""Statuses with which a provider speaks of the key that it was shown."""
NOT_SAMPLED = "0"
DOLLARS = "_usd_total"
"""Families of this ending count nano-dollars."""
TYPE_OF = READ | WRITTEN

Reading = Mapping[tuple[str, ...], float]
"""Values of a gauge by label values, read when somebody scrapes."""
Readings = Callable[[], Mapping[str, Reading]]


@dataclass(slots=True)
class _OfOne:
    """The series of one combination of caller, provider and model. Those that not every call has come when they are needed."""

    values: Values
    cost: Number
    duration: Histogram
    tokens: Mapping[str, Number]
    """By unit of usage; several units may be of one type."""
    statuses: dict[int, Number] = field(default_factory=dict)
    ttft: Histogram | None = None
    tpot: Histogram | None = None


class Metrics:
    """A sink, and the metrics themselves. ``is_traced`` says whether a call's trace is kept, so that it can stand for others."""

    name = "metrics"

    def __init__(self, labels: Sequence[str], max_values: int, max_combinations: int = 5000) -> None:
        """``labels`` are the caller's that are kept; ``max_values`` bounds each, ``max_combinations`` them all together."""
        self.labels = Labels(labels, max_values, max_combinations)
        self.is_traced: Callable[[Record], bool] = is_not_unsampled
        self._counters = {name: self._counter(name, *told) for name, told in COUNTERS.items()}
        self._histograms = {name: self._histogram(name, *told) for name, told in HISTOGRAMS.items()}
        self._admit, self._settle = self._of_phases("tollgate_overhead_seconds", "admit", "settle")
        self._reserve, self._book = self._of_phases("tollgate_store_seconds", "reserve", "settle")
        self._sources = self._counters["llm_usage_source_total"]
        self._known: dict[Values, _OfOne] = {}
        self._attempts: dict[tuple[str, str], Number] = {}
        """By upstream and outcome."""
        self._readings: list[Readings] = []

    def watch(self, readings: Readings) -> None:
        """Gauges whose values are asked for at each scrape: name -> label values -> value."""
        self._readings.append(readings)

    def families(self) -> Iterator[Family[Number] | Family[Histogram]]:
        """Everything there is: counters, histograms, and the gauges as they are now."""
        yield from self._counters.values()
        yield from self._histograms.values()
        for readings in self._readings:
            for name, values in readings().items():
                text, labels = GAUGES[name]
                family = (counter if name.endswith("_total") else gauge)(name, text, labels)
                for label_values, value in values.items():
                    family.labels(*label_values).value = value
                yield family

    def slices(self, *, open_metrics: bool = False) -> Iterator[bytes]:
        """The text exposition, in slices of about a millisecond."""
        return expose(self.families(), open_metrics=open_metrics)

    def render(self, *, open_metrics: bool = False) -> bytes:
        """The text exposition at once."""
        return b"".join(self.slices(open_metrics=open_metrics))

    # -- what is told besides records ---------------------------------------------------------------------------------

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
        self._counters["llm_budget_overdraft_usd_total"].labels(self._bounded("budget", claim.budget)).inc(nanousd)

    def count_unheld(self) -> None:
        """A call that a budget limits went on although the store was down."""
        self._counters["llm_budget_unheld_calls_total"].labels().inc()

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

    def count_booking(self, seconds: float) -> None:
        """The store took so long to book a batch."""
        self._book.observe(seconds)

    def count_settling(self, seconds: float) -> None:
        """The gateway took so long, the store's part included, to work a batch off."""
        self._settle.observe(seconds)

    # -- records ------------------------------------------------------------------------------------------------------

    def take(self, batch: Batch) -> None:
        """Count a batch."""
        now = time.time()
        for record in batch.records:
            self._take(record, now)

    def _take(self, record: Record, now: float) -> None:
        if record.corrects:
            self._correct(record.cost_nanousd)
            return
        raw = self.labels.raw(record)
        series = self._known.get(raw) or self._of(raw)
        trace_id = record.trace_id if self.is_traced(record) else ""
        if record.cost_nanousd:
            series.cost.inc(record.cost_nanousd, trace_id, now)
        for unit, count in record.usage.items():
            tokens = series.tokens.get(unit)
            if tokens is not None:
                tokens.value += count
        if record.told_by:
            return  # work that no call of ours waited for
        status = series.statuses.get(record.status) or self._status(series, record.status)
        status.inc(1, trace_id, now)
        series.duration.observe(record.latency_ms / 1000, trace_id, now)
        if record.usage_source:
            self._sources.labels(record.usage_source).value += 1
            if record.ttft_ms is not None:
                self._timing(record, record.ttft_ms, series, trace_id, now)
        if record.attempts:
            self._admit.observe(record.overhead_ms / 1000)
            self._attempted(record)
        if record.reserve_ms:
            self._reserve.observe((record.reserve_ms - record.waited_ms) / 1000)
        if record.error_type or record.unpriced:
            self._exceptions(record, series.values, trace_id, now)
        if record.own_count:
            self._compare(record, series.values)
        for budget in record.would_refuse:
            self._counters["llm_budget_shadow_rejections_total"].labels(self._bounded("budget", budget)).inc()

    def _attempted(self, record: Record) -> None:
        """A request is sent again only after a kept connection turned out to be closed."""
        upstream, outcome = record.upstream, outcome_of(record)
        (self._attempts.get((upstream, outcome)) or self._attempts_of(upstream, outcome)).value += 1
        if record.attempts > 1:
            self._attempts_of(upstream, "disconnected").value += record.attempts - 1
        if record.provider_key:
            key, said = self._bounded("provider_key", record.provider_key), SAYS_OF_KEY.get(record.status)
            calls = self._counters["tollgate_provider_key_calls_total"]
            calls.labels(self._bounded("upstream", upstream), key, said or outcome).inc()

    def _compare(self, record: Record, values: Values) -> None:
        for kind, units in (("input", READ), ("output", WRITTEN)):
            told = sum(record.usage.get(unit, 0) for unit in units)
            if told and kind in record.own_count:
                ratio = record.own_count[kind] / told
                self._histograms["tollgate_own_count_ratio"].labels(*values[-2:], kind).observe(ratio)

    def _correct(self, nanousd: int) -> None:
        direction = "up" if nanousd > 0 else "down"
        self._counters["llm_cost_corrections_usd_total"].labels(direction).inc(abs(nanousd))

    def _timing(self, record: Record, ttft_ms: float, series: _OfOne, trace_id: str, now: float) -> None:
        if series.ttft is None:
            series.ttft = self._histograms["llm_time_to_first_token_seconds"].labels(*series.values)
        series.ttft.observe(ttft_ms / 1000, trace_id, now)
        if not record.stream:
            return
        written = sum([count for unit, count in record.usage.items() if unit in WRITTEN])
        if written > 1:
            if series.tpot is None:
                series.tpot = self._histograms["llm_time_per_output_token_seconds"].labels(*series.values)
            series.tpot.observe((record.latency_ms - ttft_ms) / 1000 / (written - 1))

    def _exceptions(self, record: Record, values: Values, trace_id: str, now: float) -> None:
        if record.error_type:
            kind = self._bounded("error_type", record.error_type)
            self._counters["llm_errors_total"].labels(*values, kind).inc(1, trace_id, now)
        if record.error_type in ("budget_exceeded", "budget_held"):
            for budget in record.budgets[:1]:
                self._counters["llm_budget_rejections_total"].labels(self._bounded("budget", budget)).inc()
        if record.refused_by:
            told = [self._bounded(label, record.refused_by[label]) for label in ("limit", "scope", "unit")]
            self._counters["llm_limit_rejections_total"].labels(*told).inc()
        if record.unpriced:
            self._counters["llm_unpriced_total"].labels(self._bounded("model", record.model_requested)).inc()

    # -- series -------------------------------------------------------------------------------------------------------

    def _of(self, raw: Values) -> _OfOne:
        """The series of a combination. Raw values that were folded are looked up again each time (2 us): nothing that a
        caller makes up is remembered.
        """
        values = self.labels.bounded(raw)
        found = self._known.get(values)
        if found is None:
            tokens = {kind: self._counters["llm_tokens_total"].labels(*values, kind) for kind in TYPE_OF.values()}
            found = self._known[values] = _OfOne(
                values,
                cost=self._counters["llm_cost_usd_total"].labels(*values),
                duration=self._histograms["llm_request_duration_seconds"].labels(*values),
                tokens={unit: tokens[kind] for unit, kind in TYPE_OF.items()},
            )
        return found

    def _status(self, series: _OfOne, status: int) -> Number:
        found = self._counters["llm_requests_total"].labels(*series.values, self._bounded("status", str(status)))
        if len(series.statuses) < MAX_REMEMBERED_STATUSES:
            series.statuses[status] = found
        return found

    def _attempts_of(self, upstream: str, outcome: str) -> Number:
        found = self._counters["llm_upstream_attempts_total"].labels(self._bounded("upstream", upstream), outcome)
        return self._attempts.setdefault((upstream, outcome), found)

    def _bounded(self, label: str, value: str) -> str:
        return self.labels.value(label, value)

    def _of_phases(self, name: str, *phases: str) -> list[Histogram]:
        return [self._histograms[name].labels(phase) for phase in phases]

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Family[Number]:
        expanded, folding = self._expand(labels)
        most = self.labels.room * KINDS_OF_A_CALL
        return counter(name, text, expanded, most=most, folding=folding, per=NANO if name.endswith(DOLLARS) else 1)

    def _histogram(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> Family[Histogram]:
        expanded, folding = self._expand(labels)
        return histogram(name, text, expanded, bounds, most=self.labels.room, folding=folding)

    def _expand(self, labels: Sequence[str]) -> tuple[Values, int]:
        """The caller's labels in the place of ``caller``; and how many come before what only this family has."""
        callers = self.labels.of_callers
        expanded = tuple([each for label in labels for each in (callers if label == OF_A_CALL[0] else (label,))])
        return expanded, expanded.index("model") + 1 if "model" in expanded else 0


def is_not_unsampled(record: Record) -> bool:
    """Unless its caller has said that nobody keeps the trace. A trace id leads to log line and record in any case."""
    return record.sampled != NOT_SAMPLED
