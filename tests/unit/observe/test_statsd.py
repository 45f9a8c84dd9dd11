"""StatsD: what arrives at a server's socket, and what it costs when there is none."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

import pytest

from gateway.call import Record
from gateway.observe.labels import Labels
from gateway.observe.statsd import PACKET_BYTES, Statsd
from tests.harness.finished import batch as finished
from tests.unit.observe.test_metrics import ALL, RECORD, REFUSED, told, value

LINE = re.compile(r"([a-z_]+):([0-9.]+)\|([ch])\|#((?:[a-z_]+:[^|,#:\n]+)(?:,[a-z_]+:[^|,#:\n]+)*)")
"""One line of DogStatsD."""


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        listening.bind(("127.0.0.1", 0))
        listening.setblocking(False)
        yield listening


@asynccontextmanager
async def connected(port: int, host: str = "127.0.0.1", most: int = 100) -> AsyncIterator[Statsd]:
    sink = Statsd(host, port, Labels(ALL, most, 1000))
    looking = asyncio.create_task(sink.stay_connected())
    try:
        async with asyncio.timeout(10):
            while sink._socket is None and not looking.done():
                await asyncio.sleep(0.01)
        yield sink
    finally:
        looking.cancel()
        sink.close()


def packets(server: socket.socket) -> list[bytes]:
    """All that has come; loopback delivers before ``send`` returns."""
    found = []
    while True:
        try:
            found.append(server.recv(65536))
        except BlockingIOError:
            return found


def lines(server: socket.socket) -> list[tuple[str, str, str, dict[str, str]]]:
    found = []
    for packet in packets(server):
        for line in packet.decode().split("\n"):
            match = LINE.fullmatch(line)
            assert match is not None, line
            name, number, kind, tags = match.groups()
            found.append((name, number, kind, dict(tag.split(":") for tag in tags.split(","))))
    return found


async def test_a_call_arrives_with_its_tags(server: socket.socket) -> None:
    """Counts and dollars as counters, times as histograms in seconds, under the names of the metrics."""
    async with connected(server.getsockname()[1]) as sink:
        sink.take(finished([RECORD]))
    who = {"team": "search", "agent": "bot", "call_type": "routing", "provider": "openai", "model": "gpt-4o-mini"}
    assert sorted(lines(server), key=str) == sorted(
        [
            ("llm_request_duration_seconds", "0.700000", "h", who),
            ("llm_time_to_first_token_seconds", "0.100000", "h", who),
            ("llm_requests_total", "1", "c", {**who, "status": "200"}),
            ("llm_tokens_total", "10", "c", {**who, "type": "input"}),
            ("llm_tokens_total", "4", "c", {**who, "type": "cached_input"}),
            ("llm_tokens_total", "5", "c", {**who, "type": "output"}),
            ("llm_tokens_total", "2", "c", {**who, "type": "reasoning"}),
            ("llm_cost_usd_total", "0.000001234", "c", who),
        ],
        key=str,
    )


async def test_sums_are_those_of_the_metrics(server: socket.socket) -> None:
    """Over many calls of many kinds, in packets that no network has to cut."""
    records = [
        replace(each, team=f"team-{n % 13}", agent=f"agent {n % 7}", status=each.status + n % 3)
        for n in range(150)
        for each in (RECORD, REFUSED)
    ]
    async with connected(server.getsockname()[1]) as sink:
        sink.take(finished(records[:200]))
        sink.take(finished(records[200:]))
    found = packets(server)
    sizes = [len(packet) for packet in found]
    assert max(sizes) <= PACKET_BYTES
    assert sum(sizes) / len(sizes) > PACKET_BYTES * 0.8
    sums: Counter[tuple[str, str]] = Counter()
    for line in b"\n".join(found).decode().split("\n"):
        name, number, kind, _ = LINE.fullmatch(line).groups()  # type: ignore[union-attr]
        sums[name, kind] += Decimal(number) if kind == "c" else 1  # type: ignore[assignment]
    metrics = told(*records)
    for (name, kind), total in sums.items():
        assert float(total) == pytest.approx(value(metrics, name if kind == "c" else f"{name}_count")), name
    assert {name for name, _ in sums} >= {"llm_errors_total", "llm_cost_usd_total", "llm_tokens_total"}


async def test_no_name_of_a_caller_breaks_out_of_its_tag(server: socket.socket) -> None:
    """Nor has it more values than a label may."""
    hostile = [f"a|c\nllm_cost_usd_total:9|c|#team:x,y#{n}" for n in range(9)]
    async with connected(server.getsockname()[1], most=3) as sink:
        sink.take(finished([replace(RECORD, team=name, error_type=name, status=500) for name in hostile]))
    found = lines(server)
    assert len({tags["team"] for *_, tags in found}) == 4
    assert sum(Decimal(number) for name, number, _, _ in found if name == "llm_cost_usd_total") == Decimal(
        "0.000011106"
    )
    assert "other" in {tags["error_type"] for name, _, _, tags in found if name == "llm_errors_total"}


async def test_a_line_longer_than_a_packet_goes_alone(server: socket.socket) -> None:
    """Long names in a script of many bytes: nothing is lost, nothing cut in the middle."""
    long = replace(
        RECORD, team="界" * 64, agent="語" * 64, call_type="字" * 64, model_served="文" * 64, provider="言" * 64
    )
    async with connected(server.getsockname()[1]) as sink:
        sink.take(finished([long, RECORD]))
    assert len(lines(server)) == 16


async def test_a_server_that_is_not_there_costs_nothing(server: socket.socket) -> None:
    """The sink says that it failed, at once, and tells the next batch when the server is back."""
    port = server.getsockname()[1]
    server.close()
    async with connected(port) as sink:
        failed = 0
        for _ in range(20):
            try:
                sink.take(finished([RECORD] * 100))
            except ConnectionRefusedError:
                failed += 1
        assert failed >= 10
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
            back.bind(("127.0.0.1", port))
            back.setblocking(False)
            for _ in range(2):
                try:
                    sink.take(finished([RECORD]))
                except ConnectionRefusedError:
                    continue
            assert lines(back)


async def test_a_name_that_nobody_knows_is_an_error_of_each_batch() -> None:
    """And a call waits for no look-up."""
    sink = Statsd("no-such-host.invalid", 8125, Labels(ALL, 9, 9))
    with pytest.raises(ConnectionError):
        sink.take(finished([RECORD]))
    with pytest.raises(OSError):
        await sink._connect()


async def test_corrections_and_work_of_others_are_no_calls(server: socket.socket) -> None:
    """A batch that an answer told of was paid for; a correction cannot be taken back from a counter."""
    async with connected(server.getsockname()[1]) as sink:
        work: Record = replace(RECORD, told_by="c0")
        sink.take(finished([work, replace(RECORD, corrects="c0", cost_nanousd=-5)]))
    assert {name for name, *_ in lines(server)} == {"llm_tokens_total", "llm_cost_usd_total"}


async def test_a_name_that_cannot_be_one_is_said_and_looked_up_again(monkeypatch, caplog) -> None:
    """A label of a host name has at most 63 characters; what Python says of it is no OSError."""
    monkeypatch.setattr("gateway.observe.statsd.LOOK_UP_SECONDS", 0.01)
    monkeypatch.setattr(logging.getLogger("gateway"), "propagate", True)
    sink = Statsd("x" * 70, 8125, Labels(ALL, 10, 10))
    looking = asyncio.create_task(sink.stay_connected())
    async with asyncio.timeout(10):
        while len(caplog.records) < 2:
            await asyncio.sleep(0.01)
    assert not looking.done()
    looking.cancel()


async def test_one_packet_that_is_not_taken_does_not_hold_back_the_next(server: socket.socket) -> None:
    """The system tells of a server that was away with the packet after; by then it may be back."""
    many = [replace(RECORD, team=f"team-{number}") for number in range(40)]
    port = server.getsockname()[1]
    async with connected(port) as sink:
        server.close()
        sink._socket.send(b"lost")  # type: ignore[union-attr]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
            back.bind(("127.0.0.1", port))
            back.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                sink.take(finished(many))
            assert len(packets(back)) > 2
