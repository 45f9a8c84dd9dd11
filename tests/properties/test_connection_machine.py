"""What happens to a connection and to its client, in any order: each exchange ends once, and nothing is left behind.

The rules are what asyncio, the front and the clock can do to a connection; the laws are looked at after each of them.
"""

from __future__ import annotations

import asyncio
import time
import types
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.call import Headers
from gateway.errors import Failure, Kind, Whose
from gateway.wire import Rewriter, deadlines
from gateway.wire import relay as relays
from gateway.wire.endpoint import Endpoint
from gateway.wire.relay import Relay
from gateway.wire.reply import Reply
from gateway.wire.upstreams import Connection, Pool
from tests.harness.answers import read
from tests.harness.sockets import Transport

LOOP = asyncio.new_event_loop()
ENDED = Failure(Kind.SHUTTING_DOWN, Whose.OURS, "The gateway is shutting down.")
HEADS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 8\r\n\r\n",
    b"HTTP/1.1 204 None\r\n\r\n",
    b"HTTP/1.1 103 Hints\r\n\r\n",
)
PIECES = (
    b"4\r\nbody\r\n",
    b"body",
    b"0\r\n\r\n",
    b"\xff\xff",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"4\r\nbo",
)
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody",
)


class Watcher:
    """Counts. May want the answer whole; may touch a body of unknown length."""

    def __init__(self, *, keep: bool, rewrite: bool) -> None:
        self.keep, self.rewrite, self.seen = keep, rewrite, 0

    def head(self, status: int, headers: Headers) -> bool:
        return self.keep

    def upgraded(self, headers: Headers) -> None:
        raise AssertionError

    def rewriter(self) -> Rewriter | None:
        return Doubling() if self.rewrite else None

    def chunk(self, piece: bytes) -> None:
        self.seen += len(piece)

    def extra(self, *, whole: bool) -> Headers:
        return ()


class Doubling:
    """A rewriter whose work is seen."""

    def feed(self, piece: bytes) -> bytes:
        return piece * 2

    def end(self) -> bytes:
        return b"end"


class Word:
    """Last words after the next piece."""

    def after(self, piece: bytes) -> bytes | None:
        return piece + b"last" if piece else None


class Shifted:
    """The clock of ``deadlines``, as far ahead as the test says."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def monotonic_ns(self) -> int:
        return time.monotonic_ns() + self.ahead_ns


class Exchange:
    """One call: both of its sides, and how often it ended."""

    def __init__(self, relay: Relay, front: Transport, method: str) -> None:
        self.relay, self.front, self.method = relay, front, method
        self.ends = 0
        self.gone = False
        self.drain_until_ns = 0
        relay.finished.add_done_callback(self._end)

    def _end(self, _: object) -> None:
        self.ends += 1


class Machine(RuleBasedStateMachine):
    """One pool, one connection at a time in hand, one call at a time on it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = LOOP
        self.bugs: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.bugs.append(context))
        self.clock = Shifted()
        deadlines.time = relays.time = self.clock  # type: ignore[assignment]
        self.up = Transport()
        self.made: list[tuple[Connection, Transport]] = []
        self.lost: set[Connection] = set()
        self.connection: Connection | None = None
        self.exchange: Exchange | None = None
        self.all: list[Exchange] = []

    @initialize(
        first_byte_s=st.sampled_from((0.0, 5.0)),
        idle_s=st.sampled_from((0.0, 5.0)),
        max_idle=st.sampled_from((4, 4, 4, 0)),
        max_age_s=st.sampled_from((0.0, 0.0, 0.0, 1e-9)),
    )
    def config(self, **limits: Any) -> None:
        self.pool = Pool(Endpoint("up", "openai", "openai", "up.test", 80, False, b"up.test", "", **limits))

    def turn(self) -> None:
        """What was put off until the loop's next turn happens; no timer does."""
        self.loop.run_until_complete(asyncio.sleep(0))

    def do(self, call: Any, *args: Any, **more: Any) -> None:
        async def within() -> None:
            call(*args, **more)

        self.loop.run_until_complete(within())
        self.turn()

    @property
    def is_open(self) -> bool:
        """Whether the connection in hand is one."""
        return self.connection is not None and not self.up.closed

    # -- rules ----------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.exchange is None or self.exchange.relay.finished.done())
    @rule(
        method=st.sampled_from(("POST", "GET", "HEAD")),
        keep=st.booleans(),
        rewrite=st.booleans(),
        http10=st.booleans(),
        drain_bytes=st.sampled_from((0, 6, 1000)),
        sending=st.booleans(),
        streaming=st.sampled_from((False, False, False, True)),
        too_late=st.sampled_from((*[False] * 7, True)),
        answer=st.sampled_from((b"", b"", *ANSWERS)),
        slow=st.sampled_from((False, False, True)),
    )
    def ask(
        self,
        *,
        method: str,
        keep: bool,
        rewrite: bool,
        http10: bool,
        drain_bytes: int,
        sending: bool,
        streaming: bool,
        too_late: bool,
        answer: bytes,
        slow: bool,
    ) -> None:
        """A call takes a kept connection, or a new one, which may be lost before it is used. The answer may come at once,
        and its client may turn out to be slow while it is written to.
        """
        connection = self.pool.take()
        if connection is None:
            connection, self.up = Connection(self.pool), Transport()
            self.made.append((connection, self.up))
            self.do(connection.connection_made, self.up)
            self.pool._all.add(connection)
        else:
            self.up = next(up for each, up in self.made if each is connection)
            assert not self.up.closed
            assert self.up.reading
        front = Transport()
        watcher = Watcher(keep=keep, rewrite=rewrite)
        relay = Relay(
            method, Reply(front, http10=http10, close=False), watcher, drain_bytes=drain_bytes, loop=self.loop
        )
        self.exchange = Exchange(relay, front, method)
        self.all.append(self.exchange)
        self.connection = connection
        connection.sending = streaming
        if too_late:
            self.connection_lost([each for each, _ in reversed(self.made)].index(connection))
        self.do(connection.begin, relay, b"POST / HTTP/1.1\r\n\r\n", b"body" if sending else None)
        if slow:
            front.on_write = relay.front_paused
        if answer:
            self.receive(answer)

    def receive(self, data: bytes) -> None:
        if self.up.reading and not self.up.closed:
            assert self.connection is not None
            self.do(self.connection.data_received, data)

    @precondition(lambda self: self.is_open)
    @rule(head=st.sampled_from(HEADS), more=st.sampled_from((b"", *PIECES)))
    def head_comes(self, head: bytes, more: bytes) -> None:
        self.receive(head + more)

    @precondition(lambda self: self.is_open)
    @rule(piece=st.sampled_from(PIECES), more=st.sampled_from((b"", *PIECES)))
    def piece_comes(self, piece: bytes, more: bytes) -> None:
        self.receive(piece + more)

    @precondition(lambda self: self.is_open)
    @rule(answer=st.sampled_from(ANSWERS), at=st.integers(0, 60))
    def answer_comes(self, answer: bytes, at: int) -> None:
        """A whole one, in one or two reads."""
        for piece in (answer[:at], answer[at:]):
            if piece:
                self.receive(piece)

    @precondition(lambda self: self.is_open)
    @rule()
    def eof_received(self) -> None:
        """asyncio closes the transport behind it."""
        if self.up.reading:
            assert self.connection is not None
            self.do(self.connection.eof_received)
            self.up.closed = True

    @precondition(lambda self: self.made)
    @rule(which=st.integers(0, 3))
    def connection_lost(self, which: int) -> None:
        """Of itself, or at last after it was closed; once."""
        connection, up = self.made[-1 - which % len(self.made)]
        if connection not in self.lost:
            up.closed = True
            self.lost.add(connection)
            self.do(connection.connection_lost, None)

    @precondition(lambda self: self.is_open and self.connection._relay is not None)
    @rule(waiting=st.booleans())
    def upstream_is_slow(self, *, waiting: bool) -> None:
        assert self.connection is not None
        self.up.waiting = 100 if waiting else 0
        if waiting and self.connection.drained is None:
            self.do(self.connection.pause_writing)
        elif not waiting and self.connection.drained is not None:
            self.do(self.connection.resume_writing)

    @precondition(lambda self: self.exchange is not None and not self.exchange.front.closed)
    @rule(paused=st.booleans())
    def front_is_slow(self, *, paused: bool) -> None:
        """The front tells it twice at times."""
        assert self.exchange is not None
        relay = self.exchange.relay
        self.do(relay.front_paused if paused else relay.front_resumed)

    @precondition(lambda self: self.exchange is not None and not self.exchange.gone)
    @rule(drain_s=st.sampled_from((0.0, 5.0, 5.0)))
    def front_lost(self, drain_s: float) -> None:
        assert self.exchange is not None
        self.exchange.front.closed = self.exchange.gone = True
        self.exchange.drain_until_ns = self.clock.monotonic_ns() + int(drain_s * 1e9)
        self.do(self.exchange.relay.front_lost, drain_s=drain_s)

    @precondition(lambda self: self.exchange is not None)
    @rule(last=st.sampled_from((None, Word())), really=st.integers(0, 2))
    def cut(self, last: Word | None, really: int) -> None:
        if really:
            return
        assert self.exchange is not None
        self.do(self.exchange.relay.cut, ENDED, last)

    @rule(ahead_s=st.sampled_from((0.1, 1.0, 6.0)))
    def time_passes(self, ahead_s: float) -> None:
        """As far as the timer that is armed, if there is one."""
        self.clock.ahead_ns += int(ahead_s * 1e9)
        timer = self.pool.deadlines._timer
        if timer is not None and self.pool.deadlines._at_ns <= self.clock.monotonic_ns():
            timer.cancel()
            self.do(self.pool.deadlines._look)
        if self.exchange is not None and self.exchange.gone:
            late_ns = self.clock.monotonic_ns() - self.exchange.drain_until_ns
            assert self.exchange.relay.finished.done() or late_ns < 1e9, "drained for ever"

    @precondition(lambda self: len(self.all) > 2 and not self.pool._retired)
    @rule()
    def retire(self) -> None:
        self.do(self.pool.retire)

    # -- laws -----------------------------------------------------------------------------------------------------------

    @invariant()
    def nothing_was_raised(self) -> None:
        assert self.bugs == []

    @invariant()
    def the_end_comes_once_and_is_seen(self) -> None:
        for each in self.all:
            relay = each.relay
            assert each.ends == relay.finished.done()
            if not each.ends or each.gone:
                continue
            found = read(each.front.sent, each.method)
            if relay.failure is None:
                assert found.end == "whole" or (found.end == "open" and not each.front.aborted)
            elif found.head is not None:
                assert each.front.closed
                assert found.end == "cut" or each.front.aborted

    @invariant()
    def the_pool_keeps_what_is_of_use(self) -> None:
        if not hasattr(self, "pool"):
            return
        for connection in self.pool._idle:
            assert connection in self.pool._all
            assert not connection.closed
            assert connection._relay is None
            assert not connection.sending
            assert not next(up for each, up in self.made if each is connection).waiting
            assert next(up for each, up in self.made if each is connection).reading
        assert not any(connection.closed for connection in self.pool._all)
        assert not (self.pool._retired and self.pool.idle)

    @invariant()
    def a_connection_is_held_back_for_somebody_only(self) -> None:
        for connection, up in self.made:
            if not up.closed and not up.reading:
                assert connection._relay is not None
                assert connection._relay._paused
                assert not connection._relay.front_gone
            if not up.closed and connection._relay is None:
                assert connection in self.pool._idle, "nobody knows of it"

    @invariant()
    def limits_are_for_who_runs(self) -> None:
        if hasattr(self, "pool"):
            running = {each.relay for each in self.all if not each.relay.finished.done()}
            assert self.pool.deadlines._timed <= running

    @invariant()
    def what_has_a_limit_is_looked_at(self) -> None:
        if hasattr(self, "pool") and len(self.pool.deadlines):
            assert self.pool.deadlines._timer is not None

    def teardown(self) -> None:
        """Everything that is open is lost: then everything has ended."""
        for number in range(len(self.made)):
            self.connection_lost(number)
        if hasattr(self, "pool"):
            assert all(each.ends == 1 for each in self.all)
            assert (self.pool.idle, self.pool.busy, len(self.pool.deadlines)) == (0, 0, 0)
            self.pool.close()
        self.nothing_was_raised()
        self.the_end_comes_once_and_is_seen()


@pytest.fixture(scope="module", autouse=True)
def _surroundings() -> Any:
    real = deadlines.time
    assert isinstance(real, types.ModuleType)
    yield
    deadlines.time = relays.time = real
    LOOP.close()


TestConnections = Machine.TestCase
TestConnections.settings = settings(max_examples=300, stateful_step_count=30)
