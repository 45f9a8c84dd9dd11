"""Metrics on their way out: rounds that a receiver can make sense of, whatever happens around them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from gateway.observe.exporter import Exporter
from gateway.observe.push import Named, Push
from gateway.observe.series import counter


class Kept:
    """Takes everything."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def send(self, body: bytes) -> None:
        self.bodies.append(body)

    async def close(self) -> None:
        pass

    def points(self) -> list[Any]:
        requests = map(ExportMetricsServiceRequest.FromString, self.bodies)
        scopes = [scope for each in requests for group in each.resource_metrics for scope in group.scope_metrics]
        return [point for scope in scopes for metric in scope.metrics for point in metric.sum.data_points]


def one() -> Iterable[Named]:
    family = counter("calls_total", "Calls.", ())
    family.labels().inc()
    return [("calls_total", "", family)]


async def round_of(refresh: Callable[[], Awaitable[None]] | None = None) -> list[Any]:
    """The points of the last round of a process that ends at once."""
    kept = Kept()
    push = Push(Exporter("metrics", kept, lambda *told: None), (), 3600, one)
    if refresh is not None:
        push.refresh = refresh
    push.start()
    await push.close(5)
    return kept.points()


async def test_no_time_is_before_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was set back would make every point invalid until it has caught up (opentelemetry/proto/metrics/v1)."""
    moments = iter((2 * 10**18, 10**18))
    monkeypatch.setattr("gateway.observe.push.time.time_ns", lambda: next(moments))
    [point] = await round_of()
    assert point.start_time_unix_nano < point.time_unix_nano


@pytest.mark.parametrize("fault", [RuntimeError("secret words"), TimeoutError()])
async def test_counts_go_out_although_gauges_cannot_be_read(fault: Exception) -> None:
    """That is when somebody looks at them."""

    async def refresh() -> None:
        raise fault

    [point] = await round_of(refresh)
    assert point.as_double == 1


async def test_the_end_does_not_wait_for_gauges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hangs holds up no last figures."""
    monkeypatch.setattr("gateway.observe.push.REFRESH_S", 0.05)

    async def refresh() -> None:
        await asyncio.sleep(3600)

    async with asyncio.timeout(30):
        [point] = await round_of(refresh)
    assert point.as_double == 1
