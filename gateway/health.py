"""Health: checks that run in the background, so that a probe is answered at once from what they found last.

A check says what it measured; one that takes longer than its time-out, raises, or has not been heard of for three periods
has failed. None is waited for twice: while one hangs no second is begun, so that nothing piles up. What a check says is
read by anybody who reaches the probe, so it names no address and no reason from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.value import value

log = logging.getLogger("gateway.health")

EVERY_S = 5.0
TIMEOUT_S = 2.0
STALE_PERIODS = 3
LAST_WORDS_S = 0.2


@value
class Reading:
    """What a check found: ``status`` is ok, warn (worth a look, fit to serve) or failed. ``observed`` in ``unit`` is what was
    measured; ``says`` is a sentence for whatever is not ok.
    """

    status: str = "ok"
    observed: float | str | None = None
    unit: str = ""
    says: str = ""


@value
class Check:
    """``ask`` measures. ``part`` is what the health+json draft calls componentType: datastore, component or system."""

    name: str
    part: str
    ask: Callable[[], Awaitable[Reading]]


@value
class _Result:
    reading: Reading
    took_ms: float
    at: float
    time: str


class InThread:
    """A measurement that may block (a disk that hangs), in a thread that nobody has to wait for, and one at a time."""

    def __init__(self, measure: Callable[[], Reading]) -> None:
        self._measure = measure
        self._thread: threading.Thread | None = None

    async def __call__(self) -> Reading:
        """The reading; a former one that still hangs is an answer as well."""
        if self._thread is not None and self._thread.is_alive():
            return Reading("failed", says="the last look has not come back")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reading] = loop.create_future()

        def run() -> None:
            try:
                found: Reading | Exception = self._measure()
            except Exception as error:
                found = error
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_hand_over, answer, found)

        self._thread = threading.Thread(target=run, name="health", daemon=True)
        self._thread.start()
        return await answer


def _hand_over(answer: asyncio.Future[Reading], found: Reading | Exception) -> None:
    if answer.done():
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)


class Health:
    """The checks and what they found last."""

    def __init__(
        self,
        checks: Sequence[Check],
        *,
        every_s: float = EVERY_S,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
        heard: Callable[[str, Reading], None] | None = None,
    ) -> None:
        """``heard`` gets the name of a check and what it found, each time."""
        self._heard = heard
        self._checks = {check.name: check for check in checks}
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._found: dict[str, _Result] = {}
        self._asked: dict[str, asyncio.Task[Reading]] = {}
        self._rounds: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """One round now, so that there is something to tell; then each check by itself, so that none waits for another."""
        await asyncio.gather(*(self.look(name) for name in self._checks))
        self._rounds = [asyncio.create_task(self._again(name), name=f"health-{name}") for name in self._checks]

    async def stop(self) -> None:
        """No more rounds. What hangs is not waited for."""
        tasks = {*self._rounds, *self._asked.values()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_WORDS_S)
        self._rounds = []

    async def look(self, name: str) -> Reading:
        """Ask one check now. Raises nothing, takes no longer than the time-out."""
        asked = self._asked.get(name)
        if asked is None or asked.done():
            asked = self._asked[name] = asyncio.create_task(_answer(self._checks[name]), name=f"check-{name}")
        began = time.perf_counter()
        await asyncio.wait({asked}, timeout=self._timeout_s)
        if asked.done() and not asked.cancelled():
            reading = asked.result()
        else:
            asked.cancel()
            reading = Reading("failed", says=f"no answer within {self._timeout_s:g} s")
        took_ms = round((time.perf_counter() - began) * 1000, 2)
        before = self._found.get(name)
        self._found[name] = _Result(reading, took_ms, self._clock(), _now())
        if (before.reading.status if before is not None else "ok") != reading.status:
            log.log(
                _WEIGHT[reading.status],
                "check %s: %s%s",
                name,
                reading.status,
                f", {reading.says}" * bool(reading.says),
            )
        self._pass_on(name, reading)
        return reading

    def _pass_on(self, name: str, reading: Reading) -> None:
        try:
            if self._heard is not None:
                self._heard(name, reading)
        except Exception:
            log.exception("a bug while what check %s found was heard", name)

    def told(self) -> dict[str, dict[str, Any]]:
        """What is known of each check, by name; one that was not heard of for too long has failed."""
        return {name: self._told(check, self._found.get(name)) for name, check in self._checks.items()}

    def up(self) -> dict[str, bool]:
        """Whether each check has not failed."""
        return {name: each["status"] != "failed" for name, each in self.told().items()}

    def _told(self, check: Check, found: _Result | None) -> dict[str, Any]:
        if found is None:
            return {"status": "failed", "componentType": check.part, "time_ms": 0.0, "output": "not looked at yet"}
        reading = found.reading
        if self._clock() - found.at > STALE_PERIODS * max(self._every_s, self._timeout_s):
            reading = Reading("failed", says="stale: it was not looked at for too long")
        told: dict[str, Any] = {
            "status": reading.status,
            "componentType": check.part,
            "time": found.time,
            "time_ms": found.took_ms,
        }
        if reading.observed is not None:
            told |= {"observedValue": reading.observed, "observedUnit": reading.unit}
        return told | ({"output": reading.says} if reading.says else {})

    async def _again(self, name: str) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.look(name)


_WEIGHT = {"ok": logging.INFO, "warn": logging.WARNING, "failed": logging.ERROR}


async def _answer(check: Check) -> Reading:
    try:
        return await check.ask()
    except Exception as error:
        return Reading("failed", says=f"does not answer ({type(error).__name__})")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
