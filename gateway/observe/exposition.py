"""Families of series as text: Prometheus' format 0.0.4, or OpenMetrics 1.0 with exemplars. A slice at a time.

https://prometheus.io/docs/instrumenting/exposition_formats, https://prometheus.io/docs/specs/om/open_metrics_spec
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from operator import itemgetter

from gateway.observe.series import Exemplar, Family, Histogram, Number

SLICE_SERIES = 64
"""0.2 ms of counters, 0.5 of histograms."""


def expose(families: Iterable[Family[Number] | Family[Histogram]], *, open_metrics: bool) -> Iterator[bytes]:
    """The text, in slices that take about a millisecond each. Series that come while it is read may be missing."""
    lines: list[str] = []
    written = 0
    for family in families:
        write = _Writer(family, open_metrics=open_metrics)
        lines.append(write.head())
        for values, series in family:
            write.series(values, series, lines)
            written += 1
            if written % SLICE_SERIES == 0:
                yield "".join(lines).encode("utf-8", "replace")
                lines.clear()
    if open_metrics:
        lines.append("# EOF\n")
    yield "".join(lines).encode("utf-8", "replace")


class _Writer:
    """The lines of one family."""

    def __init__(self, family: Family[Number] | Family[Histogram], *, open_metrics: bool) -> None:
        self._family = family
        self._open_metrics = open_metrics
        names = sorted(enumerate(family.label_names), key=itemgetter(1))  # as the client libraries write them
        self._starts = [(place, f'{name}="') for place, name in names]
        self._les = [f'le="{_text(bound)}"}} ' for bound in (*family.bounds, math.inf)]

    def head(self) -> str:
        """What it is."""
        family = self._family
        name = family.name.removesuffix("_total") if self._open_metrics and family.kind == "counter" else family.name
        text = family.text.replace("\\", "\\\\").replace("\n", "\\n")
        if self._open_metrics:
            text = text.replace('"', '\\"')
        return f"# HELP {name} {text}\n# TYPE {name} {family.kind}\n"

    def series(self, values: tuple[str, ...], series: Number | Histogram, lines: list[str]) -> None:
        """The lines of one series."""
        labels = ",".join([f'{start}{_escaped(values[place])}"' for place, start in self._starts])
        name = self._family.name
        if isinstance(series, Number):
            head = f"{name}{{{labels}}} " if labels else f"{name} "
            lines.append(f"{head}{_text(series.value / self._family.per)}{self._exemplar(series.exemplar)}\n")
            return
        head = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
        total = 0
        exemplars = (series.exemplars if self._open_metrics else None) or {}
        for place, (le, count) in enumerate(zip(self._les, list(series.counts), strict=True)):
            total += count
            exemplar = self._exemplar(exemplars.get(place)) if exemplars else ""
            lines.append(f"{head}{le}{total}.0{exemplar}\n")
        braced = f"{{{labels}}}" if labels else ""
        lines.append(f"{name}_count{braced} {total}.0\n{name}_sum{braced} {_text(series.total)}\n")

    def _exemplar(self, told: Exemplar | None) -> str:
        if told is None or not self._open_metrics:
            return ""
        return f' # {{trace_id="{told.trace_id}"}} {_text(told.value / self._family.per)} {told.at:.3f}'


def _text(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value
