"""The text that is scraped: both forms say the same, any name survives, exemplars lead to calls, and no slice is long."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

from gateway.observe.exposition import SLICE_SERIES, expose
from gateway.observe.metrics import Metrics
from gateway.observe.series import counter, gauge, histogram
from tests.harness.finished import batch as finished
from tests.unit.observe.test_metrics import ALL, RECORD, REFUSED, full

TRACE, ANOTHER = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"


def samples(read, text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in read(text.decode())
        for sample in family.samples
    }


def test_both_forms_say_the_same() -> None:
    """Families, types, help, samples: read by the parsers of somebody else."""
    metrics = full()
    plain, opened = metrics.render(), metrics.render(open_metrics=True)
    assert samples(read_plain, plain) == samples(read_open, opened)
    kinds = [{(family.name, family.type, family.documentation) for family in read(text.decode())}
             for read, text in ((read_plain, plain), (read_open, opened))]  # fmt: skip
    assert kinds[0] == kinds[1]
    assert opened.endswith(b"\n# EOF\n")
    assert b"# EOF" not in plain


@settings(max_examples=80, deadline=None)
@given(value=st.text(st.characters(exclude_categories=["Cs"]), max_size=40), help_=st.text('ab\\\n" ', max_size=9))
def test_any_label_value_survives(value: str, help_: str) -> None:
    """Quotes, backslashes, line ends, any script."""
    family = counter("x_total", "a" + help_ + "b", ("l",))
    family.labels(value).inc(2)
    for read, open_metrics in ((read_plain, False), (read_open, True)):
        text = b"".join(expose([family], open_metrics=open_metrics)).decode()
        [sample] = next(iter(read(text))).samples
        assert (sample.labels, sample.value) == ({"l": value}, 2)


@pytest.mark.parametrize(("value", "text"), [(0, "0.0"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (1e300, "1e+300"),
                                              (float("nan"), "NaN"), (123456789012, "123456789012.0")])  # fmt: skip
def test_numbers_are_written_as_prometheus_reads_them(value: float, text: str) -> None:
    """What is no number as well."""
    family = gauge("g", "A gauge.", ())
    family.labels().value = value
    assert f"\ng {text}\n".encode() in b"".join(expose([family], open_metrics=False))


def test_a_value_on_a_bound_lies_below_it() -> None:
    """``le`` means less or equal."""
    family = histogram("h", "H.", (), (1.0, 2.0))
    for value in (1.0, 1.5, 2.0, 2.1):
        family.labels().observe(value)
    found = samples(read_plain, b"".join(expose([family], open_metrics=False)))
    assert [found["h_bucket", frozenset({("le", le)})] for le in ("1.0", "2.0", "+Inf")] == [1, 3, 4]
    assert (found["h_count", frozenset()], found["h_sum", frozenset()]) == (4, pytest.approx(6.6))


# -- exemplars -------------------------------------------------------------------------------------------------------------


def exemplars(metrics: Metrics) -> dict[str, list[tuple[str, float]]]:
    """By sample name: trace ids and values."""
    found: dict[str, list[tuple[str, float]]] = {}
    for family in read_open(metrics.render(open_metrics=True).decode()):
        for sample in family.samples:
            if sample.exemplar is not None:
                found.setdefault(sample.name, []).append((sample.exemplar.labels["trace_id"], sample.exemplar.value))
    return found


def taken(*records) -> Metrics:
    metrics = Metrics(ALL, 100)
    metrics.take(finished(records))
    return metrics


def test_a_call_stands_for_others_where_it_was_counted() -> None:
    """In the bucket of its time, and at the counts that somebody looks at."""
    found = exemplars(taken(replace(RECORD, trace_id=TRACE, error_type="upstream_error")))
    assert found == {
        "llm_request_duration_seconds_bucket": [(TRACE, 0.7)],
        "llm_time_to_first_token_seconds_bucket": [(TRACE, 0.1)],
        "llm_requests_total": [(TRACE, 1.0)],
        "llm_errors_total": [(TRACE, 1.0)],
        "llm_cost_usd_total": [(TRACE, 1_234e-9)],
    }


def test_a_slow_call_is_not_hidden_by_quick_ones() -> None:
    """Each bucket has its own; within a second the first of a bucket stays."""
    quick = [replace(RECORD, trace_id=TRACE, latency_ms=700.0 - n) for n in range(5)]
    slow = replace(RECORD, trace_id=ANOTHER, latency_ms=60_000.0)
    found = exemplars(taken(*quick, slow))
    assert found["llm_request_duration_seconds_bucket"] == [(TRACE, 0.7), (ANOTHER, 60.0)]


def test_an_exemplar_makes_room_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a scrape shows what happened since the one before."""
    now = [1000.0]
    monkeypatch.setattr("gateway.observe.metrics.time.time", lambda: now[0])
    metrics = taken(replace(RECORD, trace_id=TRACE))
    for moment, expected in ((1000.9, TRACE), (1001.0, ANOTHER)):
        now[0] = moment
        metrics.take(finished([replace(RECORD, trace_id=ANOTHER)]))
        assert exemplars(metrics)["llm_requests_total"] == [(expected, 1.0)]


def test_a_clock_that_is_set_back_does_not_keep_an_exemplar(monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as it was ahead, nothing newer would be shown."""
    now = [5000.0]
    monkeypatch.setattr("gateway.observe.metrics.time.time", lambda: now[0])
    metrics = taken(replace(RECORD, trace_id=TRACE))
    now[0] = 1000.0
    metrics.take(finished([replace(RECORD, trace_id=ANOTHER)]))
    found = exemplars(metrics)
    assert found["llm_requests_total"] == [(ANOTHER, 1.0)]
    assert found["llm_request_duration_seconds_bucket"] == [(ANOTHER, 0.7)]


@pytest.mark.parametrize("trace_id", ["", "x" * 32, TRACE[:-1], TRACE.upper(), 'a"} 1\n' + TRACE])
def test_what_is_no_trace_id_leads_nowhere(trace_id: str) -> None:
    """It is not shown at all."""
    assert exemplars(taken(replace(RECORD, trace_id=trace_id))) == {}


def test_a_call_whose_trace_nobody_keeps_is_no_exemplar() -> None:
    """By its caller's word, or by that of whoever makes the traces."""
    assert exemplars(taken(replace(RECORD, trace_id=TRACE, sampled="0"))) == {}
    metrics = Metrics(ALL, 100)
    metrics.is_traced = lambda record: record.team == "traced"
    metrics.take(finished([replace(RECORD, trace_id=TRACE), replace(RECORD, trace_id=ANOTHER, team="traced")]))
    assert exemplars(metrics)["llm_requests_total"] == [(ANOTHER, 1.0)]


def test_prometheus_own_form_has_none() -> None:
    """Version 0.0.4 has no place for them."""
    assert b"trace_id" not in taken(replace(RECORD, trace_id=TRACE)).render()


# -- slices ----------------------------------------------------------------------------------------------------------------


def test_a_scrape_comes_in_slices() -> None:
    """However many series there are, none is much longer than it should be, and calls that come in between break nothing."""
    metrics = Metrics(ALL, 1000)
    records = [replace(RECORD, team=f"t{n}") for n in range(300)]
    metrics.take(finished([*records, REFUSED]))
    text = b""
    for number, piece in enumerate(metrics.slices(open_metrics=True)):
        assert piece.count(b"\n") < SLICE_SERIES * 20 + 60
        text += piece
        metrics.take(finished([replace(RECORD, team=f"late{number}")]))
    assert number > 10
    found = samples(read_open, text)
    assert sum(value for (name, _), value in found.items() if name == "llm_cost_usd_total") > 300 * 1_234e-9 * 0.999
