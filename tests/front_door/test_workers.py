"""Several workers behind one port: together they are one gateway, in the books, in metrics, to operators and to those who are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio
import yaml

from gateway.observe.live import CALLS_A_SECOND
from tests.front_door.test_replicas import BUDGETS, CALL, DOLLAR, ROWS, settled, slowly
from tests.harness.books import CHAT, MINI, look, post
from tests.harness.gateways import GatewayProcess, config_for, records
from tests.harness.messages import CutOff, request, response
from tests.harness.raw_client import Answer, ask, connected
from tests.harness.scripted import ScriptedUpstream
from tests.harness.webhooks import Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = {"model": "gpt-4o-mini", "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}
ANSWER = response(200, ("Content-Type", "application/json"), body=json.dumps(BODY).encode())
COST = 210_000
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'10\r\ndata: {"a": 1}\n\n\r\n'
POST = post(CHAT, MINI)
BUDGET = {"scope": "global", "limit_usd": "100", "window": "total"}
Spawn = Callable[..., Awaitable[GatewayProcess]]


@pytest_asyncio.fixture(loop_scope="module")
async def team(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Spawn]:
    """Starts a gateway of several workers; nothing of it is left when the test is over."""
    processes: list[GatewayProcess] = []

    async def start(workers: int = 2, **blocks: Any) -> GatewayProcess:
        upstream.answer = upstream.answer or [ANSWER]
        process = GatewayProcess(tmp_path, config_for(tmp_path, upstream, workers=workers, **blocks))
        processes.append(process)
        await process.start()
        await until(lambda: all_up(process, workers))
        return process

    yield start
    for process in processes:
        pids = [each["pid"] for each in await rows(process)] if process.running else []
        await process.kill()
        await until(lambda pids=pids: gone(pids))


async def until(condition: Callable[[], Awaitable[bool]], limit_s: float = 30) -> None:
    async with asyncio.timeout(limit_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def status(gateway: GatewayProcess) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await look(gateway, "/system/llm-status"))
    return found


async def rows(gateway: GatewayProcess) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = (await status(gateway))["workers"]
    except (CutOff, ConnectionError):
        return []
    return found


async def all_up(gateway: GatewayProcess, count: int) -> bool:
    found = [each["worker"] for each in await rows(gateway) if each["state"] == "up"]
    return found == list(range(count))


async def pids_of(gateway: GatewayProcess) -> dict[int, int]:
    return {each["worker"]: each["pid"] for each in await rows(gateway) if each["state"] == "up"}


async def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def metric(gateway: GatewayProcess, name: str) -> float:
    """The sum of all series of a name; 0 of none."""
    text = (await look(gateway, "/metrics")).decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE))


async def counts(gateway: GatewayProcess, calls: int) -> bool:
    return await metric(gateway, "llm_requests_total") == calls


async def burst(gateway: GatewayProcess, calls: int, body: Any = MINI) -> list[Answer]:
    """All at once, on connections of their own."""
    return await asyncio.gather(*(ask(gateway.front_port, post(CHAT, body)) for _ in range(calls)))


class Load:
    """Clients that call without a pause until they are told to stop: on one connection for as long as it is kept, or each call on its
    own. ``failed`` are calls that got no whole answer of 200.
    """

    def __init__(self, port: int, clients: int, *, kept: bool) -> None:
        self._port = port
        self._kept = kept
        self.answered = 0
        self.failed: list[str] = []
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._call_on()) for _ in range(clients)]

    async def _call_on(self) -> None:
        while not self._stop.is_set():
            try:
                async with connected(self._port) as client:
                    while not self._stop.is_set():
                        answer = await client.ask(POST)
                        if answer.status != 200 or not answer.body.whole:
                            self.failed.append(f"{answer.status}")
                        self.answered += 1
                        if not self._kept or answer.head.value(b"connection") == b"close":
                            break
            except (CutOff, ConnectionError, OSError) as error:
                self.failed.append(repr(error))

    async def end(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)


async def test_calls_are_spread_over_all_and_counted_exactly(team: Spawn) -> None:
    """Four hundred calls on connections of their own: each worker serves some, and all sums are those of one gateway."""
    gateway = await team(4, budgets=[BUDGET])
    answers = await burst(gateway, 400)
    assert Counter(answer.status for answer in answers) == {200: 400}
    await until(lambda: counts(gateway, 400))
    assert await metric(gateway, "llm_request_duration_seconds_count") == 400
    assert await metric(gateway, "llm_tokens_total") == 400 * 1100
    assert await metric(gateway, "llm_cost_usd_total") == pytest.approx(400 * COST / 1e9, abs=1e-12)
    assert await metric(gateway, "tollgate_workers") == 4
    assert await metric(gateway, "tollgate_build_info") == 1
    assert (await settled(gateway, 400 * COST))["held_nanousd"] == 0
    found = await status(gateway)
    served = [each["calls_last_minute"] for each in found["workers"]]
    assert (sum(served), found["last_minute"]["calls"], found["active_requests"]) == (400, 400, 0)
    assert min(served) > 20, served
    assert len(await records(gateway.admin_url, 400)) == 400
    assert gateway.log.count('"serving on ') == gateway.log.count("serving on") == 1


@pytest.fixture
def store(either_store: Any) -> dict[str, Any]:
    """The block of the config."""
    block, _ = either_store
    return block | {"held_wait": 0}


async def test_a_dollar_is_a_hundred_cents_over_four_workers(
    upstream: ScriptedUpstream, team: Spawn, tmp_path: Path, store: dict[str, Any]
) -> None:
    """A strict dollar and three hundred calls of a cent at once: a hundred pass, whichever worker they come to."""
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump(ROWS))
    upstream.answer = slowly(Random(7))
    gateway = await team(4, budgets=BUDGETS, store=store, pricing={"overrides": str(tmp_path / "prices.yaml")})
    answers = await burst(gateway, 300, CALL)
    assert Counter(answer.status for answer in answers) == {200: 100, 429: 200}
    assert len(upstream.seen) == 100
    await settled(gateway, DOLLAR)
    await until(lambda: counts(gateway, 300))
    assert await metric(gateway, "llm_budget_rejections_total") == 200


async def test_a_killed_worker_hurts_nobody_elses_calls(upstream: ScriptedUpstream, team: Spawn) -> None:
    """kill -9 under load: another one takes its place, what it held is charged and marked lost, the books are right, no counter
    goes backwards, and only calls on its own connections end.
    """
    upstream.answer = lambda seen: [0.01, ANSWER]
    gateway = await team(2, budgets=[BUDGET], store={"lease": "2s"})
    before = await pids_of(gateway)
    seen: list[float] = []
    load = Load(gateway.front_port, 8, kept=True)
    await until(lambda: answered(load, 200))
    seen.append(await metric(gateway, "llm_requests_total"))
    os.kill(before[1], signal.SIGKILL)
    await until(lambda: replaced(gateway, before, [1]))
    seen.append(await metric(gateway, "llm_requests_total"))
    so_far = load.answered
    await until(lambda: answered(load, so_far + 200))
    await load.end()
    assert len(load.failed) <= 8, load.failed
    seen.append(await metric(gateway, "llm_requests_total"))
    assert seen == sorted(seen)
    assert "worker 1 (process" in gateway.log
    assert "died: signal 9 (SIGKILL); it is started again" in gateway.log
    found = await until_settled(gateway)
    lost = Counter(record["outcome"] for record in found)["lost"]
    assert 0 < lost < 40  # those on their way, and those that had ended in the last hundredths of a second
    assert sum(record["cost_nanousd"] for record in found) == (await budget(gateway))["spent_nanousd"]
    assert len(found) >= load.answered


async def answered(load: Load, count: int) -> bool:
    assert not load.failed or len(load.failed) <= 8, load.failed
    return load.answered >= count


async def replaced(gateway: GatewayProcess, before: dict[int, int], numbers: list[int]) -> bool:
    now = await pids_of(gateway)
    return all(now.get(number, before[number]) != before[number] for number in numbers)


async def budget(gateway: GatewayProcess) -> dict[str, Any]:
    [found] = json.loads(await look(gateway, "/api/v1/budgets"))["budgets"]
    return dict(found)


async def until_settled(gateway: GatewayProcess) -> list[dict[str, Any]]:
    """All records, once nothing is held any more."""

    async def is_quiet() -> bool:
        return not (await budget(gateway))["held_nanousd"] and not (await status(gateway))["queue_depth"]

    await until(is_quiet)
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = json.loads(await look(gateway, f"/api/v1/calls?limit=500{cursor}"))
        found += page["calls"]
        if not page["next"]:
            return found
        cursor = f"&before={page['next']}"


@pytest.mark.parametrize("kept", [True, False], ids=["kept connections", "a connection a call"])
async def test_workers_are_renewed_under_load_without_a_failed_call(
    upstream: ScriptedUpstream, team: Spawn, kept: bool
) -> None:
    """SIGUSR2, twice: other processes serve in the end, no call has noticed, and no count is lost or doubled."""
    upstream.answer = lambda seen: [0.005, ANSWER]
    gateway = await team(2)
    first = await pids_of(gateway)
    load = Load(gateway.front_port, 6, kept=kept)
    await until(lambda: answered(load, 50))
    counted = [await metric(gateway, "llm_requests_total")]
    for _ in range(2):
        before = await pids_of(gateway)
        gateway.signal(signal.SIGUSR2)
        await until(lambda before=before: replaced(gateway, before, [0, 1]))
        counted.append(await metric(gateway, "llm_requests_total"))
        await until(lambda before=before: gone(list(before.values())))
    so_far = load.answered
    await until(lambda: answered(load, so_far + 50))
    await load.end()
    assert load.failed == []
    assert counted == sorted(counted)
    await until(lambda: counts(gateway, load.answered))
    assert not set(first.values()) & set((await pids_of(gateway)).values())


async def test_the_first_worker_may_die_too(upstream: ScriptedUpstream, team: Spawn) -> None:
    """Who asks meanwhile waits and is answered by its successor; what was told of its counts is not taken back."""
    gateway = await team(2)
    await burst(gateway, 60)
    await until(lambda: counts(gateway, 60))
    for number in (1, 2):
        before = await pids_of(gateway)
        os.kill(before[0], signal.SIGKILL)
        assert await metric(gateway, "llm_requests_total") == 60 * number
        await until(lambda before=before: replaced(gateway, before, [0]))
        await burst(gateway, 60)
        await until(lambda number=number: counts(gateway, 60 * (number + 1)))
    assert await metric(gateway, "llm_request_duration_seconds_count") == 180
    assert gateway.log.count("died: signal 9 (SIGKILL); it is started again") == 2


async def test_a_renewal_that_cannot_go_on_leaves_all_as_they_are(
    upstream: ScriptedUpstream, team: Spawn, tmp_path: Path
) -> None:
    """A new worker that cannot start is no reason to lose an old one."""
    books = tmp_path / "books"
    books.mkdir()
    gateway = await team(2, store={"url": f"sqlite:///{books}/books.db", "on_outage": "open"})
    before = await pids_of(gateway)
    books.rename(tmp_path / "elsewhere")
    gateway.signal(signal.SIGUSR2)

    async def is_told() -> bool:
        return "the other workers are not renewed: a new one could not start" in gateway.log

    await until(is_told)
    assert await pids_of(gateway) == before
    (tmp_path / "elsewhere").rename(books)
    gateway.signal(signal.SIGUSR2)
    await until(lambda: replaced(gateway, before, [0, 1]))


async def test_told_to_stop_all_drain(upstream: ScriptedUpstream, team: Spawn) -> None:
    """Streams of both workers may finish, nobody new is let in, exit 0, and nothing is left: no process, no folder."""
    gate = asyncio.Event()
    upstream.answer = [CHUNKED, EVENT, gate, EVENT, b"0\r\n\r\n"]
    gateway = await team(2)
    pids = list((await pids_of(gateway)).values())
    folders = {folder for pid in pids for folder in private_folders(pid)}
    assert len(folders) == 1
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(gateway.front_port)) for _ in range(12)]
        for client in clients:
            await client.send(POST)
            await client.see(EVENT)
        assert {each["active_requests"] > 0 for each in await rows(gateway)} == {True}
        gateway.signal(signal.SIGTERM)
        await until(lambda: refuses(gateway.front_port))
        gate.set()
        for client in clients:
            assert (await client.incoming.rest()).endswith(EVENT + b"0\r\n\r\n")
    assert await gateway.ended() == 0
    assert await gone(pids)
    assert not any(folder.exists() for folder in folders)


def private_folders(pid: int) -> list[Path]:
    text = Path("/proc/net/unix").read_text()
    return [Path(found).parent for found in re.findall(rf"(/\S+/\d+-{pid}\.sock)", text)]


async def refuses(port: int) -> bool:
    try:
        async with connected(port):
            return False
    except ConnectionError:
        return True


async def test_told_to_stop_twice_none_waits(upstream: ScriptedUpstream, team: Spawn) -> None:
    """The second signal breaks off what runs, in every worker."""
    upstream.answer = [CHUNKED, EVENT, asyncio.Event()]
    gateway = await team(2)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(gateway.front_port)) for _ in range(8)]
        for client in clients:
            await client.send(POST)
            await client.see(EVENT)
        gateway.signal(signal.SIGTERM)
        await until(lambda: refuses(gateway.front_port))
        gateway.signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            for client in clients:
                await client.incoming.rest()
    assert await gateway.ended() == 0


async def test_a_group_that_is_told_to_stop_is_told_once(upstream: ScriptedUpstream, team: Spawn) -> None:
    """Ctrl-C and systemd reach every process of the group: that is one signal and not two."""
    gate = asyncio.Event()
    upstream.answer = [CHUNKED, EVENT, gate, b"0\r\n\r\n"]
    gateway = await team(2)
    pids = list((await pids_of(gateway)).values())
    async with connected(gateway.front_port) as client:
        await client.send(POST)
        await client.see(EVENT)
        for number in (signal.SIGINT, signal.SIGTERM):
            for pid in pids:
                os.kill(pid, number)
        gateway.signal(signal.SIGTERM)
        await until(lambda: refuses(gateway.front_port))
        await asyncio.sleep(0.2)
        gate.set()
        assert (await client.incoming.rest()).endswith(EVENT + b"0\r\n\r\n")
    assert await gateway.ended() == 0


async def test_all_follow_a_reload_and_none_a_faulty_file(
    upstream: ScriptedUpstream, team: Spawn, tmp_path: Path
) -> None:
    """Every worker serves by the new file, the log tells it once; a faulty one changes nothing, and a worker that is started
    then starts with what runs.
    """
    gateway = await team(3, observability={"health": {"every": "200ms"}})
    path = tmp_path / "tollgate.yaml"
    config = yaml.safe_load(path.read_text())
    config["front"]["response_headers"] = False
    path.write_text(yaml.safe_dump(config))
    gateway.signal(signal.SIGHUP)

    async def is_quiet() -> bool:
        return all(answer.head.value(b"x-tollgate-call-id") is None for answer in await burst(gateway, 30))

    await until(is_quiet)
    assert gateway.log.count("config reloaded: version") == 1
    path.write_text("front: {port: words}\n")
    gateway.signal(signal.SIGHUP)

    async def is_told() -> bool:
        return json.loads(await look(gateway, "/health/ready"))["checks"]["config"]["status"] == "warn"

    await until(is_told)
    assert gateway.log.count("config not reloaded") == 1
    before = await pids_of(gateway)
    os.kill(before[2], signal.SIGKILL)
    await until(lambda: replaced(gateway, before, [2]))
    assert await is_quiet()


async def test_a_supervisor_that_is_killed_leaves_nobody(upstream: ScriptedUpstream, team: Spawn) -> None:
    """Its workers notice, let running calls finish and end; the port is free and the folder gone."""
    gate = asyncio.Event()
    upstream.answer = [CHUNKED, EVENT, gate, b"0\r\n\r\n"]
    gateway = await team(2)
    pids = list((await pids_of(gateway)).values())
    [folder] = {folder for pid in pids for folder in private_folders(pid)}
    async with connected(gateway.front_port) as client:
        await client.send(POST)
        await client.see(EVENT)
        await gateway.kill()
        await until(lambda: refuses(gateway.front_port))
        gate.set()
        assert (await client.incoming.rest()).endswith(EVENT + b"0\r\n\r\n")
    await until(lambda: gone(pids))
    assert not folder.exists()


async def test_what_all_notice_is_told_once(upstream: ScriptedUpstream, team: Spawn) -> None:
    """An upstream that fails for every worker is one alert, and one end; so is a model without a price."""
    upstream.answer = [response(500, body=b"no")]
    async with Receiver() as receiver:
        hook = {"url": receiver.url, "kind": "generic"}
        gateway = await team(3, alerts={"webhooks": [hook]})
        await until(lambda: all_say(gateway, "failing"))
        upstream.answer = [ANSWER]
        await until(lambda: all_say(gateway, "up"))
        odd = json.dumps(BODY | {"model": "of-nobody"}).encode()
        upstream.answer = [response(200, ("Content-Type", "application/json"), body=odd)]
        await burst(gateway, 60, MINI | {"model": "of-nobody"})
        told = await receiver.until_some(lambda each: each.json["data"]["key"].startswith("pricing"))
        await until(lambda: counted_webhooks(gateway, 3))
        assert len(told) == 1
    found = [(each.json["data"]["key"], each.json["data"]["state"]) for each in receiver.received]
    assert sorted(found) == [
        ("pricing/openai/of-nobody", "told"),
        ("upstream/openai", "firing"),
        ("upstream/openai", "resolved"),
    ]
    assert gateway.log.count("upstream openai fails") == 1
    assert gateway.log.count("no price for model") == 1


async def all_say(gateway: GatewayProcess, state: str) -> bool:
    """Whether each worker has heard of the upstream often enough to say so; asks again until it has."""
    await burst(gateway, 40)
    text = (await look(gateway, "/metrics")).decode()
    told = re.search(r'^llm_upstream_up\{upstream="openai"\} (\S+)$', text, re.MULTILINE)
    shown = {each["name"]: each["state"] for each in (await status(gateway))["upstreams"]}
    return told is not None and float(told[1]) == (state == "up") and shown["openai"] == state


async def counted_webhooks(gateway: GatewayProcess, count: int) -> bool:
    return await metric(gateway, "tollgate_webhook_deliveries_total") == count


async def test_one_that_hangs_is_left_out_and_named(upstream: ScriptedUpstream, team: Spawn) -> None:
    """A stopped process: operators get their answers all the same, and hear who is missing; no count goes backwards."""
    gateway = await team(2)
    await burst(gateway, 40)
    await until(lambda: counts(gateway, 40))
    pids = await pids_of(gateway)
    os.kill(pids[1], signal.SIGSTOP)
    try:
        async with asyncio.timeout(10):
            ready = await ask(gateway.admin_port, request("GET", "/health/ready?verbose", host="localhost"))
            assert ready.status == 200
            assert b"[!]workers warn: 1 of 2 answer: worker 1 gives no answer" in ready.body.content
            assert [each["state"] for each in await rows(gateway)] == ["up", "silent"]
            assert await metric(gateway, "llm_requests_total") == 40
            assert await metric(gateway, "tollgate_workers") == 1
            await look(gateway, "/api/v1/now")
            await look(gateway, "/api/v1/latency")
    finally:
        os.kill(pids[1], signal.SIGCONT)
    await until(lambda: all_up(gateway, 2))


async def test_a_worker_that_dies_again_and_again_is_the_end(team: Spawn) -> None:
    """What cannot be kept alive is said and given up, with an exit status that a service manager understands."""
    gateway = await team(2)
    for _ in range(5):
        pid = (await pids_of(gateway)).get(1)
        if pid is None:
            break
        os.kill(pid, signal.SIGKILL)

        async def is_another(pid: int = pid) -> bool:
            return not gateway.running or (await pids_of(gateway)).get(1, pid) != pid

        await until(is_another)
    assert await gateway.ended() == 1
    assert "that was the 5th time in a row: giving up" in gateway.log


async def test_one_that_cannot_start_says_why_once(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """No workers by the dozen: the first one tells, and the command ends as it does with one process."""
    folder = tmp_path / "not-there"
    for block in ({"store": {"url": f"sqlite:///{folder}/x/books.db"}}, {}):
        gateway = GatewayProcess(tmp_path, config_for(tmp_path, upstream, workers=4, **block))
        with contextlib.ExitStack() as stack:
            if not block:
                taken = stack.enter_context(socket.socket())
                taken.bind(("127.0.0.1", gateway.front_port))
                taken.listen()
            with pytest.raises(RuntimeError, match="cannot start"):
                await gateway.start()
        assert gateway.log.count("cannot start") == 1
        (tmp_path / "log.jsonl").unlink()


async def test_a_call_of_any_worker_is_seen_while_it_runs(upstream: ScriptedUpstream, team: Spawn) -> None:
    """In flight, in the sums, and in the stream of events when it has ended."""
    gate = asyncio.Event()
    upstream.answer = lambda seen: [gate, ANSWER]
    gateway = await team(3)
    async with connected(gateway.admin_port) as page:
        await page.send(request("GET", "/api/v1/events", host="localhost"))
        await page.see(b"event: now")
        # so many that hardly a worker gets none of what the kernel spreads by chance, and no more than are told in a second
        calls = [asyncio.create_task(ask(gateway.front_port, POST)) for _ in range(CALLS_A_SECOND)]
        await until(lambda: in_flight(gateway, CALLS_A_SECOND))
        assert {each["active_requests"] > 0 for each in await rows(gateway)} == {True}
        await asyncio.sleep(1.5)  # the page's worker asks the others for their calls once a second
        gate.set()
        ids = {(await call).head.value(b"x-tollgate-call-id") for call in calls}
        async with asyncio.timeout(15):
            while not all(each in page.incoming.buffer for each in ids if each):
                await page.incoming.fill()
    assert len(ids) == CALLS_A_SECOND


async def in_flight(gateway: GatewayProcess, count: int) -> bool:
    return bool(json.loads(await look(gateway, "/api/v1/now"))["in_flight"] == count)


@pytest.mark.parametrize("kind", ["file", "pipe"])
async def test_lines_of_several_workers_stay_whole(
    upstream: ScriptedUpstream, team: Spawn, tmp_path: Path, kind: str
) -> None:
    """Long lines, of calls whose content is told, on one standard output: each is one call's. Through a pipe too, whose reader is
    slow at first.
    """
    read = b""
    if kind == "pipe":
        os.mkfifo(tmp_path / "log.jsonl")
        fifo = os.open(tmp_path / "log.jsonl", os.O_RDWR | os.O_NONBLOCK)
    gateway = GatewayProcess(
        tmp_path,
        config_for(tmp_path, upstream, workers=4, observability={"logging": {"content": True}}),
    )
    upstream.answer = [ANSWER]
    await gateway.start()
    try:
        await until(lambda: all_up(gateway, 4))
        long = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "word " * 3000}]}
        await burst(gateway, 120, long)
        await until(lambda: counts(gateway, 120))
        if kind == "pipe":
            async with asyncio.timeout(20):
                while read.count(b'"call_id"') < 120 or not read.endswith(b"\n"):
                    with contextlib.suppress(BlockingIOError):
                        read += os.read(fifo, 1 << 16)
                    await asyncio.sleep(0)
            os.close(fifo)
        else:
            read = (tmp_path / "log.jsonl").read_bytes()
    finally:
        await gateway.kill()
    told = [each for each in map(json.loads, read.splitlines()) if each["event"] == "call"]
    assert len({each["call_id"] for each in told}) == 120
    assert all("word word" in json.dumps(each["input_messages"]) for each in told)
