"""Limits of one answer: its time, under one timer for all, and the bytes that are no body."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.call import Headers
from gateway.errors import Kind
from gateway.wire import deadlines
from gateway.wire import relay as relays
from gateway.wire.endpoint import Endpoint
from gateway.wire.relay import OVERHEAD_BYTES, Relay
from gateway.wire.reply import Reply
from gateway.wire.upstreams import Connection, Pool
from tests.harness.sockets import Transport

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"4\r\nbody\r\n"


class Clock:
    """The time of the limits, as far ahead as the test says."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic_ns(self) -> int:
        return time.monotonic_ns() + int(self.ahead_s * 1e9)


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    deadlines.time = relays.time = made  # type: ignore[assignment]
    yield made
    deadlines.time = relays.time = time


class Watcher:
    def __init__(self, *, keep: bool = False) -> None:
        self.keep = keep

    def head(self, status: int, headers: Headers) -> bool:
        return self.keep

    def rewriter(self) -> None:
        return None

    def chunk(self, piece: bytes) -> None:
        """Nothing to see."""

    def extra(self, *, whole: bool) -> Headers:
        return ()


class Call:
    """One exchange of a pool, with a front that nobody is behind."""

    def __init__(self, pool: Pool, *, keep: bool = False) -> None:
        self.pool, self.front, self.up = pool, Transport(), Transport()
        self.connection = Connection(pool)
        self.connection.connection_made(self.up)
        loop = asyncio.get_running_loop()
        watcher: Any = Watcher(keep=keep)
        self.relay = Relay(
            "POST", Reply(self.front, http10=False, close=False), watcher, drain_bytes=1 << 20, loop=loop
        )
        self.connection.begin(self.relay, b"POST / HTTP/1.1\r\n\r\n", None)

    def feed(self, data: bytes) -> None:
        self.connection.data_received(data)

    def look(self, clock: Clock, ahead_s: float) -> Kind | None:
        """Later: what the timer, if it was armed for then, made of it."""
        clock.ahead_s += ahead_s
        if self.pool.deadlines._timer is not None and self.pool.deadlines._at_ns <= clock.monotonic_ns():
            self.pool.deadlines._timer.cancel()
            self.pool.deadlines._look()
        return self.relay.failure.kind if self.relay.failure else None


def pool(**limits: float) -> Pool:
    return Pool(Endpoint("up", "openai", "openai", "up.test", 80, False, b"up.test", "", **limits))  # type: ignore[arg-type]


async def test_a_head_that_does_not_come_has_a_limit_and_one_that_came_has_none(clock: Clock) -> None:
    late, early = Call(pool(first_byte_s=5.0)), Call(pool(first_byte_s=5.0))
    early.feed(HEAD)
    assert (late.look(clock, 4.9), late.look(clock, 0.2)) == (None, Kind.UPSTREAM_TIMEOUT)
    assert early.look(clock, 100.0) is None


async def test_silence_has_a_limit_that_every_byte_moves(clock: Clock) -> None:
    call = Call(pool(idle_s=5.0))
    call.feed(HEAD)
    for _ in range(5):
        assert call.look(clock, 4.0) is None
        call.feed(CHUNK)
    assert (call.look(clock, 4.0), call.look(clock, 1.1)) == (None, Kind.UPSTREAM_TIMEOUT)


async def test_a_slow_client_is_not_taken_for_a_silent_upstream(clock: Clock) -> None:
    """Not while it is slow, and not in the moment after."""
    call = Call(pool(idle_s=5.0))
    call.feed(HEAD + CHUNK)
    call.relay.front_paused()
    assert call.look(clock, 4.0) is None
    assert call.look(clock, 60.0) is None
    clock.ahead_s += 4.9
    call.relay.front_resumed()
    assert call.look(clock, 0.2) is None
    assert call.look(clock, 5.0) is Kind.UPSTREAM_TIMEOUT


@pytest.mark.parametrize("idle_s", [0.0, 100.0])
async def test_draining_has_a_limit_whatever_comes(clock: Clock, idle_s: float) -> None:
    """The head that comes after the client has left used to take the limit away."""
    call = Call(pool(idle_s=idle_s))
    call.relay.front_lost(drain_s=5.0)
    call.feed(HEAD)
    assert call.look(clock, 4.0) is None
    call.feed(CHUNK)
    assert call.look(clock, 1.1) is Kind.UPSTREAM_RESET
    assert call.up.aborted


async def test_an_answer_that_dribbles_is_let_go(clock: Clock) -> None:
    """Kept back for its cost header, but not for longer than 250 ms."""
    call = Call(pool(), keep=True)
    call.feed(HEAD + CHUNK)
    assert call.front.sent == b""
    call.look(clock, 0.3)
    assert call.front.sent.endswith(CHUNK)


async def test_calls_share_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """And without limits there is none."""
    loop, timers = asyncio.get_running_loop(), []
    known = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda *given: timers.append(given) or known(*given), raising=False)
    limited, free = pool(first_byte_s=5.0, idle_s=60.0), pool()
    calls = [Call(limited) for _ in range(1000)] + [Call(free) for _ in range(10)]
    for call in calls:
        call.feed(HEAD + CHUNK)
    assert (len(timers), len(limited.deadlines), len(free.deadlines)) == (1, 1000, 0)
    for call in calls:
        call.feed(b"0\r\n\r\n")
        assert call.relay.failure is None
    assert len(limited.deadlines) == 0
    limited.close()


@pytest.mark.parametrize(
    "before", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX: ", HEAD + b"0\r\n", HEAD + b"0\r\nX: "]
)
async def test_a_head_or_trailers_without_an_end_have_one(before: bytes) -> None:
    """Fields without number, or one field without an end, in the head or behind the body."""
    call = Call(pool())
    call.feed(before)
    fed, piece = 0, b"X-Name: value\r\n" * 64 if before.endswith(b"\n") else b"x" * 1024
    while call.relay.failure is None:
        assert fed <= OVERHEAD_BYTES
        call.feed(piece)
        fed += len(piece)
    assert call.relay.failure.kind is Kind.UPSTREAM_UNREADABLE


async def test_interim_heads_without_an_end_have_one() -> None:
    call = Call(pool())
    for _ in range(OVERHEAD_BYTES // 24 + 1):
        if call.relay.failure is None:
            call.feed(b"HTTP/1.1 102 Working\r\n\r\n")
    assert call.relay.failure is not None


async def test_a_long_stream_of_small_reads_has_no_end() -> None:
    """Sizes and line ends of chunks that come in reads of their own are not a head that grows."""
    call = Call(pool())
    call.feed(HEAD)
    for _ in range(OVERHEAD_BYTES // 5):
        for piece in (b"4\r\n", b"body", b"\r\n"):
            call.feed(piece)
        call.front.written.clear()
    call.feed(b"0\r\n\r\n")
    assert call.relay.failure is None
    assert call.relay.finished.done()
