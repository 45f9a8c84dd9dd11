"""The load of the benchmarks, one process a measurement: ``python load.py MODE PORT PATH NAME=NUMBER...`` prints one JSON object.

``saturate`` keeps connections busy. ``rate`` sends at a constant rate whatever comes back: a call counts from the moment it was
due, so that one that waits for a free connection, or for this process, is late by as much (no coordinated omission).
``streams`` reads event streams and compares the stamps in their events with its own clock. ``open`` holds many streams open and
does the same with them.

Requests are bytes made beforehand, and a call is one write and one callback: no task, no future.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

KEY = "tg-bench4f7a1c9e2b8d6035a1f0c7d3e9b2"
"""What callers show. Two of the systems look at it: LiteLLM, and the gateway where it asks for gateway keys."""
END = b"0\r\n\r\n"
SENT = b'"content":" '
WORDS = (
    "the",
    "of",
    "and",
    "to",
    "in",
    "for",
    "is",
    "on",
    "that",
    "by",
    "this",
    "with",
    "you",
    "it",
    "not",
    "more",
    "was",
)


def prompt(size: int) -> str:
    """Text of so many characters, the same each time, that no encoding finds too easy."""
    choice = random.Random(7)
    text = ""
    while len(text) < size:
        text += choice.choice(WORDS) + (" " if choice.random() < 0.9 else f" {choice.randrange(1000)}. ")
    return text[:size]


def body(path: str, kb: int, *, stream: bool) -> bytes:
    if path.endswith("/embeddings"):
        return json.dumps({"model": "text-embedding-3-small", "input": prompt(kb * 1024 - 70)}).encode()
    asked: dict[str, object] = {"model": "gpt-4o-mini"}
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    asked["messages"] = [{"role": "user", "content": prompt(kb * 1024 - 90)}]
    return json.dumps(asked, separators=(",", ":")).encode()


def request(path: str, kb: int, wish: str = "") -> bytes:
    """The whole of a request; ``wish`` is what the provider is asked for of a stream."""
    content = body(path, kb, stream=bool(wish))
    names = "x-tollgate-team: search\r\nx-tollgate-user: ann\r\nx-tollgate-agent: planner\r\n"
    more = f"x-bench: {wish}\r\n" if wish else ""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}{names}{more}Content-Length: {len(content)}\r\n\r\n".encode() + content


class Client(asyncio.Protocol):
    """One connection, one call at a time. ``done(client, now)`` is called with the moment of the answer's last byte."""

    transport: asyncio.Transport

    def __init__(self, done: Callable[[Client, int], None], end: asyncio.Future[None]) -> None:
        self.done, self.end = done, end
        self.due = 0  # when its call should have been sent
        self.left = 0  # of a stream: how many more times
        self.events = 0
        self.stamps: list[int] | None = None
        self._busy = False
        self._first = True
        self._kept = b""
        self._missing = 0

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        if self._busy:
            self._fail("closed within a call")

    def ask(self, data: bytes) -> None:
        self._busy = self._first = True
        self.transport.write(data)

    def data_received(self, data):
        now = time.monotonic_ns()
        if self.stamps is not None:
            self._stamped(data, now)
        elif self._missing:
            self._missing -= len(data)
            if self._missing <= 0:
                self._finish(now)
        else:
            self._begun(self._kept + data if self._kept else data, now)

    def _begun(self, data: bytes, now: int) -> None:
        """A plain answer, up to where its length is known; one without a length ends with the last chunk."""
        self._kept = data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        if not data.startswith(b"HTTP/1.1 200"):
            self._fail(data[:300].decode(errors="replace"))
            return
        head = data[:end].lower()
        at = head.find(b"content-length:")
        if at < 0:
            missing = 0 if data.endswith(END) else -1
        else:
            missing = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0]) - len(data)
        if missing >= 0:
            self._kept, self._missing = b"", missing
        if not missing:
            self._finish(now)

    def _stamped(self, data: bytes, now: int) -> None:
        """A piece of a stream: the provider's stamp of each event against this clock. What a read cut in two is kept; a stamp whose
        name is cut by the size of a chunk is missed.
        """
        data, after = self._kept + data, 0
        if self._first:
            head = data.find(b"\r\n\r\n")
            if head < 0:
                self._kept = data
                return
            if not data.startswith(b"HTTP/1.1 200"):
                self._fail(data[:300].decode(errors="replace"))
                return
            self._first, data = False, data[head + 4 :]  # a head's last digit may be a 0 and look like the last chunk
        at = data.find(SENT)
        while at >= 0 and (end := data.find(b'"', at + len(SENT))) >= 0:
            # nginx makes chunks of its buffers: a size may stand within
            digits = data[at + len(SENT) : end].split(b"\r\n")
            self.stamps.append(now - int(digits[0] + digits[-1] if len(digits) > 1 else digits[0]))
            self.events += 1
            after, at = end, data.find(SENT, end)
        if data.endswith(END):
            self._kept = b""
            self._finish(now)
        else:
            self._kept = data[at if at >= 0 else max(after, len(data) - 16) :]

    def _finish(self, now: int) -> None:
        self._busy = False
        self.done(self, now)

    def _fail(self, why: str) -> None:
        if not self.end.done():
            self.end.set_exception(ConnectionError(why))


async def connect(
    port: int, count: int, done: Callable[[Client, int], None], end: asyncio.Future[None]
) -> list[Client]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(lambda: Client(done, end), "127.0.0.1", port))[1] for _ in range(count)]


def shares(values: list[int]) -> dict[str, float]:
    """Percentiles of nanoseconds, in microseconds."""
    ordered = sorted(values)
    parts = (("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999))
    return {name: ordered[min(len(ordered) - 1, int(len(ordered) * part))] / 1000 for name, part in parts}


async def saturate(port: int, path: str, connections: int = 32, seconds: float = 3, kb: int = 1) -> dict[str, float]:
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    data, count, waiting = request(path, kb), 0, connections
    stop = time.monotonic_ns() + int(seconds * 1e9)

    def done(client: Client, now: int) -> None:
        nonlocal count, waiting
        count += 1
        if now < stop:
            client.ask(data)
            return
        waiting -= 1
        if not waiting:
            end.set_result(None)

    clients = await connect(port, connections, done, end)
    began = time.monotonic_ns()
    stop = began + int(seconds * 1e9)
    for client in clients:
        client.ask(data)
    await end
    return {"requests": count, "per_second": count / (time.monotonic_ns() - began) * 1e9}


async def rate(
    port: int, path: str, per_second: int = 1000, seconds: float = 5, connections: int = 128, kb: int = 1
) -> dict[str, float]:
    """``late_p99_us`` is how late this process was itself: it is in the figures, of all systems alike."""
    loop = asyncio.get_running_loop()
    end: asyncio.Future[None] = loop.create_future()
    data, total, gap = request(path, kb), int(per_second * seconds), 1_000_000_000 // per_second
    waiting: deque[int] = deque()
    taken: list[int] = []
    late: list[int] = []
    begun = 0

    def send(client: Client, due: int) -> None:
        client.due = due
        client.ask(data)

    def done(client: Client, now: int) -> None:
        taken.append(now - client.due)
        if waiting:
            send(client, waiting.popleft())
        else:
            free.append(client)
        if len(taken) == total:
            end.set_result(None)

    def tick() -> None:
        nonlocal begun
        now = time.monotonic_ns()
        while begun < total and (due := start + begun * gap) <= now:
            late.append(now - due)
            begun += 1
            if free:
                send(free.pop(), due)
            else:
                waiting.append(due)
            now = time.monotonic_ns()
        if begun < total:
            loop.call_later((start + begun * gap - now) / 1e9, tick)

    free = await connect(port, connections, done, end)
    start = time.monotonic_ns() + 50_000_000
    tick()
    await end
    for client in free:
        client.transport.close()
    return {"requests": total, **shares(taken), "late_p99_us": shares(late)["p99_us"]}


async def streams(
    port: int, path: str, concurrent: int = 100, rounds: int = 1, events: int = 50, pace_ms: int = 10
) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    end: asyncio.Future[None] = loop.create_future()
    data, stamps, running = request(path, 1, f"events={events};pace_ms={pace_ms}"), [], concurrent

    def done(client: Client, now: int) -> None:
        nonlocal running
        client.left -= 1
        if client.left:
            client.ask(data)
            return
        running -= 1
        if not running:
            end.set_result(None)

    clients = await connect(port, concurrent, done, end)
    began = time.monotonic()
    for number, client in enumerate(clients):
        client.left, client.stamps = rounds, stamps
        loop.call_later(number * pace_ms / 1000 / concurrent, client.ask, data)
    await end
    took = time.monotonic() - began
    found = concurrent * rounds * events
    return {"events": found, "per_second": found / took, **shares(stamps)}


async def hold(port: int, path: str, count: int = 1000, pace_ms: int = 1000, seconds: float = 5) -> dict[str, float]:
    """Prints a line when all are open, and the delays of what came in the seconds after it; until then nothing is counted."""
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    data = request(path, 1, f"events=1000000;pace_ms={pace_ms}")
    clients = await connect(port, count, lambda client, now: None, end)
    stamps: list[int] = []
    for client in clients:  # evenly over one pace: events of all of them at once would measure a queue
        client.stamps = stamps
        client.ask(data)
        await asyncio.sleep(pace_ms / 1000 / count)
    while not all(client.events for client in clients):
        await asyncio.sleep(0.1)
        if end.done():
            end.result()
    await asyncio.sleep(1)
    print(json.dumps({"open": count}), flush=True)
    stamps.clear()
    await asyncio.sleep(seconds)
    return {"events": len(stamps), **shares(stamps)}


def precise_loop() -> asyncio.AbstractEventLoop:
    """select() waits by the microsecond where epoll, uvloop's too, waits by the millisecond; and the kernel is asked not to be late
    on purpose (its default for a process is 50 us).
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def quick_loop() -> asyncio.AbstractEventLoop:
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - not everybody has it

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def main() -> None:
    mode, port, path, *given = sys.argv[1:]
    run = {"saturate": saturate, "rate": rate, "streams": streams, "open": hold}[mode]
    numbers = {
        name: float(value) if "." in value else int(value) for name, value in (each.split("=") for each in given)
    }
    gc.disable()  # nothing here is a cycle, and a collection would look like a late answer
    with asyncio.Runner(loop_factory=precise_loop if mode == "rate" else quick_loop) as runner:
        print(json.dumps(runner.run(run(int(port), path, **numbers))), flush=True)


if __name__ == "__main__":
    main()
