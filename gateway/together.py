"""What operators ask, answered for all workers by the first one; what workers notice, told by the first one.

Owns the questions that workers ask one another. A process that serves alone goes through the same methods and asks nobody. Counts
come by files (``observe.gathered``), the rest by word (``siblings``); who gives no answer in time is left out and named.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from gateway.ended import ended
from gateway.inspector import Inspector
from gateway.merged import merged_checks, merged_status, merged_upstreams
from gateway.observe.chorus import Chorus
from gateway.observe.events import Event
from gateway.observe.exposition import expose
from gateway.observe.gathered import bury, gathered, leave
from gateway.place import Place
from gateway.siblings import Siblings
from gateway.telemetry import Telemetry
from gateway.value import value

log = logging.getLogger("gateway.workers")

METRICS_S = 1.0
"""A worker with many series takes a while to write them down, and calls go on beside it."""
ATTEND_S = 1.0
HAND_ON_S = 2.0
WITHOUT_FIRST_S = 10.0
"""So long an event waits for a first worker; then it is told where it was noticed."""
LAST_WORDS_S = 1.0
MAX_EVENTS = 1000
FIRST = "first"


@value
class Own:
    """What this process can say by itself."""

    inspector: Inspector
    telemetry: Telemetry
    checks: Callable[[], Mapping[str, dict[str, Any]]]
    is_active: Callable[[str], bool]
    is_draining: Callable[[], bool]
    refresh: Callable[[], Awaitable[None]]
    """Reads all that gauges show."""
    refresh_process: Callable[[], None]
    """The part of it that each process has of its own. Blocks."""


class Together:
    """``place`` None: there is one process."""

    def __init__(self, place: Place | None, own: Own) -> None:
        self._place = place
        self._own = own
        self._siblings = Siblings(place.folder, place.name) if place is not None else None
        self._is_first = place is None or place.is_first
        self._chorus = Chorus(own.telemetry.tell_here)
        self._events: deque[tuple[float, Event]] = deque(maxlen=MAX_EVENTS)
        self._lasting: dict[str, Event] = {}
        self._wake = asyncio.Event()
        self._one_scrape, self._one_writer = asyncio.Lock(), asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._heard: dict[str, asyncio.Task[None]] = {}
        if self._siblings is not None:
            own.telemetry.hand_on = self._tell
            for ask in ("metrics", "status", "checks", "figures", "durations", "active", "calls", "event"):
                self._siblings.answer(ask, getattr(self, f"_say_{ask}"))

    # -- life ---------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Begin to answer the others."""
        if self._siblings is None or self._place is None:
            return
        await self._siblings.open()
        if self._is_first:
            written = self._place.folder / f"{FIRST}.new"
            written.write_text(self._siblings.name)
            written.replace(self._place.folder / FIRST)
        self._tasks = [
            asyncio.create_task(self._attend(), name="siblings"),
            asyncio.create_task(self._hand_on(), name="events"),
        ]

    def hand_over(self) -> None:
        """Another process is the first one from now on."""
        self._is_first = self._siblings is None

    async def tell_the_rest(self) -> None:
        """Events that wait for the first worker: told here, if it does not take them."""
        self._own.telemetry.hand_on = self._own.telemetry.tell_here
        for task in self._tasks:
            task.cancel()
        until = time.monotonic() + LAST_WORDS_S
        while self._events:
            _, event = self._events.popleft()
            if time.monotonic() > until or not await self._is_taken(event):
                self._own.telemetry.tell_here(event)

    async def close(self) -> None:
        """Leave what was counted, answer no more."""
        await ended(*self._tasks, *self._heard.values())
        if self._siblings is not None:
            try:
                await self._leave()
            except OSError as error:
                log.error("what this worker counted is lost to metrics: %s", error.strerror)
            await self._siblings.close()

    # -- what operators ask -------------------------------------------------------------------------------------------

    async def checks(self) -> Mapping[str, dict[str, Any]]:
        """What every health check found last."""
        own = self._own.checks()
        if self._siblings is None or self._place is None:
            return own
        answers = await self._siblings.ask("checks")
        told = {self._siblings.name: own} | {
            name: answer[0]["checks"] for name, answer in answers.items() if answer and not answer[0]["draining"]
        }
        return merged_checks(told, [name for name, answer in answers.items() if not answer], self._place.count)

    async def status(self) -> dict[str, Any]:
        """The state at a glance."""
        own = self._own.inspector.status()
        if self._siblings is None:
            return own
        answers, checks = await asyncio.gather(self._siblings.ask("status"), self.checks())
        told = {self._siblings.name: [own], **answers}
        return merged_status(
            [own, *(answer[0] for answer in answers.values() if answer)],
            checks,
            [_row(name, answer[0] if answer else None) for name, answer in sorted(told.items())],
        )

    async def upstreams(self) -> list[dict[str, Any]]:
        """Every upstream."""
        own = self._own.inspector.upstreams()
        if self._siblings is None:
            return own
        answers = await self._siblings.ask("status")
        return merged_upstreams([own, *(answer[0]["upstreams"] for answer in answers.values() if answer)])

    async def now(self) -> dict[str, Any]:
        """How it goes at the moment."""
        figures = [self._own.inspector.figures()]
        if self._siblings is None:
            return self._own.inspector.now(figures, self._own.checks())
        answers, checks = await asyncio.gather(self._siblings.ask("figures"), self.checks())
        figures += [answer[0] for answer in answers.values() if answer]
        return self._own.inspector.now(figures, checks)

    async def latency(self, window: str, by: str) -> dict[str, Any]:
        """Percentiles of how long calls took."""
        parts = [await self._own.inspector.durations(window, by)]
        if self._siblings is not None:
            answers = await self._siblings.ask("durations", window=window, by=by)
            parts += [answer[0] for answer in answers.values() if answer]
        return self._own.inspector.latency(window, by, parts)

    async def is_active(self, call_id: str) -> bool:
        """Whether a call is on its way in any of them."""
        if self._own.is_active(call_id):
            return True
        if self._siblings is None:
            return False
        answers = await self._siblings.ask("active", call_id=call_id)
        return any(answer[0] for answer in answers.values() if answer)

    async def metrics(self, open_metrics: bool) -> Iterator[bytes]:
        """The exposition, in slices."""
        metrics = self._own.telemetry.metrics
        if self._siblings is None or self._place is None:
            await self._own.refresh()
            return metrics.slices(open_metrics=open_metrics)
        async with self._one_scrape:
            answers, _ = await asyncio.gather(self._siblings.ask("metrics", METRICS_S), self._own.refresh())
            name, folder = self._siblings.name, self._place.folder
            try:
                await self._leave()
                await bury(metrics.families(), folder, {name, *answers})
                fresh = {name, *(each for each, answer in answers.items() if answer)}
                families = await gathered(metrics.families(), folder, fresh, name)
            except OSError as error:
                log.error("metrics are of the first worker alone: %s", error.strerror)
                return metrics.slices(open_metrics=open_metrics)
            return expose(families, open_metrics=open_metrics)

    # -- what the others ask ------------------------------------------------------------------------------------------

    async def _say_metrics(self, question: Mapping[str, Any]) -> AsyncGenerator[Any]:
        await asyncio.to_thread(self._own.refresh_process)
        await self._leave()
        yield True

    async def _say_status(self, question: Mapping[str, Any]) -> AsyncGenerator[Any]:
        yield self._own.inspector.status()

    async def _say_checks(self, question: Mapping[str, Any]) -> AsyncGenerator[Any]:
        yield {"checks": self._own.checks(), "draining": self._own.is_draining()}

    async def _say_figures(self, question: Mapping[str, Any]) -> AsyncGenerator[Any]:
        yield self._own.inspector.figures()

    async def _say_durations(self, question: Mapping[str, Any]) -> AsyncGenerator[Any]:
        yield await self._own.inspector.durations(question["window"], question["by"])

    async def _say_active(self, question: Mapping[str, Any]) -> AsyncGenerator[Any]:
        yield self._own.is_active(question["call_id"])

    async def _say_calls(self, question: Mapping[str, Any]) -> AsyncGenerator[Any]:
        async with contextlib.aclosing(self._own.telemetry.live.tap()) as calls:
            async for each in calls:
                yield each

    async def _say_event(self, question: Mapping[str, Any]) -> AsyncGenerator[Any]:
        told = question["event"]
        event = Event(**told | {"facts": tuple((name, value) for name, value in told["facts"])})
        if self._is_first:
            self._chorus.hear(question["who"], event)
        yield self._is_first

    async def _leave(self) -> None:
        if self._siblings is not None and self._place is not None:
            async with self._one_writer:
                families = self._own.telemetry.metrics.families()
                await leave(families, self._place.folder, self._siblings.name)

    # -- what is told without being asked -----------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        if self._siblings is not None and self._is_first:
            self._chorus.hear(self._siblings.name, event)
            return
        if event.state == "firing":
            self._lasting[event.key] = event
        elif event.state == "resolved":
            self._lasting.pop(event.key, None)
        self._events.append((time.monotonic(), event))
        self._wake.set()

    async def _hand_on(self) -> None:
        """To the first worker, one after the other."""
        while True:
            self._wake.clear()
            while self._events:
                at, event = self._events[0]
                if await self._is_taken(event):
                    self._events.popleft()
                elif time.monotonic() - at > WITHOUT_FIRST_S:
                    self._own.telemetry.tell_here(self._events.popleft()[1])
                else:
                    await asyncio.sleep(0.1)
            await self._wake.wait()

    async def _is_taken(self, event: Event) -> bool:
        first = self._first()
        if self._siblings is None or not first or first == self._siblings.name:
            return False
        question = {"ask": "event", "who": self._siblings.name, "event": asdict(event)}
        with contextlib.suppress(OSError, EOFError, ValueError, TimeoutError):
            async with asyncio.timeout(HAND_ON_S):
                return [each async for each in self._siblings.lines(first, question)] == [True]
        return False

    def _first(self) -> str:
        try:
            return (self._place.folder / FIRST).read_text() if self._place is not None else ""
        except OSError:
            return ""

    async def _attend(self) -> None:
        """What changes among the others: who is there, whether the live page is open, who is the first."""
        first = self._first()
        while True:
            await asyncio.sleep(ATTEND_S)
            try:
                if self._is_first:
                    self._hear_calls()
                elif (latest := self._first()) != first:
                    first = latest
                    self._events.extend((time.monotonic(), event) for event in self._lasting.values())
                    self._wake.set()
            except Exception:
                log.exception("a bug while attending to other workers")

    def _hear_calls(self) -> None:
        siblings = self._siblings
        if siblings is None:
            return
        others = siblings.others()
        self._chorus.keep([*others, siblings.name])
        listening = others if self._own.telemetry.live.is_listened_to else []
        for name in [name for name, task in self._heard.items() if task.done() or name not in listening]:
            self._heard.pop(name).cancel()
        for name in listening:
            if name not in self._heard:
                self._heard[name] = asyncio.create_task(self._hear(siblings, name), name=f"calls of {name}")

    async def _hear(self, siblings: Siblings, name: str) -> None:
        live = self._own.telemetry.live
        with contextlib.suppress(OSError, EOFError, ValueError):
            async for each in siblings.lines(name, {"ask": "calls"}):
                if "left_out" in each:
                    live.leave_out(each["left_out"])
                else:
                    live.hear(each)


def _row(name: str, status: Mapping[str, Any] | None) -> dict[str, Any]:
    number, _, pid = name.partition("-")
    state = "silent" if status is None else "draining" if status["draining"] else "up"
    return {
        "worker": int(number),
        "pid": int(pid),
        "state": state,
        "active_requests": status["active_requests"] if status is not None else None,
        "calls_last_minute": status["last_minute"]["calls"] if status is not None else None,
    }
