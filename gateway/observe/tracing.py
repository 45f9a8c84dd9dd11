"""The traces: which calls become spans, and the spans on their way out.

A sink. It writes the spans of sampled calls soon after they ended, a few calls at a time (so that running calls come first),
and hands them to its exporter once a second. Laws: a call that somebody else has decided on (``traceparent``) is taken as they
said, but errors and dear calls can be kept in any case; what finds no room is dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil
from typing import Protocol

from gateway.call import UPSTREAM, Caller, Record, Said, own_trace_id, span_id
from gateway.observe import Batch
from gateway.observe.exporter import Exporter
from gateway.observe.protobuf import Attributes
from gateway.observe.spans import Span, Style, spans_of
from gateway.value import value

EVERY_S = 1.0
MAX_PENDING = 8192
CALLS_A_REQUEST = 512
REQUEST_BYTES = 1 << 20
"""About where a request ends that holds long texts: gRPC servers take 4 MiB by default."""
AT_A_TIME = 8
"""Calls that are written before the loop is let go: 0.3 ms."""
RANDOM_BITS = 56
"""W3C Trace Context level 2: so many of a trace id's last bits are random, and decide on sampling alike in every system."""


@value
class Sampler:
    """``rate`` is the share of calls that nobody else has decided on."""

    rate: float = 1.0
    on_error: bool = True
    over_nanousd: int = 0

    def takes(self, record: Record) -> bool:
        """Whether the call is traced. Work that an answer told of, and corrections, are no calls."""
        if record.told_by or record.corrects:
            return False
        if (self.on_error and record.error_type) or (self.over_nanousd and record.cost_nanousd >= self.over_nanousd):
            return True
        if record.sampled:
            return record.sampled == "1"
        return is_in_share(record.trace_id, self.rate)


def is_in_share(trace_id: str, rate: float) -> bool:
    """Whether a trace is among those of which ``rate`` is the share."""
    return trace_id[18:] < _end_of(rate)


@lru_cache(maxsize=64)
def _end_of(rate: float) -> str:
    """The first digits that are not in the share: hexadecimal texts of one length stand in the order of their numbers."""
    return f"{ceil(rate * (1 << RANDOM_BITS)):014x}" if rate < 1 else "g"


def traceparent_of(rate: float) -> Callable[[Caller, str], bytes]:
    """Writes ``traceparent`` (W3C Trace Context 3.2) for the upstream: its spans hang below the call's ``upstream``."""

    def write(caller: Caller, call_id: str) -> bytes:
        trace_id = caller.trace_id or own_trace_id(call_id)
        flags = f"0{caller.sampled}" if caller.sampled else "01" if is_in_share(trace_id, rate) else "00"
        return f"00-{trace_id}-{span_id(call_id, UPSTREAM)}-{flags}".encode()

    return write


class Form(Protocol):
    """How spans are written for a receiver: ``otlp``, ``zipkin`` and ``console`` are modules that keep this promise."""

    def span(self, told: Span) -> bytes:
        """One span."""

    def traces_request(self, resource: Attributes, spans: Sequence[bytes]) -> bytes:
        """What is sent."""


class Traces:
    """See the module's docstring. ``finish`` may add to the spans of a call what its receiver wants to know."""

    def __init__(
        self,
        exporter: Exporter,
        form: Form,
        sampler: Sampler,
        style: Style,
        resource: Attributes,
        *,
        content: bool = False,
        finish: Callable[[list[Span], Record], None] | None = None,
    ) -> None:
        self.name = exporter.signal
        self.exporter = exporter
        self.content = content
        self._form = form
        self.takes = sampler.takes
        """Whether a call's trace is kept."""
        self._style = style
        self._resource = resource
        self._finish = finish
        self._pending: deque[tuple[Record, int, Said | None]] = deque()
        self._written: list[bytes] = []
        self._calls = 0
        self._bytes = 0
        self._writing: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Begin to send."""
        self._loop = asyncio.get_running_loop()
        self.exporter.start()
        self._task = asyncio.create_task(self._run(), name=f"spans of {self.name}")

    def wants(self, record: Record) -> bool:
        """Whether what was said in this call is to be captured for it."""
        return self.content and self.takes(record)

    def take(self, batch: Batch) -> None:
        """Keep what is sampled."""
        booked_ns = time.time_ns()
        for record in batch.records:
            if self.takes(record):
                said = batch.said.get(record.call_id) if self.content else None
                self._pending.append((record, booked_ns, said))
        while len(self._pending) > MAX_PENDING:
            self._pending.popleft()
            self.exporter.drop(1)
        if self._pending and self._writing is None and self._loop is not None:
            self._writing = self._loop.call_soon(self._write_some)

    async def close(self, grace_s: float) -> None:
        """Write and send what waits."""
        self._closing.set()
        if self._task is not None:
            await self._task
        while self._pending:
            self._write_some()
        self._send()
        await self.exporter.close(grace_s)

    async def _run(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), EVERY_S)
            self._send()

    def _write_some(self) -> None:
        """Soon, while the records are still in the processor's cache: a second later it takes twice as long."""
        for _ in range(min(AT_A_TIME, len(self._pending))):
            record, booked_ns, said = self._pending.popleft()
            try:
                spans = spans_of(record, booked_ns, self._style, said)
                if self._finish is not None:
                    self._finish(spans, record)
                written = list(map(self._form.span, spans))
            except Exception:  # a record from a stranger's hand: one call less is shown
                self.exporter.drop(1)
                continue
            self._written += written
            self._calls += 1
            self._bytes += sum(map(len, written))
            if self._bytes >= REQUEST_BYTES:
                break
        if self._calls >= CALLS_A_REQUEST or self._bytes >= REQUEST_BYTES:
            self._send()
        more = self._pending and not self._closing.is_set()
        self._writing = self._loop.call_soon(self._write_some) if more and self._loop is not None else None

    def _send(self) -> None:
        written, self._written = self._written, []
        calls, self._calls, self._bytes = self._calls, 0, 0
        if written:
            self.exporter.submit(self._form.traces_request(self._resource, written), calls)
