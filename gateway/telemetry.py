"""What is told of calls, put together from the config: the sinks and their fan-out. Names the concrete classes of ``observe``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, BinaryIO

from gateway.accounts import Claim, Notice
from gateway.call import Record
from gateway.meters import Meters
from gateway.observe import Batch, FanOut, Sink, logs, occasions
from gateway.observe.access import AccessLog
from gateway.observe.alerts import Alerts
from gateway.observe.events import Event
from gateway.observe.live import Live
from gateway.observe.metrics import Metrics, is_not_unsampled
from gateway.observe.objectives import Objectives
from gateway.observe.pace import Pace
from gateway.observe.recent import Recent
from gateway.observe.repeats import Repeats
from gateway.observe.targets import FIELDS, Target
from gateway.observe.tracing import Traces
from gateway.settings import Observability, Settings
from gateway.settle import Capture
from gateway.tracers import capturer, tracers
from gateway.webhooks import compiled
from gateway.wire.credentials import REJECTED

if TYPE_CHECKING:
    from gateway.wire.credentials import SetAside
    from pricing.book import Book

LAST_WORDS_S = 5.0
log = logging.getLogger("gateway.telemetry")

LOG_AGAIN_S = 3600.0
"""The log tells an event that goes on once an hour: a budget that is overdrawn is so by every call."""


class Telemetry:
    """All that watches calls. ``take`` gets every batch of finished calls, ``tell`` every event."""

    def __init__(self, settings: Settings, book: Callable[[], Book], call_log: BinaryIO | None = None) -> None:
        """``book`` gives the prices in force; ``call_log`` takes the lines of calls instead of standard output."""
        observability = settings.observability
        self._logging = observability.logging
        self.metrics = Metrics(
            observability.metrics.labels, observability.metrics.max_label_values, observability.metrics.max_combinations
        )
        self._tracers: list[Traces] = []
        self.capture: Capture | None = None
        """See ``Settler.capture``."""
        self._meters: Meters | None = None
        self.recent = Recent(self.tell)
        self.pace = Pace()
        self.live = Live()
        self.targets = Objectives(targets_of(settings), self.metrics.count_target, self.tell)
        self.metrics.watch(self.targets.gauges)
        told = self._logging
        lines = logs.CallLog(told.format, call_log, told.sample_rate, content=told.content)
        self.access = AccessLog(told.format, lines.output) if told.access else None
        """Takes the requests to the admin listener; None where they are not logged."""
        sinks: list[Sink] = [self.recent, self.targets.sink, self.pace, self.live]
        if observability.enabled:
            self._tracers = tracers(observability, self.metrics.count_export, book)
            self.capture = self._capturer(observability)
            self.metrics.is_traced = self._is_traced()
            self._meters = Meters(observability, self.metrics)
            sinks += [self.metrics, lines, *self._tracers, *self._meters.sinks]
        self._fan_out = FanOut(sinks, self.metrics.count_sink_error)
        self._alerts = Alerts(compiled(settings.alerts.webhooks), self.metrics.count_webhook)
        self._logged = Repeats(LOG_AGAIN_S)

    def start(self, refresh: Callable[[], Awaitable[None]]) -> None:
        """Begin: needs a running loop. ``refresh`` reads what gauges show."""
        logs.setup(self._logging.level, self._logging.format)
        for each in self._tracers:
            each.start()
        if self._meters is not None:
            self._meters.start(refresh)
        self.targets.start()
        self._alerts.start()

    async def stop(self) -> None:
        """Send what is still to be sent, for a few seconds at most. Raises nothing."""
        closing = [self.targets.stop(), self._alerts.stop(), *(each.close(LAST_WORDS_S) for each in self._tracers)]
        if self._meters is not None:
            closing.append(self._meters.close(LAST_WORDS_S))
        for fault in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(fault, Exception):  # the store has still to be closed
                log.error("telemetry did not end well: %s", type(fault).__name__)

    def _is_traced(self) -> Callable[[Record], bool]:
        """Which calls may stand for others in metrics: where there are traces, those whose trace is kept."""
        takes = [each.takes for each in self._tracers if each.name == "traces"]
        return takes[0] if takes else is_not_unsampled

    def _capturer(self, observability: Observability) -> Capture | None:
        in_log, tracers = observability.logging.content, [each for each in self._tracers if each.content]
        if not (in_log or tracers):
            return None
        return capturer(observability.content, lambda record: in_log or any(each.wants(record) for each in tracers))

    def apply(self, settings: Settings) -> None:
        """Take over what a reload changed."""
        self.recent.keep(settings.upstreams)
        self.targets.apply(targets_of(settings))
        self._alerts.apply(compiled(settings.alerts.webhooks))

    def failing(self) -> list[str]:
        """What does not get rid of what it is told, by name."""
        exporters = [each.exporter for each in self._tracers]
        if self._meters is not None:
            exporters += self._meters.exporters
        return sorted(
            {*self._fan_out.failing, *(each.signal for each in exporters if each.fault), *self._alerts.failing()}
        )

    def take(self, batch: Batch) -> None:
        """Finished calls. Raises nothing."""
        self._fan_out.take_all(batch)

    def tell(self, event: Event) -> None:
        """Something that an operator may want to be woken for. Raises nothing."""
        if self._logged.is_news(event, time.monotonic()):
            level = {"info": logging.INFO, "warning": logging.WARNING}.get(event.severity, logging.ERROR)
            call = {name: value for name, value in event.facts if name == "call_id"}
            log.log(logging.INFO if event.state == "resolved" else level, "%s", event.text, extra=call)
        self._alerts.tell(event)

    def tell_notices(self, notices: Sequence[Notice]) -> None:
        """Thresholds of budgets that were crossed."""
        for notice in notices:
            self.metrics.count_notice(notice)
            self.tell(occasions.of_notice(notice))

    def tell_overdraft(self, claim: Claim, past_nanousd: int) -> None:
        """A settlement went so far past a limit."""
        self.metrics.count_overdraft(claim, past_nanousd)
        self.tell(occasions.of_overdraft(claim, past_nanousd))

    def tell_set_aside(self, upstream: str, told: SetAside) -> None:
        """A provider said no to one of several keys. That it limits one is its daily business, and counted only."""
        if told.reason == REJECTED:
            self.tell(occasions.of_rejected_key(upstream, told.key, told.status, told.seconds))

    def tell_unpriced(self, record: Record) -> None:
        """A model without a price was asked for."""
        self.tell(occasions.of_unpriced(record))


def targets_of(settings: Settings) -> list[Target]:
    """What calls promise their users, as it is counted."""
    return [
        Target(
            each.name,
            tuple((name, pattern) for name in FIELDS if (pattern := getattr(each.match, name))),
            each.of == "request",
            each.latency_ms or inf,
            each.ttft_ms or inf,
            each.objective,
        )
        for each in settings.targets
    ]
