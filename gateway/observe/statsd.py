"""Calls told to a StatsD server, in the words of DogStatsD: UDP, several lines a packet, tags.

https://docs.datadoghq.com/developers/dogstatsd/datagram_shell. The socket is connected and never waits: a server that is not
there costs failed system calls, and the batch is counted.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import defaultdict
from collections.abc import Iterator, Sequence

from gateway.call import Record
from gateway.observe import Batch
from gateway.observe.labels import Labels, Values
from gateway.observe.names import READ, WRITTEN
from pricing.money import format_usd

log = logging.getLogger("gateway.statsd")

PACKET_BYTES = 1432
"""What an Ethernet frame takes whatever the tunnel, as StatsD's clients have it. A line that is longer goes alone."""
LOOK_UP_SECONDS = 60.0
TYPE_OF = READ | WRITTEN
_HARMLESS = str.maketrans(dict.fromkeys("|,#:@\n\r\t", "_"))
"""What has a meaning in a datagram."""


class Statsd:
    """A sink. Counters are summed over a batch; times are told one by one."""

    name = "statsd"

    def __init__(self, host: str, port: int, labels: Labels) -> None:
        """``labels`` bounds tags as it bounds labels."""
        self._place = host, port
        self._labels = labels
        self._tags: dict[Values, str] = {}
        self._socket: socket.socket | None = None
        self._address: tuple[object, ...] = ()

    async def stay_connected(self) -> None:
        """Look the address up, now and then again: names may come to mean another machine. Until cancelled."""
        while True:
            try:
                await self._connect()
            except (OSError, UnicodeError) as error:  # the latter: a name that none can be
                why = getattr(error, "strerror", "") or type(error).__name__
                log.warning("no way to the StatsD server: %s", why)
            await asyncio.sleep(LOOK_UP_SECONDS)

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def take(self, batch: Batch) -> None:
        """Tell a batch. OSError when not all of it went out."""
        if self._socket is None:
            raise ConnectionError("the StatsD server's address is not known yet")
        fault: OSError | None = None
        for packet in _packets(self._lines(batch.records)):
            try:
                self._socket.send(packet)
            except (
                OSError
            ) as error:  # may be about the packet before (udp(7), "Error handling"): the next may get there
                fault = error
        if fault is not None:
            raise fault

    async def _connect(self) -> None:
        found = await asyncio.get_running_loop().getaddrinfo(*self._place, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        if address == self._address:
            return
        fresh = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        try:
            fresh.connect(address)
        except OSError:
            fresh.close()
            raise
        self.close()
        self._socket, self._address = fresh, address

    def _lines(self, records: Sequence[Record]) -> Iterator[str]:
        counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        dollars: defaultdict[str, int] = defaultdict(int)
        for record in records:
            if record.corrects:
                continue  # what was told cannot be taken back
            tags = self._tags_of(record)
            dollars[tags] += record.cost_nanousd
            for unit, count in record.usage.items():
                if unit in TYPE_OF:
                    counts["llm_tokens_total", f"{tags},type:{TYPE_OF[unit]}"] += count
            if record.told_by:
                continue
            counts["llm_requests_total", f"{tags},status:{record.status}"] += 1
            if record.error_type:
                kind = self._labels.value("error_type", record.error_type).translate(_HARMLESS)
                counts["llm_errors_total", f"{tags},error_type:{kind}"] += 1
            yield f"llm_request_duration_seconds:{record.latency_ms / 1000:.6f}|h{tags}"
            if record.ttft_ms is not None and record.usage_source:
                yield f"llm_time_to_first_token_seconds:{record.ttft_ms / 1000:.6f}|h{tags}"
        for (name, tags), count in counts.items():
            yield f"{name}:{count}|c{tags}"
        for tags, nanousd in dollars.items():
            if nanousd:
                yield f"llm_cost_usd_total:{format_usd(nanousd)}|c{tags}"

    def _tags_of(self, record: Record) -> str:
        raw = self._labels.raw(record)
        found = self._tags.get(raw)
        if found is None:
            values = self._labels.bounded(raw)
            pairs = zip(self._labels.names, values, strict=True)
            found = "|#" + ",".join([f"{name}:{value.translate(_HARMLESS)}" for name, value in pairs if value])
            if values == raw:  # what was folded is made anew: nothing that a caller makes up is remembered
                self._tags[raw] = found
        return found


def _packets(lines: Iterator[str]) -> Iterator[bytes]:
    """As many lines in each as it takes."""
    packet = b""
    for line in lines:
        written = line.encode("utf-8", "replace")
        if packet and len(packet) + 1 + len(written) > PACKET_BYTES:
            yield packet
            packet = b""
        packet = packet + b"\n" + written if packet else written
    if packet:
        yield packet
