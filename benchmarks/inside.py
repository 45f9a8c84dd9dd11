"""What the gateway's own code takes for a call, without sockets: both sides are transports that only pretend.

    python benchmarks/inside.py              everything on, and forwarding alone: CPU us a call, and instructions where they are counted
    python benchmarks/inside.py --profile    the functions that take most of it (under cProfile, which makes calls dearer than they are)
    python benchmarks/inside.py --events 300     the answer is a stream, each of its events a read of its own; what is told is an event's part
    python benchmarks/inside.py --prompt-kb 100  the request comes in reads of 64 KB

32 connections, each with one call at a time, prompts of 1 KB; store, settling, telemetry and their threads are the real ones. What the kernel
and the loop's waiting take comes on top (``scripts/bench --only cpu``). For who works on the path of a call: a change of 1 us can be seen.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import json
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from around import Around
from gateways import settings
from instructions import Counter
from load import request
from upstream import CHAT_ANSWER, EVENT, HEAD, LAST, chunk

from gateway import loading, loop
from gateway.app import Gateway
from gateway.call import Request
from gateway.wire.attempts import send
from gateway.wire.upstreams import Connection, Pool
from gateway.workers import collect_from_now_on

CONNECTIONS, ROUNDS, TOP = 32, 7, 60
READ_BYTES = 64 * 1024
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class Exchange:
    """What is asked and what comes back, each read by read, and what the last write to a client ends with."""

    asked: Sequence[bytes]
    answer: Sequence[bytes]
    end: bytes = b""


def exchange(prompt_kb: int, events: int | None = None) -> Exchange:
    """A plain answer, or a stream of so many events."""
    whole = request("/v1/chat/completions", prompt_kb, "" if events is None else f"events={events}")
    asked = [whole[at : at + READ_BYTES] for at in range(0, len(whole), READ_BYTES)]
    if events is None:
        return Exchange(asked, [CHAT_ANSWER])
    stream = [HEAD, *(chunk(EVENT % (number + 10**15)) for number in range(events)), chunk(LAST) + LAST_CHUNK]
    return Exchange(asked, stream, LAST_CHUNK)


class Pretend(asyncio.Transport):
    """Takes what is written; what that leads to happens in the loop's next turn, as it would with a socket."""

    def __init__(self, protocol: asyncio.Protocol, written: Callable[[asyncio.Protocol, bytes], None]) -> None:
        super().__init__({"peername": ("127.0.0.1", 5)})
        self.protocol, self.written, self.closed = protocol, written, False

    def write(self, data: bytes) -> None:
        self.written(self.protocol, data)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Clients:
    """All connections, and the round of calls that they make."""

    def __init__(self, gateway: Gateway, counter: Counter | None) -> None:
        self.gateway, self.counter, self.left, self.open = gateway, counter, 0, 0
        self.exchange = exchange(1)
        self.loop = asyncio.get_running_loop()
        self.over = self.loop.create_future()
        self.all = [gateway._front._server() for _ in range(CONNECTIONS)]
        for each in self.all:
            each.connection_made(Pretend(each, self.answered))

    def ask(self, client: asyncio.Protocol) -> None:
        for piece in self.exchange.asked:
            self.loop.call_soon(client.data_received, piece)

    def answered(self, client: asyncio.Protocol, data: bytes) -> None:
        if not data.endswith(self.exchange.end):
            return
        if self.left:
            self.left -= 1
            self.ask(client)
            return
        self.open -= 1
        if not self.open:
            self.over.set_result(None)

    def answer(self, line: asyncio.Protocol, data: bytes) -> None:
        """The provider's side: whatever is asked, once the body is there that follows its head."""
        if not data.endswith(b"\r\n"):
            for piece in self.exchange.answer:
                self.loop.call_soon(line.data_received, piece)

    async def round(self, calls: int) -> tuple[float, float]:
        """So many calls; CPU microseconds and thousands of instructions of each, until all are booked."""
        self.over, self.left, self.open = self.loop.create_future(), calls - CONNECTIONS, CONNECTIONS
        began, counted = time.process_time(), self.counter.read() if self.counter else 0
        for each in self.all:
            self.ask(each)
        await asyncio.wait_for(self.over, 120)
        while self.gateway.handle.active or self.gateway.inspected().queue_depth:
            await asyncio.sleep(0.005)
        took = (time.process_time() - began) / calls * 1e6
        return took, ((self.counter.read() if self.counter else 0) - counted) / calls / 1e3

    async def rounds(self, calls: int, what: Exchange) -> tuple[float, float, float]:
        """Of one call: CPU microseconds in the middle round and in the best, thousands of instructions."""
        self.exchange = what
        await self.round(calls)
        times, instructions = zip(*[await self.round(calls) for _ in range(ROUNDS)], strict=True)
        return statistics.median(times), min(times), statistics.median(instructions)


def connector(clients: Clients) -> Callable[..., Awaitable[Connection]]:
    """In place of ``Pool.connect``."""

    async def connect(pool: Pool, *, tunnel: bool = False) -> Connection:
        connection = Connection(pool)
        connection.transport = Pretend(connection, clients.answer)
        pool._all.add(connection)
        return connection

    return connect


class Blind:
    """Sees nothing of an answer. Satisfies ``wire.Watcher``."""

    def head(self, status, fields):
        return False

    def rewriter(self):
        return None

    def chunk(self, piece):
        pass

    def extra(self, *, whole):
        return ()


def forwarding(gateway: Gateway):
    """In place of ``Handle``: everything goes to the one upstream, and nobody looks."""
    pool, blind = gateway.snapshot.pools["openai"], Blind()

    async def handle(arrival) -> None:
        body = await arrival.body()
        target = arrival.target
        asked = Request(arrival.method, target, arrival.headers, arrival.fields, "openai", "openai", target, body=body)
        await send(arrival, asked, pool, blind, drain_bytes=0)

    return handle


async def measured(config: Path, given: argparse.Namespace, *, alone: bool) -> None:
    counter = None
    with contextlib.suppress(OSError):
        counter = Counter()
    with open(os.devnull, "wb") as nowhere:
        gateway = Gateway(loading.load(config, {}), call_log=nowhere)
        if alone:
            gateway._front._handle = forwarding(gateway)
        await gateway.start()
        collect_from_now_on()
        clients = Clients(gateway, counter)
        Pool.connect = connector(clients)  # type: ignore[method-assign]
        if given.profile:
            await profiled(clients, given)
        else:
            await told("forwarding alone" if alone else "everything on", clients, given)
        await gateway.stop(grace_s=1)


async def told(what: str, clients: Clients, given: argparse.Namespace) -> None:
    median, best, thousands = await clients.rounds(given.calls, exchange(given.prompt_kb, given.events))
    print(f"{what}: median {median:.1f} us a call, best {best:.1f}", end="")
    print(f"; {thousands:.0f} thousand instructions" if clients.counter else "")
    if given.events:
        _, least, without = await clients.rounds(given.calls, exchange(given.prompt_kb, 0))
        print(f"    an event of it: best {(best - least) / given.events:.2f} us", end="")
        print(f"; {(thousands - without) / given.events:.2f} thousand" if clients.counter else "")


async def profiled(clients: Clients, given: argparse.Namespace) -> None:
    clients.exchange = exchange(given.prompt_kb, given.events)
    await clients.round(given.calls)
    with cProfile.Profile() as found:
        await clients.round(given.calls)
    stats = pstats.Stats(found)
    print(f"{stats.total_calls / given.calls:.0f} function calls a call")
    stats.sort_stats("tottime").print_stats(TOP)


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--profile", action="store_true")
    options.add_argument("--calls", type=int, default=5000, help="in each round")
    options.add_argument("--events", type=int, help="of a stream")
    options.add_argument("--prompt-kb", type=int, default=1)
    given = options.parse_args()
    Connection.is_stale = lambda self: self.closed  # type: ignore[method-assign]
    for alone in (False,) if given.profile else (False, True):
        with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as folder:
            config = Path(folder) / "tollgate.yaml"
            nobody = Around(Path(folder), provider=9, collector=9)
            listeners = {"front": {"port": 0}, "admin": {"port": 0}}
            everything = listeners | settings(nobody, nobody.folder)
            everything["observability"] |= {"logging": {"level": "error"}}
            config.write_text(json.dumps(everything))
            loop.run(measured(config, given, alone=alone))


if __name__ == "__main__":
    main()
