"""One webhook: what waits for it, one delivery at a time, and how often a receiver that fails is asked again.

Laws: ``take`` neither blocks nor raises; what waits is bounded, and what is beyond is dropped and counted; a receiver that
hangs costs one connection and one timer. The address is a secret: no message names it, nor quotes an error that might.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum

import aiohttp

from gateway.observe import payloads
from gateway.observe.events import Event
from gateway.observe.payloads import Told
from gateway.observe.repeats import Repeats

log = logging.getLogger("gateway.alerts")

MAX_WAITING = 1000
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 300.0
GIVE_UP_S = 3600.0
"""After so long nobody is helped by hearing of it: what is still true is told again by whoever noticed it."""
TRY_AGAIN = frozenset((408, 425, 429))
"""And 5xx. Everything else says that the same request will fare no better."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver. ``kind`` is slack, pagerduty or generic; ``secret`` signs (generic) or is the routing key (pagerduty)."""

    url: str = field(repr=False)
    kind: str
    on: frozenset[str]
    secret: str = field(repr=False)
    repeat_s: float
    timeout_s: float


class Fate(Enum):
    """What came of an attempt."""

    DELIVERED = "delivered"
    AGAIN = "again"
    FAILED = "failed"


class Delivery:
    """Tells one receiver. ``count`` is told the kind and delivered, failed or dropped; ``number`` is its place in the config."""

    def __init__(self, number: int, webhook: Webhook, source: str, count: Callable[[str, str], None]) -> None:
        self.number = number
        self.webhook = webhook
        self._source = source
        self._count = count
        self._repeats = Repeats(webhook.repeat_s)
        self._waiting: deque[Told] = deque()
        self._unheard: set[str] = set()
        """Keys whose beginning failed while their end waits already: then neither is told."""
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def change(self, number: int, webhook: Webhook) -> None:
        """Go on with other settings: what waits and what was told stay known."""
        self.number, self.webhook = number, webhook
        self._repeats.repeat_s = webhook.repeat_s

    def take(self, event: Event) -> None:
        """Tell it soon, if it is wanted here and news."""
        now = time.monotonic()
        if event.kind not in self.webhook.on or not self._repeats.is_news(event, now):
            return
        told = Told(event, f"msg_{secrets.token_hex(16)}", time.time(), now, self._source)
        if len(self._waiting) >= MAX_WAITING:
            self._lose(told, "dropped")
            return
        self._waiting.append(told)
        self._wake.set()

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self, session: aiohttp.ClientSession) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run(session), name=f"webhook-{self.number}")

    def close(self) -> None:
        """From now on each event that waits gets one attempt, and no more."""
        self._closing.set()
        self._wake.set()

    async def finish(self, within_s: float) -> None:
        """Wait until all was tried, so long; what is left then is dropped."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=within_s)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._waiting:
            self._lose(self._waiting.popleft(), "dropped")

    async def _run(self, session: aiohttp.ClientSession) -> None:
        while True:
            if not self._waiting:
                if self._closing.is_set():
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            told = self._waiting[0]  # it stays there until its fate is known: what is cancelled counts as dropped
            try:
                outcome = "" if self._is_moot(told) else await self._deliver(session, told)
            except Exception as error:  # without its words and its stack: either might hold the address
                log.error("a bug while telling %s: %s", self._name, type(error).__name__)
                outcome = "failed"
            self._waiting.popleft()
            if outcome == "delivered":
                self._count(self.webhook.kind, outcome)
            elif outcome:
                self._lose(told, outcome)

    def _is_moot(self, told: Told) -> bool:
        """Whether it is the end of something that nobody heard of."""
        key = told.event.key
        if key not in self._unheard:
            return False
        self._unheard.discard(key)
        return told.event.state == "resolved"

    def _lose(self, told: Told, outcome: str) -> None:
        self._count(self.webhook.kind, outcome)
        if not self._repeats.forget(told.event, told.noticed) and told.event.state == "firing":
            self._unheard.add(told.event.key)

    # -- one event ----------------------------------------------------------------------------------------------------

    async def _deliver(self, session: aiohttp.ClientSession, told: Told) -> str:
        """Attempt after attempt; returns delivered or failed."""
        attempt = 0
        while True:
            fate, why, wait_s = await self._attempt(session, told)
            if fate is Fate.DELIVERED:
                return "delivered"
            delay_s = max(wait_s, retry_delay(attempt, random.random()))  # noqa: S311 - it only spreads retries
            if fate is Fate.FAILED or self._closing.is_set() or time.monotonic() + delay_s > told.noticed + GIVE_UP_S:
                log.error("%s was not told of %s: %s", self._name, told.event.key, why)
                return "failed"
            if not attempt:
                log.warning("%s cannot be told of %s: %s; it is tried again", self._name, told.event.key, why)
            attempt += 1
            try:
                await asyncio.wait_for(self._closing.wait(), delay_s)
            except TimeoutError:
                continue

    async def _attempt(self, session: aiohttp.ClientSession, told: Told) -> tuple[Fate, str, float]:
        """What came of it, why in words without the address, and how long the receiver asks to be left alone (seconds)."""
        webhook = self.webhook
        body, fields = letter(webhook, told, int(time.time()))
        try:
            async with session.post(
                webhook.url or payloads.PAGERDUTY_URL,
                data=body,
                headers=fields,
                timeout=aiohttp.ClientTimeout(total=webhook.timeout_s),
                allow_redirects=False,  # an event goes where the config says, not where an answer says
            ) as response:
                status, asked = response.status, response.headers.get("Retry-After", "")
        except TimeoutError:
            return Fate.AGAIN, "it did not answer in time", 0.0
        except aiohttp.InvalidURL:
            return Fate.FAILED, "its address is none", 0.0
        except (aiohttp.ClientError, OSError) as error:
            return Fate.AGAIN, type(error).__name__, 0.0
        if 200 <= status < 300:
            return Fate.DELIVERED, "", 0.0
        if status in TRY_AGAIN or status >= 500:
            return Fate.AGAIN, f"it answered {status}", retry_after_s(asked, time.time())
        return Fate.FAILED, f"it answered {status}", 0.0

    @property
    def _name(self) -> str:
        return f"webhook {self.number} ({self.webhook.kind})"


def letter(webhook: Webhook, told: Told, now: int) -> tuple[bytes, Mapping[str, str]]:
    """Body and header fields of an attempt."""
    fields = {"content-type": "application/json", "user-agent": "tollgate"}
    if webhook.kind == "slack":
        return payloads.slack(told), fields
    if webhook.kind == "pagerduty":
        return payloads.pagerduty(told, webhook.secret), fields
    body = payloads.generic(told)
    return body, fields | payloads.signed(told, body, webhook.secret, now)


def retry_delay(attempt: int, chance: float) -> float:
    """Seconds: twice as long each time up to a bound, of which ``chance`` (0 to 1) decides the second half."""
    longest = min(FIRST_RETRY_S * (1 << min(attempt, 30)), LONGEST_RETRY_S)
    return longest * (1 + chance) / 2


def retry_after_s(asked: str, now: float) -> float:
    """What a ``Retry-After`` field asks for, in seconds from ``now`` (Unix); 0 where it says nothing (RFC 9110 10.2.3)."""
    if asked.isascii() and asked.isdigit():
        return float(asked[:9])
    try:
        moment = parsedate_to_datetime(asked)
    except (ValueError, TypeError, IndexError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)
