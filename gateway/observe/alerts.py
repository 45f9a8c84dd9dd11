"""Events told over HTTP by the gateway itself, for those without Alertmanager: a delivery for each webhook of the config."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence

import aiohttp

from gateway.observe.delivery import Delivery, Webhook
from gateway.observe.events import Event

log = logging.getLogger("gateway.alerts")

STOP_S = 5.0
MAX_LASTING = 1000
"""Of what began and has not ended: stores, upstreams and targets, which the config names."""


class Alerts:
    """All webhooks. ``count`` is told the kind of a webhook and what came of an event: delivered, failed or dropped."""

    def __init__(self, webhooks: Sequence[Webhook], count: Callable[[str, str], None]) -> None:
        self._count = count
        self._source = socket.gethostname()
        self._deliveries: list[Delivery] = []
        self._retired: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._lasting: OrderedDict[str, Event] = OrderedDict()
        self.apply(webhooks)

    def tell(self, event: Event) -> None:
        """Hand an event to everybody who wants it. Raises nothing, waits for nothing."""
        for take in (self._remember, *(delivery.take for delivery in self._deliveries)):
            try:
                take(event)
            except Exception:
                log.exception("a bug while an event was taken")

    def _remember(self, event: Event) -> None:
        if event.state == "firing":
            self._lasting[event.key] = event
            if len(self._lasting) > MAX_LASTING:
                self._lasting.popitem(last=False)
        elif event.state == "resolved":
            self._lasting.pop(event.key, None)

    def failing(self) -> list[str]:
        """The webhooks whose newest attempt failed, by place and kind."""
        return [each.name for each in self._deliveries if each.fault]

    def start(self) -> None:
        """Begin to deliver: needs a running loop."""
        self._session = aiohttp.ClientSession(
            trust_env=True,  # an operator's proxy is the operator's word
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        for delivery in self._deliveries:
            delivery.start(self._session)

    def apply(self, webhooks: Sequence[Webhook]) -> None:
        """Take over what a reload changed. A webhook that goes on remembers what it told; a new one is told what lasts."""
        left = list(self._deliveries)
        known = _known(left, webhooks)
        self._deliveries = []
        for place, webhook in enumerate(webhooks):
            delivery = known.get(place) or Delivery(place + 1, webhook, self._source, self._count)
            delivery.change(place + 1, webhook)
            if place not in known and self._session is not None:
                delivery.start(self._session)
            self._deliveries.append(delivery)
        for delivery in left:
            delivery.close()
            self._retire(delivery)
        for event in self._lasting.values():
            for delivery in self._deliveries:
                delivery.catch_up(event)

    def _retire(self, delivery: Delivery) -> None:
        """Let it finish in the background."""
        if self._session is None:
            return
        task = asyncio.get_running_loop().create_task(delivery.finish(STOP_S))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    async def stop(self) -> None:
        """Deliver what waits, for a few seconds at most."""
        for delivery in self._deliveries:
            delivery.close()
        await asyncio.gather(*self._retired, *(delivery.finish(STOP_S) for delivery in self._deliveries))
        if self._session is not None:
            await self._session.close()
            self._session = None


def _known(left: list[Delivery], webhooks: Sequence[Webhook]) -> dict[int, Delivery]:
    """Takes out of ``left`` what tells the same receivers as these webhooks, by their place. Two may share an address (all of
    PagerDuty does), so those of the same secret are found first; one whose secret was changed is the same receiver.
    """
    found: dict[int, Delivery] = {}
    for by_secret in (True, False):
        for place, webhook in enumerate(webhooks):
            same = [each for each in left if _is_same(each.webhook, webhook, by_secret=by_secret)]
            if same and place not in found:
                left.remove(same[0])
                found[place] = same[0]
    return found


def _is_same(one: Webhook, other: Webhook, *, by_secret: bool) -> bool:
    is_same_place = (one.kind, one.url) == (other.kind, other.url)
    return is_same_place and (one.secret == other.secret or not (by_secret or one.kind == "pagerduty"))
