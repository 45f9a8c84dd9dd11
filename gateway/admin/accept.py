"""Which of the two forms of metrics a scraper asks for (RFC 9110 12.5.1), and what each is called."""

from __future__ import annotations

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_VERSIONS = ("", "1.0.0")


def asks_open_metrics(accept: str) -> bool:
    """Whether an Accept field wants OpenMetrics, and plain text no more than that: who can read both says so by weights."""
    wanted = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = [piece.strip() for piece in part.split(";")]
        told = dict(each.partition("=")[::2] for each in parameters)
        if kind == "text/plain" or (kind in wanted and told.get("version", "").strip('"') in _VERSIONS):
            wanted[kind] = max(wanted[kind], _weight(told.get("q", "1")))
    return 0 < wanted["application/openmetrics-text"] >= wanted["text/plain"]


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
