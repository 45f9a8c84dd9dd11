"""Metrics that go out by themselves, as the config asks for: pushed over OTLP, told to StatsD."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping

from gateway.ended import ended
from gateway.kinds import split_address
from gateway.observe import Sink, otel_env
from gateway.observe.exporter import Exporter
from gateway.observe.gen_ai import GenAi, Named
from gateway.observe.metrics import Metrics
from gateway.observe.otlp_metrics import unit_of
from gateway.observe.push import Push
from gateway.observe.statsd import Statsd
from gateway.observe.transports import transport_to
from gateway.settings import Observability


class Meters:
    """``sinks`` are told of calls. Raises Failure for gRPC without its package."""

    def __init__(self, observability: Observability, metrics: Metrics, environ: Mapping[str, str] = os.environ) -> None:
        self._metrics = metrics
        self._push: Push | None = None
        self._gen_ai: GenAi | None = None
        self._statsd: Statsd | None = None
        self._look_up: asyncio.Task[None] | None = None
        if observability.metrics.otlp.enabled and not otel_env.is_off(environ):
            settings = observability.metrics
            latest = otel_env.is_latest(environ)
            self._gen_ai = GenAi(settings.labels, settings.max_label_values, settings.max_combinations, latest=latest)
            self._gen_ai.is_traced = metrics.is_traced
            self._push = self._pushed(observability, environ)
        if observability.metrics.statsd:
            self._statsd = Statsd(*split_address(observability.metrics.statsd), metrics.labels)

    @property
    def sinks(self) -> list[Sink]:
        """What is to be told of calls."""
        return [each for each in (self._gen_ai, self._statsd) if each is not None]

    @property
    def exporters(self) -> list[Exporter]:
        """What sends them."""
        return [self._push.exporter] if self._push is not None else []

    def start(self, refresh: Callable[[], Awaitable[None]]) -> None:
        """Begin. ``refresh`` reads what gauges show."""
        if self._push is not None:
            self._push.refresh = refresh
            self._push.start()
        if self._statsd is not None:
            self._look_up = asyncio.create_task(self._statsd.stay_connected(), name="look up statsd")

    async def close(self, grace_s: float) -> None:
        """Tell what is still to be told."""
        if self._push is not None:
            await self._push.close(grace_s)
        if self._look_up is not None:
            await ended(self._look_up)
        if self._statsd is not None:
            self._statsd.close()

    def _instruments(self) -> Iterator[Named]:
        """The gateway's own under their own names, and the conventions'."""
        for family in self._metrics.families():
            yield family.name, unit_of(family.name), family
        if self._gen_ai is not None:
            yield from self._gen_ai.families()

    def _pushed(self, observability: Observability, environ: Mapping[str, str]) -> Push:
        otlp = observability.metrics.otlp
        headers = {name: value.reveal() for name, value in otlp.headers.items()}
        to = otel_env.receiver("metrics", otlp.endpoint, otlp.protocol, headers, environ)
        exporter = Exporter("metrics", transport_to(to, "metrics"), self._metrics.count_export)
        interval_s = otel_env.export_interval(otlp.interval, environ)
        return Push(exporter, otel_env.resource(environ), interval_s, self._instruments)
