"""What is told of calls, put together from the config: the sinks and their fan-out. Names the concrete classes of ``observe``."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import BinaryIO

from gateway.accounts import Claim, Notice
from gateway.observe import Batch, FanOut, Sink, logs, occasions
from gateway.observe.alerts import Alerts
from gateway.observe.events import Event
from gateway.observe.metrics import Metrics
from gateway.observe.repeats import Repeats
from gateway.settings import Settings
from gateway.webhooks import compiled

log = logging.getLogger("gateway.telemetry")

LOG_AGAIN_S = 3600.0
"""The log tells an event that goes on once an hour: a budget that is overdrawn is so by every call."""


class Telemetry:
    """All that watches calls. ``take`` gets every batch of finished calls, ``tell`` every event."""

    def __init__(self, settings: Settings, call_log: BinaryIO | None = None) -> None:
        """``call_log`` takes the lines of calls instead of standard output."""
        observability = settings.observability
        self._logging = observability.logging
        self.metrics = Metrics(observability.metrics.labels, observability.metrics.max_label_values)
        sinks: list[Sink] = []
        if observability.enabled:
            sinks = [self.metrics, logs.CallLog(observability.logging.format, call_log)]
        self._fan_out = FanOut(sinks, self.metrics.count_sink_error)
        self._alerts = Alerts(compiled(settings.alerts.webhooks), self.metrics.count_webhook)
        self._logged = Repeats(LOG_AGAIN_S)

    def start(self) -> None:
        """Begin: needs a running loop."""
        logs.setup(self._logging.level, self._logging.format)
        self._alerts.start()

    async def stop(self) -> None:
        """Send what is still to be sent, for a few seconds at most."""
        await self._alerts.stop()

    def apply(self, settings: Settings) -> None:
        """Take over what a reload changed."""
        self._alerts.apply(compiled(settings.alerts.webhooks))

    def take(self, batch: Batch) -> None:
        """Finished calls. Raises nothing."""
        self._fan_out.take_all(batch)

    def tell(self, event: Event) -> None:
        """Something that an operator may want to be woken for. Raises nothing."""
        if self._logged.is_news(event, time.monotonic()):
            level = {"info": logging.INFO, "warning": logging.WARNING}.get(event.severity, logging.ERROR)
            log.log(logging.INFO if event.state == "resolved" else level, "%s", event.text)
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

    def tell_unpriced(self, provider: str, model: str) -> None:
        """A model without a price was asked for."""
        self.tell(occasions.of_unpriced(provider, model))
