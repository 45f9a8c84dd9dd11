"""Families of series as OTLP metrics (opentelemetry/proto/metrics/v1, 1.9): cumulative sums, gauges, explicit histograms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gateway.observe.protobuf import attributes, double, fixed64, number, packed_doubles, packed_fixed64, sized
from gateway.observe.series import Exemplar, Family, Histogram, Number

CUMULATIVE = 2
POINTS_A_SLICE = 32
"""0.4 ms."""
_SUM_ENDS = number(2, CUMULATIVE) + number(3, 1)
_HISTOGRAM_ENDS = number(2, CUMULATIVE)
GAUGE, SUM, HISTOGRAM = 5, 7, 9
"""Fields of ``Metric``."""
UNITS = {"_seconds": "s", "_seconds_total": "s", "_bytes": "By", "_tokens_total": "{token}", "_ratio": "1"}


def metrics(
    families: Iterable[tuple[str, str, Family[Any]]], start_ns: int, now_ns: int
) -> Iterator[tuple[bytes, int]]:
    """Name, unit and family in; ``Metric`` fields of a ``ScopeMetrics`` and how many points each holds out. A family may
    come in several pieces. ``start_ns`` is when counting began; both in Unix nanoseconds.
    """
    times = fixed64(2, start_ns) + fixed64(3, now_ns)
    for name, unit, family in families:
        head = sized(1, name.encode()) + sized(2, family.text.encode()) + (sized(3, unit.encode()) if unit else b"")
        bounds = packed_doubles(7, family.bounds) if family.kind == "histogram" else b""
        points: list[bytes] = []
        for values, series in family:
            points.append(_point(family, values, series, times, bounds))
            if len(points) == POINTS_A_SLICE:
                yield _metric(head, family.kind, points), len(points)
                points.clear()
        if points:
            yield _metric(head, family.kind, points), len(points)


def unit_of(name: str) -> str:
    """The unit (UCUM) that a Prometheus name ends in; "" for a plain count."""
    return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")


def _metric(head: bytes, kind: str, points: list[bytes]) -> bytes:
    written = b"".join(points)
    if kind == "histogram":
        return sized(2, head + sized(HISTOGRAM, written + _HISTOGRAM_ENDS))
    if kind == "counter":
        return sized(2, head + sized(SUM, written + _SUM_ENDS))
    return sized(2, head + sized(GAUGE, written))


def _point(
    family: Family[Any], values: tuple[str, ...], series: Number | Histogram, times: bytes, bounds: bytes
) -> bytes:
    told = [(name, value) for name, value in zip(family.label_names, values, strict=True) if value]
    if isinstance(series, Number):
        exemplar = _exemplar(5, series.exemplar, family.per) if series.exemplar is not None else b""
        return sized(1, attributes(7, told) + times + double(4, series.value / family.per) + exemplar)
    counts = list(series.counts)
    exemplars = [_exemplar(8, each, family.per) for each in (series.exemplars or {}).values()]
    parts = (
        attributes(9, told), times, fixed64(4, sum(counts)), double(5, series.total), packed_fixed64(6, counts), bounds,
        *exemplars,
    )  # fmt: skip
    return sized(1, b"".join(parts))


def _exemplar(field: int, told: Exemplar, per: int) -> bytes:
    at = fixed64(2, int(told.at * 1e9))
    return sized(field, at + double(3, told.value / per) + sized(5, bytes.fromhex(told.trace_id)))
