"""The load of the benchmarks, one process a measurement: ``python load.py MODE PORT PATH OPTIONS`` prints one JSON object.

``saturate`` keeps N connections busy, ``rate`` sends at a constant rate whatever comes back (open loop: a late answer counts
from the moment it should have been asked for), ``streams`` reads event streams and compares the stamps in their events
with its own clock, ``open`` holds streams open until standard input is closed.
"""

import asyncio
import json
import sys
import time

PROMPT = "hello " * 160
PLAIN = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": PROMPT}]}).encode()
STREAM = json.dumps(
    {
        "model": "gpt-4o-mini",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": PROMPT}],
    },
    separators=(",", ":"),
).encode()
END = b"0\r\n\r\n"


def request(path: str, body: bytes, more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nAuthorization: Bearer sk-bench\r\nx-tollgate-team: bench\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client(asyncio.Protocol):
    """One connection, one request at a time. ``done`` is called with the moment of the answer's last byte."""

    def __init__(self):
        self.buffer = b""
        self.wait = None
        self.stamps = None
        self.events = 0

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        if self.wait is not None and not self.wait.done():
            self.wait.set_exception(ConnectionError("closed"))

    def ask(self, data: bytes):
        self.wait = asyncio.get_running_loop().create_future()
        self.buffer = b""
        self.transport.write(data)
        return self.wait

    def data_received(self, data):
        now = time.monotonic_ns()
        if self.stamps is not None:
            at = data.find(b'"sent":')
            while at >= 0:
                end = data.find(b"}", at)
                self.stamps.append(now - int(data[at + 7 : end]))
                self.events += 1
                at = data.find(b'"sent":', end)
            self.buffer = self.buffer[-16:] + data
            if self.buffer.endswith(END):
                self.wait.set_result(now)
            return
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"content-length:")
        whole = (
            self.buffer.endswith(END)
            if at < 0
            else len(self.buffer) >= end + 4 + int(head[at + 15 :].split(b"\r\n")[0])
        )
        if whole and not self.wait.done():
            if not head.startswith(b"http/1.1 200"):
                self.wait.set_exception(ConnectionError(head[:200].decode()))
            else:
                self.wait.set_result(now)


async def connect(port: int) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    return client


def share(values: list[int], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] / 1000


async def saturate(port: int, path: str, connections: int, seconds: float) -> dict:
    data, count = request(path, PLAIN), 0
    stop = time.monotonic() + seconds

    async def work():
        nonlocal count
        client = await connect(port)
        while time.monotonic() < stop:
            await client.ask(data)
            count += 1

    began = time.monotonic()
    await asyncio.gather(*(work() for _ in range(connections)))
    return {"requests": count, "per_second": count / (time.monotonic() - began)}


async def rate(port: int, path: str, per_second: float, seconds: float) -> dict:
    data, free, taken = request(path, PLAIN), [await connect(port) for _ in range(64)], []

    async def one(due: int):
        client = free.pop() if free else await connect(port)
        taken.append(await client.ask(data) - due)
        free.append(client)

    tasks, start = [], time.monotonic_ns() + 50_000_000
    for number in range(int(per_second * seconds)):
        due = start + int(number * 1e9 / per_second)
        delay = (due - time.monotonic_ns()) / 1e9
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    return {"requests": len(taken), "p50_us": share(taken, 0.5), "p99_us": share(taken, 0.99)}


async def streams(port: int, path: str, concurrent: int, rounds: int, events: int, pace_ms: int) -> dict:
    data = request(path, STREAM, f"x-bench: events={events};pace_ms={pace_ms}\r\n")
    stamps: list[int] = []
    total = 0

    async def work(number: int):
        nonlocal total
        await asyncio.sleep(number * pace_ms / 1000 / concurrent)
        client = await connect(port)
        client.stamps = stamps
        for _ in range(rounds):
            await client.ask(data)
        total += client.events

    began = time.monotonic()
    await asyncio.gather(*(work(number) for number in range(concurrent)))
    took = time.monotonic() - began
    return {"events": total, "per_second": total / took, "p50_us": share(stamps, 0.5), "p99_us": share(stamps, 0.99)}


async def hold(port: int, path: str, count: int, pace_ms: int) -> dict:
    data = request(path, STREAM, f"x-bench: events=100000;pace_ms={pace_ms}\r\n")
    clients = []
    for _ in range(count):
        client = await connect(port)
        client.stamps = []
        client.ask(data)
        clients.append(client)
        if len(clients) % 50 == 0:
            await asyncio.sleep(0.02)
    while any(not client.events for client in clients):
        await asyncio.sleep(0.1)
    print(json.dumps({"open": len(clients)}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    return {}


def main() -> None:
    mode, port, path, *numbers = sys.argv[1:]
    run = {"saturate": saturate, "rate": rate, "streams": streams, "open": hold}[mode]
    result = asyncio.run(run(int(port), path, *(int(number) for number in numbers)))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
