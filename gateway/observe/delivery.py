"""One webhook: what waits for it, one delivery at a time, and how often a receiver that fails is asked again.

Laws: ``take`` neither blocks nor raises; what waits is bounded, and what is beyond is dropped and counted; a receiver that
hangs costs one connection and one timer. The address is a secret: no message names it, nor quotes an error that might.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum

import aiohttp

from gateway.ended import ended
from gateway.observe import payloads
from gateway.observe.events import Event
from gateway.observe.payloads import Told
from gateway.observe.repeats import Repeats
from gateway.trust import trusted
from gateway.value import value

log = logging.getLogger("gateway.alerts")

MAX_WAITING = 1000
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 300.0
GIVE_UP_S = 3600.0
"""After so long nobody is helped by hearing of it."""
TRY_AGAIN = frozenset((408, 425, 429))
"""And 5xx. Everything else says that the same request will fare no better."""


@value
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


@dataclass(slots=True, eq=False)
class _Waiting:
    """An event that is to be told; ``due`` is when it is to be tried next, by a clock that only goes forward."""

    told: Told
    attempts: int = 0
    due: float = 0.0


class Delivery:
    """Tells one receiver. ``count`` is told the kind and delivered, failed or dropped; ``number`` is its place in the config."""

    def __init__(self, number: int, webhook: Webhook, source: str, count: Callable[[str, str], None]) -> None:
        self.number = number
        self.webhook = webhook
        self.fault = ""
        """Why the newest attempt failed, in words without the address; "" after one that did not."""
        self._source = source
        self._count = count
        self._repeats = Repeats(webhook.repeat_s)
        self._waiting: list[_Waiting] = []
        self._quiet_until = 0.0
        """Until then the receiver asks to be left alone."""
        self._heard: set[str] = set()
        """Keys whose beginning was delivered and whose end was not: only these have an end to tell."""
        self._wake = asyncio.Event()
        self._is_closing = False
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
            self._end(told, "dropped")
            return
        self._waiting.append(_Waiting(told))
        self._wake.set()

    def catch_up(self, event: Event) -> None:
        """Take something that lasts, unless it was heard already."""
        if event.key not in self._heard:
            self.take(event)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self, session: aiohttp.ClientSession) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run(session), name=f"webhook-{self.number}")

    def close(self) -> None:
        """From now on each event that waits gets one attempt, and no more."""
        self._is_closing = True
        self._wake.set()

    async def finish(self, within_s: float) -> None:
        """Wait until all was tried, so long; what is left then is dropped."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=within_s)
            await ended(self._task)
        while self._waiting:
            self._end(self._waiting.pop(0).told, "dropped")

    async def _run(self, session: aiohttp.ClientSession) -> None:
        while self._waiting or not self._is_closing:
            following = self._next()
            delay_s = max(following.due, self._quiet_until) - time.monotonic() if following is not None else None
            if following is None or (delay_s is not None and delay_s > 0 and not self._is_closing):
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), delay_s)
                continue
            try:
                outcome = "moot" if self._is_moot(following.told) else await self._try(session, following)
            except Exception as error:  # without its words and its stack: either might hold the address
                log.error("a bug while telling %s: %s", self.name, type(error).__name__)
                outcome = "failed"
            if outcome:  # until then it waits: what is cancelled counts as dropped
                self._waiting.remove(following)
                self._end(following.told, outcome)

    def _next(self) -> _Waiting | None:
        """Those that were never tried come first, so that what a receiver cannot take holds up nothing else, not even when
        all are tried again; of one key the oldest, for an end follows its beginning.
        """
        firsts: dict[str, _Waiting] = {}
        for each in self._waiting:
            firsts.setdefault(each.told.event.key, each)
        return min(firsts.values(), key=lambda each: (each.due, each.attempts), default=None)

    def _is_moot(self, told: Told) -> bool:
        """Whether it is the end of something that nobody heard of."""
        return told.event.state == "resolved" and told.event.key not in self._heard

    def _end(self, told: Told, outcome: str) -> None:
        """``outcome``: delivered, failed, dropped, or moot, which is not counted."""
        if outcome != "moot":
            self._count(self.webhook.kind, outcome)
        if outcome in ("failed", "dropped"):
            self._repeats.forget(told.event, told.noticed)
        if told.event.state == "resolved":
            self._heard.discard(told.event.key)
        elif told.event.state == "firing" and outcome == "delivered":
            self._heard.add(told.event.key)

    # -- one event ----------------------------------------------------------------------------------------------------

    async def _try(self, session: aiohttp.ClientSession, waiting: _Waiting) -> str:
        """One attempt; returns delivered or failed, "" while there is hope."""
        told = waiting.told
        fate, why, wait_s = await self._attempt(session, told)
        was_well, self.fault = not self.fault, why
        if fate is Fate.DELIVERED:
            for each in [] if was_well else self._waiting:
                each.due = 0.0
            return "delivered"
        now = time.monotonic()
        waiting.due = now + max(wait_s, retry_delay(waiting.attempts, random.random()))  # noqa: S311 - it only spreads retries
        waiting.attempts += 1
        self._quiet_until = now + min(wait_s, GIVE_UP_S)
        if fate is Fate.FAILED or self._is_closing or waiting.due > told.noticed + GIVE_UP_S:
            log.error("%s was not told of %s: %s", self.name, told.event.key, why)
            return "failed"
        if was_well:
            log.warning("%s cannot be told of %s: %s; it is tried again", self.name, told.event.key, why)
        return ""

    async def _attempt(self, session: aiohttp.ClientSession, told: Told) -> tuple[Fate, str, float]:
        """What came of it, why in words without the address, and how long the receiver asks to be left alone (seconds)."""
        webhook = self.webhook
        body, fields = letter(webhook, told, int(time.time()))
        try:
            async with session.post(
                webhook.url or payloads.PAGERDUTY_URL,
                data=body,
                headers=fields,
                ssl=await trusted(),
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
    def name(self) -> str:
        """What it is called in the log: its place in the config, never its address."""
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
