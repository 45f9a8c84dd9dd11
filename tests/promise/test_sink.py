"""One suite, every sink: takes any record, in any batch, changes none of it, and cannot hurt its neighbours."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call import Record
from gateway.observe import Batch, FanOut, Sink, otlp
from gateway.observe.console import Screen
from gateway.observe.end_to_end import Requests
from gateway.observe.exporter import Exporter
from gateway.observe.gen_ai import GenAi
from gateway.observe.logs import CallLog
from gateway.observe.metrics import Metrics
from gateway.observe.spans import Style
from gateway.observe.targets import Target, TargetSink
from gateway.observe.tracing import Sampler, Traces
from tests.harness.finished import batch as finished


def targets() -> Sink:
    """One that looks at everything."""
    sink = TargetSink(lambda *_: None, Requests().see)
    fields = ("team", "agent", "call_type", "model", "upstream")
    sink.apply(
        [Target("of calls", tuple((name, "*") for name in fields), latency_ms=10.0), Target("whole", whole=True)]
    )
    return sink


SINKS: dict[str, Callable[[], Sink]] = {
    "metrics": lambda: Metrics(("team", "agent", "call_type"), 3),
    "gen_ai": lambda: GenAi(("team", "user"), 3, 9, latest=False),
    "gen_ai latest": lambda: GenAi(("tags.a",), 3, 9, latest=True),
    "json log": lambda: CallLog("json", io.BytesIO()),
    "traces": lambda: Traces(Exporter("traces", Screen(), lambda *_: None), otlp, Sampler(0.5), Style(), ()),
    "console log": lambda: CallLog("console", io.BytesIO()),
    "targets": targets,
}
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
amount = st.integers(0, 1 << 53)
ms = st.floats(0, 1e9)
UNITS = ["input", "cached_input", "cache_write", "output", "reasoning", "audio_in", "odd unit"]
records = st.builds(
    Record,
    call_id=text, correlation_id=text, trace_id=st.text("0123456789abcdef", min_size=32, max_size=32), started_at=text, team=text, user=text, agent=text, call_type=text,
    tags=st.dictionaries(text, text, max_size=3), key_name=text, upstream=text, provider=text, protocol=text,
    operation=text, model_requested=text, model_served=text, stream=st.booleans(), status=st.integers(0, 599),
    error_type=st.one_of(text, st.just("budget_exceeded")), attempts=st.integers(0, 3),
    usage=st.dictionaries(st.sampled_from(UNITS), st.integers(0, 10**9)),
    usage_source=st.sampled_from(["", "provider", "counted", "estimated"]), usage_method=text,
    usage_raw=st.one_of(st.none(), st.dictionaries(text, st.integers(0, 10**9), max_size=3)),
    cost_nanousd=amount, price_rows=st.tuples(text), pricebook=text, unpriced=st.booleans(), service_tier=text,
    held_nanousd=amount, budgets=st.tuples(text), latency_ms=ms, ttft_ms=st.one_of(st.none(), ms), overhead_ms=ms, read_ms=ms, reserve_ms=ms,
    sent_ms=st.one_of(st.none(), ms),
    request_bytes=amount, response_bytes=amount, config_version=text,
    outcome=st.sampled_from(["completed", "client_disconnected", "upstream_error", "refused", "cut", "lost"]),
    accounts=st.tuples(text),
)  # fmt: skip
each_sink = pytest.mark.parametrize("make", SINKS.values(), ids=SINKS)


@each_sink
@settings(max_examples=60, deadline=None)
@given(batch=st.lists(records, max_size=5))
def test_a_sink_takes_whatever_a_call_came_to(make: Callable[[], Sink], batch: list[Record]) -> None:
    """Nothing is raised, nothing of the record is changed."""
    before = copy.deepcopy(batch)
    make().take(finished(batch))
    assert batch == before


@settings(max_examples=60, deadline=None)
@given(batch=st.lists(records, min_size=1, max_size=5), form=st.sampled_from(["json", "console"]))
def test_a_log_has_one_line_a_call_whatever_stands_in_it(batch: list[Record], form: str) -> None:
    """No caller can begin a line of its own."""
    stream = io.BytesIO()
    CallLog(form, stream).take(finished(batch))
    lines = stream.getvalue().decode().split("\n")
    assert len(lines) == len(batch) + 1
    assert all(line.isprintable() for line in lines) or form == "json"
    if form == "json":
        told = [json.loads(line) for line in lines[:-1]]
        assert [(line["call_id"], line["cost_nanousd"]) for line in told] == [
            (each.call_id, each.cost_nanousd) for each in batch
        ]


class Broken:
    """Fails at every batch."""

    name = "broken"

    def take(self, batch: Batch) -> None:
        raise OSError(28, "No space left on device")


@settings(max_examples=10, deadline=None)
@given(batch=st.lists(records, min_size=1, max_size=3))
def test_a_sink_that_fails_is_counted_and_its_neighbours_get_everything(batch: list[Record]) -> None:
    """In whatever order they stand."""
    failed: list[str] = []
    before, after = io.BytesIO(), io.BytesIO()
    fan_out = FanOut([CallLog("json", before), Broken(), CallLog("json", after)], failed.append)
    fan_out.take_all(finished(batch))
    fan_out.take_all(finished(batch))
    assert failed == ["broken", "broken"]
    assert before.getvalue() == after.getvalue()
    assert before.getvalue().count(b"\n") == 2 * len(batch)
