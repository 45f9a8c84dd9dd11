"""What calls come to in the words of OpenTelemetry's GenAI conventions: the instruments ``gen_ai.*``.

Names of semantic conventions 1.41.1, or with ``latest`` of the semantic-conventions-genai repository, which counts tokens by
modality. A sink that is there only while metrics are pushed over OTLP; a record costs it 3 us. Tokens are those of the bill:
input with what was cached, output with reasoning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.call import Record
from gateway.observe import Batch
from gateway.observe.labels import Labels, Values
from gateway.observe.metrics import is_not_unsampled
from gateway.observe.names import DURATION_BUCKETS, READ, TPOT_BUCKETS, TTFT_BUCKETS, WRITTEN
from gateway.observe.series import Family, Histogram, Number, counter, histogram
from gateway.observe.spans import CACHE_READ, CACHE_WRITE, OPERATIONS, PROVIDERS

TOKEN_BUCKETS = tuple(4**power for power in range(14))
"""gen_ai.client.token.usage: 1, 4, 16 ... 67108864."""
OF_A_RECORD = {
    "operation": "gen_ai.operation.name",
    "provider": "gen_ai.provider.name",
    "model_requested": "gen_ai.request.model",
    "model": "gen_ai.response.model",
    "error_type": "error.type",
}
"""Attributes by what the gateway calls them; the caller's names are ``tollgate.team`` and so on."""
MORE = ("operation", "model_requested", "error_type")
MODALITIES = {
    "audio_in": "audio",
    "cached_audio": "audio",
    "audio_out": "audio",
    "image_in": "image",
    "cached_image": "image",
    "image_out": "image",
}
USAGE = "gen_ai.client.inference.usage."
LATEST_SUMS = {
    "input_tokens": tuple(READ),
    "output_tokens": tuple(WRITTEN),
    "cache_read.input_tokens": CACHE_READ,
    "cache_write.input_tokens": CACHE_WRITE,
    "reasoning.output_tokens": ("reasoning",),
}
"""Counters of the newest conventions, and the units of usage that each counts."""

Named = tuple[str, str, Family[Any]]
"""Name, unit, series."""


class _OfOne:
    """The series of one combination of attributes."""

    __slots__ = ("duration", "inputs", "outputs", "sums", "tpot", "ttft", "values")

    def __init__(self, values: Values, duration: Histogram) -> None:
        self.values = values
        self.duration = duration
        self.inputs: Histogram | None = None
        self.outputs: Histogram | None = None
        self.ttft: Histogram | None = None
        self.tpot: Histogram | None = None
        self.sums: Mapping[str, Sequence[Number]] = {}
        """By unit of usage."""


class GenAi:
    """A sink, and its instruments."""

    name = "gen_ai"

    def __init__(self, labels: Sequence[str], max_values: int, max_combinations: int, *, latest: bool) -> None:
        """``labels`` are the caller's that are kept."""
        self.is_traced: Callable[[Record], bool] = is_not_unsampled
        self._labels = Labels(labels, max_values, max_combinations, MORE)
        self._latest = latest
        self._names = tuple([OF_A_RECORD.get(name, f"tollgate.{name}") for name in self._labels.names])
        self._known: dict[Values, _OfOne] = {}
        self._duration = self._histogram("Time of a call.", DURATION_BUCKETS)
        self._ttft = self._histogram("Time to the answer's first byte.", TTFT_BUCKETS)
        self._tpot = self._histogram("Time per token after the first.", TPOT_BUCKETS)
        kinds = ("gen_ai.token.type",) if not latest else ()
        self._tokens = self._histogram("Tokens of a call.", TOKEN_BUCKETS, *kinds)
        self._written = self._histogram("Output tokens of a call.", TOKEN_BUCKETS)
        self._sums = {
            name: counter(USAGE + name, "Tokens.", (*self._names, "gen_ai.token.modality")) for name in LATEST_SUMS
        }

    def families(self) -> list[Named]:
        """The instruments. What the client sees and what the server took are one here: the gateway stands at the server's door."""
        told: list[Named] = [
            ("gen_ai.server.request.duration", "s", self._duration),
            ("gen_ai.server.time_to_first_token", "s", self._ttft),
            ("gen_ai.server.time_per_output_token", "s", self._tpot),
        ]
        if not self._latest:
            return [
                *told,
                ("gen_ai.client.operation.duration", "s", self._duration),
                ("gen_ai.client.token.usage", "{token}", self._tokens),
            ]
        return [
            *told,
            ("gen_ai.client.inference.duration", "s", self._duration),
            ("gen_ai.client.inference.time_to_first_chunk", "s", self._ttft),
            ("gen_ai.client.inference.operation.input_tokens", "{token}", self._tokens),
            ("gen_ai.client.inference.operation.output_tokens", "{token}", self._written),
            *((family.name, "{token}", family) for family in self._sums.values()),
        ]

    def take(self, batch: Batch) -> None:
        """Count a batch."""
        now = time.time()
        for record in batch.records:
            if not record.corrects and not record.told_by:
                self._take(record, now)

    def _take(self, record: Record, now: float) -> None:
        raw = self._labels.raw(record)
        series = self._known.get(raw) or self._of(raw)
        trace_id = record.trace_id if self.is_traced(record) else ""
        series.duration.observe(record.latency_ms / 1000, trace_id, now)
        if not record.usage_source:
            return
        read = written = 0
        for unit, count in record.usage.items():
            if unit in READ:
                read += count
            elif unit in WRITTEN:
                written += count
        if series.inputs is None or series.outputs is None:
            series.inputs, series.outputs = self._of_tokens(series.values)
        series.inputs.observe(read, trace_id, now)
        series.outputs.observe(written, trace_id, now)
        if self._latest:
            self._add(record.usage, series)
        if record.ttft_ms is not None:
            if series.ttft is None:
                series.ttft = self._ttft.labels(*series.values)
            series.ttft.observe(record.ttft_ms / 1000, trace_id, now)
            if record.stream and written > 1:
                if series.tpot is None:
                    series.tpot = self._tpot.labels(*series.values)
                series.tpot.observe((record.latency_ms - record.ttft_ms) / 1000 / (written - 1))

    def _add(self, usage: Mapping[str, int], series: _OfOne) -> None:
        for unit, count in usage.items():
            if unit not in series.sums:
                modality = MODALITIES.get(unit, "text")
                kinds = [self._sums[name] for name, units in LATEST_SUMS.items() if unit in units]
                series.sums = {**series.sums, unit: [kind.labels(*series.values, modality) for kind in kinds]}
            for number in series.sums[unit]:
                number.value += count

    def _of_tokens(self, values: Values) -> tuple[Histogram, Histogram]:
        if self._latest:
            return self._tokens.labels(*values), self._written.labels(*values)
        return self._tokens.labels(*values, "input"), self._tokens.labels(*values, "output")

    def _of(self, raw: Values) -> _OfOne:
        values = self._labels.bounded(raw)
        found = self._known.get(values)
        if found is None:
            shown = tuple(map(_in_their_words, self._labels.names, values))
            found = self._known[values] = _OfOne(shown, self._duration.labels(*shown))
        return found

    def _histogram(self, text: str, bounds: Sequence[float], *more: str) -> Family[Histogram]:
        return histogram("", text, (*self._names, *more), bounds)


def _in_their_words(label: str, value: str) -> str:
    if label == "operation":
        return OPERATIONS.get(value, value)
    return PROVIDERS.get(value, value) if label == "provider" else value
