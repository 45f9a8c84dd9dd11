"""The promise of a sink: takes finished calls; cannot fail one, slow one or change one.

A sink is anything with a ``name`` and ``take``. The fan-out hands each batch of records to each sink, swallows what they
raise, counts it, and says it once per sink and kind of error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Protocol

from gateway.call import Record, Said
from gateway.value import value

log = logging.getLogger("gateway.observe")


@value
class Batch:
    """Calls that were booked together, in order of settlement. ``texts`` are the records' JSON, made once for all."""

    records: Sequence[Record]
    texts: Sequence[bytes]
    said: Mapping[str, Said] = field(default_factory=dict)
    """By call id, where somebody asked for it."""


class Sink(Protocol):
    """Something that is told of finished calls."""

    @property
    def name(self) -> str:
        """What it is called in logs and metrics."""

    def take(self, batch: Batch) -> None:
        """A batch. May raise; must not block."""


class FanOut:
    """All sinks as one. ``count_error`` is told the name of a sink that failed."""

    def __init__(self, sinks: Sequence[Sink], count_error: Callable[[str], None]) -> None:
        self._sinks = tuple(sinks)
        self._count_error = count_error
        self._said: set[tuple[str, str]] = set()
        self.failing: set[str] = set()
        """Names of the sinks that did not take the newest batch."""

    def take_all(self, batch: Batch) -> None:
        """Hand a batch to every sink. Raises nothing."""
        for sink in self._sinks:
            try:
                sink.take(batch)
                self.failing.discard(sink.name)
            except Exception as error:
                self.failing.add(sink.name)
                self._count_error(sink.name)
                kind = (sink.name, type(error).__name__)
                if kind not in self._said:
                    self._said.add(kind)
                    log.error("sink %s failed (%s); further ones are only counted", *kind)
