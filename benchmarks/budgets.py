"""Measures what exact budgets and limits cost, and that they are exact: reserve and settle on SQLite and Redis, one to four processes.

    python benchmarks/budgets.py            # needs redis-server on the PATH for the half about Redis

Three questions. What does a pair of reserve and settle cost, in CPU of this process and of the server? How long does a call wait
for its admission at a steady thousand a second (open loop: a late answer counts from the moment it should have been asked for)?
How many pairs a second do one, two and four processes book on one set of books, and by how much is a strict limit passed (it must
be 0)? From the CPU of the Redis server for a pair follows the ceiling of one primary.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402

from gateway.accounts import PLACES, REQUESTS, TOKENS, Account, Claim, Hold, Use  # noqa: E402
from gateway.store import Settlement, Spend  # noqa: E402
from gateway.store.journal import Journal  # noqa: E402
from gateway.store.redis import RedisStore  # noqa: E402
from gateway.store.redis_link import Link  # noqa: E402
from gateway.store.redis_script import Times  # noqa: E402
from gateway.store.sqlite import SqliteStore  # noqa: E402

NANO = 10**9
SCOPES = ("user:ann", "team:search", "team:search+model:gpt-5", "agent:planner", "global")
"""Five budgets that each call meets."""
LIMITS = tuple(
    Use("team:search", unit, 900 if unit == TOKENS else 1, 10**9, "team:*") for unit in (REQUESTS, TOKENS, PLACES)
)
"""What it uses beside them, where limits are measured: one of each unit."""
RECORD = {"call_id": "", "correlation_id": "", "team": "search", "model_requested": "gpt-5", "padding": "x" * 700}
RATE, SECONDS = 1000, 5
PAIRS = 4000
RESULTS = ROOT / "benchmarks" / "results" / "budgets.json"


def claims(limit: int) -> list[Claim]:
    """What one call asks for."""
    return [
        Claim(Account(scope, "month:2026-11"), NANO // 100, limit, scope, "month", 4_000_000_000) for scope in SCOPES
    ]


def settlement(call_id: str, asked: list[Claim], uses: tuple[Use, ...] = ()) -> Settlement:
    """What it cost, with a record of the usual size."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    text = orjson.dumps(RECORD | {"call_id": call_id, "correlation_id": call_id})
    spend = Spend(at[:13], '{"team":"search","model":"gpt-5"}', (1, 0, 0, 900, 0, 120, NANO // 100))
    accounts = tuple(claim.account for claim in asked)
    return Settlement(call_id, NANO // 100, "completed", accounts, text, at, tuple(asked), spend, uses, 1020)


def make(kind: str, folder: str, owner: str) -> Any:
    """A store on the books in this folder; those of Redis are on the server whose address stands there."""
    if kind == "sqlite":
        return SqliteStore(f"{folder}/books.db", lease_s=60, durability="normal", retention_s=1e9, owner=owner)
    url = (Path(folder) / "url").read_text()
    journal = Journal(Path(folder) / "journal", sync=False)
    return RedisStore(Link(url, 5), prefix="bench", lease_s=60, times=Times(1e9), owner=owner, journal=journal)


async def pair(store: Any, call_id: str, asked: list[Claim], uses: tuple[Use, ...]) -> bool:
    """One call; whether it was let through."""
    if not isinstance(await store.reserve(call_id, asked, uses=uses), Hold):
        return False
    await store.settle(settlement(call_id, asked, uses))
    return True


async def book(store: Any, name: str, pairs: int, at_once: int, limit: int, uses: tuple[Use, ...] = ()) -> int:
    """So many pairs; how many were let through."""
    asked, numbers, granted = claims(limit), iter(range(pairs)), 0

    async def worker() -> None:
        nonlocal granted
        for number in numbers:
            if await pair(store, f"{name}-{number}", asked, uses):
                granted += 1

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return granted


async def steady(store: Any) -> list[float]:
    """Milliseconds until admission, at a steady rate."""
    asked, waits, running = claims(9_000_000 * NANO), [], set()
    start = time.perf_counter()

    async def call(number: int, due: float) -> None:
        await store.reserve(f"steady-{number}", asked)
        waits.append((time.perf_counter() - due) * 1000)
        await store.settle(settlement(f"steady-{number}", asked))

    for number in range(RATE * SECONDS):
        due = start + number / RATE
        while (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        task = asyncio.create_task(call(number, due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return sorted(waits)


async def costs(kind: str, folder: str, server: int) -> dict[str, float]:
    """Of one process: CPU for a pair alone and in a crowd, the wait for admission at a steady rate."""
    store = make(kind, folder, "alone")
    await store.open()
    await book(store, "warm", 300, 10, 9_000_000 * NANO)
    found: dict[str, float] = {}
    for name, at_once, uses in (("alone", 1, ()), ("crowd", 50, ()), ("limited", 50, LIMITS)):
        gc.collect()
        own, theirs, wall = time.process_time(), cpu_of(server), time.perf_counter()
        await book(store, name, PAIRS, at_once, 9_000_000 * NANO, uses)
        found[f"{name}_cpu_us"] = (time.process_time() - own) / PAIRS * 1e6
        found[f"{name}_pairs_per_s"] = PAIRS / (time.perf_counter() - wall)
        if server:
            found[f"{name}_server_us"] = (cpu_of(server) - theirs) / PAIRS * 1e6
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # as in the gateway
    waits = await steady(store)
    found |= {"admission_p50_ms": waits[len(waits) // 2], "admission_p99_ms": waits[int(len(waits) * 0.99)]}
    await store.close()
    return found


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def replicas(kind: str, folder: str, count: int, server: int) -> dict[str, float]:
    """So many processes against a strict limit of half of what they ask for."""
    limit = PAIRS // 2 * NANO // 100
    theirs, wall = cpu_of(server), time.perf_counter()
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "worker", kind, folder, str(number), str(PAIRS // count), str(limit)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    told = [json.loads(process.communicate()[0]) for process in started]
    took = max(each["ended"] for each in told) - min(each["began"] for each in told)
    granted = sum(each["granted"] for each in told)
    found = {"processes": count, "calls_per_s": PAIRS / took, "granted": granted, "over": max(0, granted - PAIRS // 2)}
    if server:
        found["server_share"] = (cpu_of(server) - theirs) / (time.perf_counter() - wall)
    return found


async def work(kind: str, folder: str, name: str, pairs: int, limit: int) -> None:
    """One of several processes."""
    store = make(kind, folder, f"replica-{name}")
    await store.open()
    began = time.time()
    granted = await book(store, f"{limit}-{name}-{os.getpid()}", pairs, 50, limit)
    ended = time.time()
    await store.close()
    print(json.dumps({"granted": granted, "began": began, "ended": ended}))


def main() -> None:
    if sys.argv[1:2] == ["worker"]:
        _, _, kind, folder, name, pairs, limit = sys.argv
        asyncio.run(work(kind, folder, name, int(pairs), int(limit)))
        return
    results: dict[str, Any] = {}
    for kind in ("sqlite", "redis"):
        if kind == "redis" and shutil.which("redis-server") is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            server = serve(folder) if kind == "redis" else None
            pid = server.pid if server is not None else 0
            try:
                results[kind] = asyncio.run(costs(kind, folder, pid))
                results[kind]["replicas"] = []
                for count in (1, 2, 4):
                    fresh = Path(folder) / f"with-{count}"
                    fresh.mkdir()
                    if server is not None:
                        (fresh / "url").write_text((Path(folder) / "url").read_text())
                        say(folder, "FLUSHALL")
                    results[kind]["replicas"].append(replicas(kind, str(fresh), count, pid))
            finally:
                if server is not None:
                    server.kill()
                    server.wait()
        print(kind, json.dumps(results[kind], indent=1))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def serve(folder: str) -> subprocess.Popen[bytes]:
    """A Redis on a socket in this folder."""
    path = f"{folder}/redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", folder]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not Path(path).exists():
        time.sleep(0.01)
    (Path(folder) / "url").write_text(f"unix://{path}")
    return server


def say(folder: str, word: str) -> None:
    """One command without arguments."""
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(f"{folder}/redis.sock")
        plain.sendall(f"{word}\r\n".encode())
        plain.recv(100)


if __name__ == "__main__":
    main()
