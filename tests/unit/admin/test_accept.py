"""Who gets OpenMetrics: scrapers that ask for it, and nobody by accident."""

from __future__ import annotations

import pytest

from gateway.admin.accept import asks_open_metrics

PROMETHEUS_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS_2,
        PROMETHEUS_3,
        "application/openmetrics-text",
        "Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8",
        "application/openmetrics-text, text/plain",
        'application/openmetrics-text; version="1.0.0"',
    ],
)
def test_who_asks_gets_it(accept: str) -> None:
    """What Prometheus sends, and what RFC 9110 12.5.1 allows."""
    assert asks_open_metrics(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "text/plain;version=0.0.4",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0.2,text/plain;q=0.9",
        "application/openmetrics-text;version=2.0.0",
        "application/openmetrics-text;version=0.0.1",
        "application/openmetrics-text;q=nonsense",
        "application/openmetrics-text;q=nan",
        "application/openmetrics-text-of-mine",
        ";;,;q=,=",
    ],
)
def test_nobody_else_does(accept: str) -> None:
    """Plain text can be read by everybody."""
    assert not asks_open_metrics(accept)
