"""What the admin API costs with a full store: how fast each answer is, and what calls feel of it.

    python benchmarks/admin.py                 a million calls of ten thousand teams in SQLite: some four minutes
    python benchmarks/admin.py --redis         a tenth of that, in a Redis of its own
    python benchmarks/admin.py --keep FOLDER   the store is kept there, and found there the next time

The store is filled first: thirty days of calls, six models. Then the front is under a steady load, without anybody looking and with
three live pages open that ask for all they show, in turns; and each answer is asked for by itself. Exits with 1 over a bar.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from systems import AROUND, CORES, HERE, ROOT, System, free_port, load, pinned

sys.path.insert(0, str(ROOT))

from gateway.accounts import Account
from gateway.call import Record, as_json
from gateway.store import Settlement, Spend
from gateway.store.journal import Journal
from gateway.store.lost import lost_record, rfc3339
from gateway.store.page import Booked, Page
from gateway.store.redis import RedisStore
from gateway.store.redis_link import Link
from gateway.store.redis_script import Times
from gateway.store.rollups import USUAL, spend_of
from gateway.store.tables import connect, prepare, save

CONFIG = """
front: {{port: {port}}}
admin: {{port: {admin}}}
store: {store}
upstreams: {{openai: {{base_url: "http://127.0.0.1:{upstream}/v1"}}}}
budgets:
  - {{scope: global, limit_usd: 1000000, window: month}}
  - {{scope: "team:*", limit_usd: 50, window: month}}
  - {{scope: "team:*", limit_usd: 5, window: day}}
"""
MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-5", "claude-haiku-4-5", "claude-sonnet-4-5", "gemini-2.5-flash")
DAY_S, DAYS, HOURLY_DAYS, BATCH = 86_400, 30, 13, 5_000
BAR_MS = 50.0
"""Each answer, 99 of 100, beyond what the same machine takes at the same time for one that asks nobody (``IDLE``)."""
IDLE = "/health/ready"
BAR_FRONT, BAR_FRONT_MS = 1.25, 2.0
"""How much longer 99 of 100 calls may take while the pages are open: so many times, or so many milliseconds."""
ANSWERS = (
    "/api/v1/now", "/api/v1/overview?period=hour", "/api/v1/overview?period=day", "/api/v1/overview?period=week",
    "/api/v1/overview?period=month", "/api/v1/overview?period=month&search=team-00", "/api/v1/overview?period=month&by=model",
    "/api/v1/latency?window=1h", "/api/v1/budgets", "/api/v1/budgets?sort=name&limit=500", "/api/v1/budgets?search=team-004",
    "/api/v1/calls", "/api/v1/calls?limit=500", "/api/v1/calls?cursor={deep}", "/api/v1/calls/{call}", "/api/v1/requests/{request}",
    "/api/v1/spend", "/api/v1/spend?by=model&period=month", "/api/v1/spend?by=team,model", "/api/v1/targets", "/api/v1/upstreams",
    "/api/v1/config", "/system/llm-status", "/health/ready", "/metrics",
)  # fmt: skip
PAGE = (
    "/api/v1/overview?period=day", "/api/v1/overview?period=month", "/api/v1/calls?limit=100", "/api/v1/budgets?limit=50",
    "/api/v1/latency?window=5m", "/system/llm-status",
)  # fmt: skip
"""What a live page asks for every other second, beside the events."""


def calls(count: int, teams: int, now: float) -> Iterator[Record]:
    """So many finished calls, oldest first."""
    chance = random.Random(1)
    step = (DAYS - 0.01) * DAY_S / count
    blank = lost_record("", 0.0, 0, [], ())
    for number in range(count):
        at = now - (count - number) * step
        team = f"team-{min(chance.randrange(teams), chance.randrange(teams)):05d}"
        millis = int(at * 1000)
        call_id = f"{millis >> 16:08x}-{millis & 0xFFFF:04x}-7{number & 0xFFF:03x}-8000-{number:012x}"
        model = MODELS[chance.randrange(len(MODELS))]
        counts = {"input": chance.randrange(100, 4000), "cached_input": 64, "output": chance.randrange(10, 900)}
        yield replace(
            blank, call_id=call_id, correlation_id=f"r-{number // 3}", started_at=rfc3339(at), team=team, upstream="openai",
            provider="openai", protocol="openai", operation="chat", model_requested=model, model_served=model, status=200,
            attempts=1, error_type="", usage=counts, usage_source="provider" if number % 20 else "estimated", usage_method="usage",
            usage_raw={"prompt_tokens": counts["input"], "completion_tokens": counts["output"]}, held_nanousd=0,
            cost_nanousd=chance.randrange(1000, 9_000_000), latency_ms=812.5, ttft_ms=212.25, outcome="completed",
        )  # fmt: skip


def share(values: Sequence[float], part: float) -> float:
    """What so large a part of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0


def accounts_of(record: Record) -> tuple[Account, ...]:
    """Those of the budgets."""
    day = record.started_at[:10]
    team, month = f"team:{record.team}", f"month:{day[:7]}"
    return (Account(team, f"day:{day}"), Account(team, month), Account("global", month))


def fill_sqlite(file: Path, count: int, teams: int) -> None:
    """Into the tables, by the store's own statements; old sums by the day at once, so that nothing has to be condensed."""
    now = time.time()
    by_hour_from = rfc3339(now - HOURLY_DAYS * DAY_S)[:10]
    connection = connect(str(file), "normal", write=True)
    connection.execute("PRAGMA synchronous=OFF")
    prepare(connection)
    balances: dict[tuple[str, str], tuple[int, int]] = {}
    page = Page(now, "")
    for number, record in enumerate(calls(count, teams, now), 1):
        keys = tuple((each.scope, each.window) for each in accounts_of(record))
        page.move([(key, record.cost_nanousd, 0) for key in keys])
        spend = spend_of(record, USUAL)
        page.add(spend if spend.hour[:10] >= by_hour_from else Spend(spend.hour[:10], spend.dims, spend.counts))
        whole = as_json(replace(record, accounts=tuple(map(str, accounts_of(record)))))
        page.book(Booked(record.call_id, record.cost_nanousd, "completed", keys, record.started_at, whole))
        if number % BATCH == 0 or number == count:
            connection.execute("BEGIN")
            save(connection, page)
            connection.execute("COMMIT")
            balances.update(page.balances)
            page = Page(now, "", balances=balances)
            print(f"\r{number:,} calls", end="", file=sys.stderr, flush=True)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    print(file=sys.stderr)


async def fill_redis(url: str, folder: Path, count: int, teams: int) -> None:
    """Settlement by settlement, as a gateway does it."""
    journal = Journal(folder / "fill", sync=False)
    store = RedisStore(
        Link(url, 30.0), prefix="tollgate", lease_s=60.0, times=Times(31.0 * DAY_S), owner="fill", journal=journal
    )
    await store.open()
    some: list[Settlement] = []
    for number, record in enumerate(calls(count, teams, time.time()), 1):
        accounts = accounts_of(record)
        text = as_json(replace(record, accounts=tuple(map(str, accounts))))
        spend = spend_of(record, USUAL)
        some.append(
            Settlement(record.call_id, record.cost_nanousd, "completed", accounts, text, record.started_at, (), spend)
        )
        if len(some) == BATCH or number == count:
            await store.settle_all(some)
            some = []
            print(f"\r{number:,} calls", end="", file=sys.stderr, flush=True)
    await store.close()
    print(file=sys.stderr)


class Asker:
    """Asks the admin listener over one connection at a time."""

    def __init__(self, admin: int) -> None:
        self._url = f"http://127.0.0.1:{admin}"

    def ask(self, path: str) -> tuple[float, bytes]:
        """(milliseconds, the answer)."""
        began = time.perf_counter()
        with urllib.request.urlopen(self._url + path, timeout=120) as answer:
            body = answer.read()
        return (time.perf_counter() - began) * 1000, body

    def names(self) -> dict[str, str]:
        """Of calls that are there."""
        found = json.loads(self.ask("/api/v1/calls?limit=500")[1])["calls"]
        at = {"call": found[20]["call_id"], "request": found[20]["correlation_id"], "deep": ""}
        cursor = found[-1]["call_id"]
        for _ in range(4):
            cursor = json.loads(self.ask(f"/api/v1/calls?limit=500&before={cursor}")[1])["next"] or cursor
        return at | {"deep": cursor}


def measure(asker: Asker, rounds: int) -> dict[str, dict[str, float]]:
    """Each answer: the first time, then how long 50 and 99 of 100 took, all of them in turns."""
    names = asker.names()
    paths = [path.replace("cursor=", "before=").format(**names) for path in ANSWERS]
    found: dict[str, list[float]] = {path: [] for path in paths}
    first = {path: asker.ask(path)[0] for path in paths}
    for _ in range(rounds):
        for path in paths:
            taken, _ = asker.ask(path)
            found[path].append(taken)
        time.sleep(0.05)
    return {
        shown: {"first_ms": first[path], "p50_ms": share(found[path], 0.5), "p99_ms": share(found[path], 0.99)}
        for shown, path in zip(ANSWERS, paths, strict=True)
    }


@contextlib.contextmanager
def looking(admin: int, pages: int) -> Iterator[list[float]]:
    """So many live pages are open: each hears the events and asks in turns. Milliseconds of their answers."""
    stop, taken = threading.Event(), []

    def hear() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/api/v1/events", timeout=30) as events:
            while not stop.is_set():
                events.readline()

    def look() -> None:
        asker = Asker(admin)
        while not stop.is_set():
            for path in PAGE:
                taken.append(asker.ask(path)[0])
                if stop.wait(2.0 / len(PAGE)):
                    return

    threads = [threading.Thread(target=each, daemon=True) for each in (hear, look) for _ in range(pages)]
    for each in threads:
        each.start()
    try:
        yield taken
    finally:
        stop.set()
        for each in threads:
            each.join(5)


def front(port: int, per_second: int, seconds: int) -> dict[str, float]:
    """How long calls take under a steady load."""
    return load(System("front", [], port), "rate", per_second=per_second, seconds=seconds)


def measure_front(port: int, admin: int, seconds: int, rounds: int, per_second: int) -> tuple[list[float], list[float]]:
    """p99 without and with pages, in turns, and what the pages waited."""
    alone, watched, waited = [], [], []
    front(port, per_second, 2)
    with looking(admin, 3):
        time.sleep(4)
    for _ in range(rounds):
        alone.append(front(port, per_second, seconds)["p99_us"] / 1000)
        with looking(admin, 3) as taken:
            time.sleep(1)
            watched.append(front(port, per_second, seconds)["p99_us"] / 1000)
        waited += taken
    return [share(alone, 0.5), share(watched, 0.5)], waited


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis on a socket."""
    path = folder / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    server = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            time.sleep(0.02)
        yield f"unix://{path}"
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def serving(folder: Path, store: str) -> Iterator[tuple[System, int]]:
    """The gateway over that store, its provider beside it."""
    port, admin, upstream = free_port(), free_port(), free_port()
    provider = subprocess.Popen(pinned(AROUND, [sys.executable, str(HERE / "upstream.py"), str(upstream)]))
    file = folder / "tollgate.yaml"
    file.write_text(CONFIG.format(port=port, admin=admin, upstream=upstream, store=store))
    every_core = ["taskset", "-c", ",".join(map(str, CORES))]  # its threads must be able to leave the loop's core
    gateway = System("tollgate", [*every_core, sys.executable, "-m", "gateway", "serve", "--config", str(file)], port)
    try:
        gateway.start()
        yield gateway, admin
    finally:
        gateway.stop()
        provider.kill()
        provider.wait()


def report(found: dict[str, dict[str, float]], p99: Sequence[float], waited: Sequence[float], mb: float) -> bool:
    """Print the table. Whether all is under its bar."""
    print(f"{'':52}{'first ms':>10}{'p50 ms':>9}{'p99 ms':>9}")
    over, bar = [], BAR_MS + found[IDLE]["p99_ms"]
    for path, figures in found.items():
        mark = " over" if figures["p99_ms"] > bar else ""
        over += [path] if mark else []
        print(f"{path:52}{figures['first_ms']:10.1f}{figures['p50_ms']:9.1f}{figures['p99_ms']:9.1f}{mark}")
    print(f"pages beside the load: p50 {share(waited, 0.5):.1f} ms, p99 {share(waited, 0.99):.1f} ms")
    print(f"the front's p99: {p99[0]:.2f} ms, with three pages open {p99[1]:.2f} ms; {mb:.0f} MB")
    if p99[1] > max(BAR_FRONT * p99[0], p99[0] + BAR_FRONT_MS):
        over.append("the front")
    print("over the bar: " + ", ".join(over) if over else "all under the bar")
    return not over


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--redis", action="store_true")
    parser.add_argument("--calls", type=int, default=0)
    parser.add_argument("--teams", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--rate", type=int, default=150)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    count = options.calls or (100_000 if options.redis else 1_000_000)
    with contextlib.ExitStack() as open_things:
        folder = options.keep or Path(open_things.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        if options.redis:
            url = open_things.enter_context(redis(folder))
            asyncio.run(fill_redis(url, folder, count, options.teams))
            store = f'{{url: "{url}", journal: "{folder}/journal"}}'
        else:
            file = folder / "books.db"
            if not file.exists():
                fill_sqlite(file, count, options.teams)
            store = f'{{url: "sqlite:///{file}"}}'
        gateway, admin = open_things.enter_context(serving(folder, store))
        found = measure(Asker(admin), options.rounds)
        p99, waited = measure_front(gateway.port, admin, options.seconds, 3, options.rate)
        is_good = report(found, p99, waited, gateway.rss_kb() / 1024)
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
