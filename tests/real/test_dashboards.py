"""Every question of every dashboard, asked of a real Prometheus that has scraped a real gateway: none fails, each has an answer."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from gateway.simulator import Simulator
from tests.harness.dashboards import NOT_YET_DECLARED, Query, annotations, queries, variables
from tests.harness.gateways import GatewayProcess, config_for, free_port, write

pytestmark = [
    pytest.mark.real,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed"),
]

UNMOVED = {"tollgate_sink_errors_total", "llm_cost_corrections_usd_total", "tollgate_telemetry_dropped_total"}
"""Nothing that an app or a provider does moves these."""

MACROS = {"__rate_interval": "6s", "__interval": "2s", "__range": "120s"}
STEP = 1
TINY = "0.000001"
BUDGETS = [
    {"scope": "global", "limit_usd": 50, "window": "day", "name": "all"},
    {"scope": "team:poor", "limit_usd": TINY, "window": "total", "name": "poor"},
    {
        "scope": "team:soft",
        "limit_usd": "0.00002",
        "window": "total",
        "mode": "soft",
        "name": "soft",
        "notify_at": [50],
    },
    {"scope": "team:watched", "limit_usd": TINY, "window": "day", "mode": "shadow", "name": "watched"},
]
TARGETS = [
    {"name": "planning", "match": {"agent": "planner"}, "latency_ms": 5000, "objective": 0.9},
    {"name": "writing", "match": {"agent": "writer"}, "latency_ms": 100, "objective": 0.5},
]
CALLS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("/v1/chat/completions", {"model": "gpt-4o-mini"}, {"team": "search", "agent": "planner", "wish": "cached=3"}),
    ("/v1/chat/completions", {"model": "gpt-4o", "stream": True}, {"team": "search", "agent": "writer", "wish": "pace=0.05"}),
    ("/v1/chat/completions", {"model": "gpt-4o", "stream": True, "stream_options": {"include_usage": True}},
     {"team": "ads", "agent": "writer", "wish": "words=30;pace=0.02"}),
    ("/anthropic/v1/messages", {"model": "claude-haiku-4-5", "max_tokens": 40}, {"team": "ads", "agent": "planner", "wish": "cached=2"}),
    ("/v1/chat/completions", {"model": "ours-13b"}, {"team": "search", "agent": "tuner", "wish": ""}),
    ("/v1/chat/completions", {"model": "gpt-4o-mini"}, {"team": "search", "agent": "planner", "wish": "status=500"}),
    ("/v1/chat/completions", {"model": "gpt-4o-mini"}, {"team": "ads", "agent": "planner", "wish": "status=429"}),
    ("/v1/chat/completions", {"model": "gpt-4o-mini"}, {"team": "poor", "agent": "planner", "wish": ""}),
    ("/v1/chat/completions", {"model": "gpt-4o-mini"}, {"team": "soft", "agent": "planner", "wish": ""}),
    ("/v1/chat/completions", {"model": "gpt-4o-mini"}, {"team": "watched", "agent": "planner", "wish": ""}),
    ("/v1/chat/completions", {"model": "gpt-4o-mini", "stream": True}, {"team": "search", "agent": "writer", "wish": "cut=3"}),
]  # fmt: skip
"""One of each kind: plain, streamed, cached, of another provider, without a price, failed, refused, cut."""


class Prometheus:
    """A server that scrapes these addresses every second, with one alert that always fires."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        self._folder = folder
        self._port = free_port()
        self._session = aiohttp.ClientSession()
        self._process: asyncio.subprocess.Process
        always = {"alert": "TollgateAlways", "expr": "vector(1)", "labels": {"severity": "info"}}
        (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": [always]}]}))
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(folder / "rules.yml")],
            "scrape_configs": [{"job_name": "tollgate", "static_configs": [{"targets": targets}]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    async def start(self) -> None:
        """Until it is ready."""
        options = {
            "config.file": self._folder / "prometheus.yml",
            "storage.tsdb.path": self._folder / "tsdb",
            "web.listen-address": f"127.0.0.1:{self._port}",
            "enable-feature": "exemplar-storage",
        }
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                "prometheus", *(f"--{name}={value}" for name, value in options.items()), stdout=log, stderr=log
            )
        async with asyncio.timeout(30):
            while True:
                try:
                    async with self._session.get(f"http://127.0.0.1:{self._port}/-/ready") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    assert self._process.returncode is None, (self._folder / "prometheus.log").read_text()[-2000:]
                await asyncio.sleep(0.05)

    async def ask(self, path: str, **parameters: Any) -> Any:
        """What its API answers; a failure says the question."""
        async with self._session.get(f"http://127.0.0.1:{self._port}/api/v1/{path}", params=parameters) as answer:
            told = await answer.json()
        assert told["status"] == "success", f"{parameters}: {told.get('error')}"
        return told["data"]

    async def stop(self) -> None:
        """End it."""
        await self._session.close()
        self._process.terminate()
        await self._process.wait()


class Surroundings:
    """What stands around the gateway: a replica that is replaced by one of another version, which is what a deployment looks
    like to Prometheus, and somebody who takes every message and every span.
    """

    version = "0.0.1"

    async def metrics(self, request: web.Request) -> web.Response:
        """The replica's exposition."""
        return web.Response(text=f'tollgate_build_info{{version="{self.version}"}} 1\n')

    async def take(self, request: web.Request) -> web.Response:
        """Anything."""
        await request.read()
        return web.Response()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Their address."""
        app = web.Application()
        app.router.add_get("/metrics", self.metrics)
        app.router.add_post("/{any:.*}", self.take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def drive(gateway: GatewayProcess) -> None:
    """One call of each kind, at once."""
    front = f"http://127.0.0.1:{gateway.front_port}"
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(_call(session, front + path, body, who) for path, body, who in CALLS))


async def _call(session: aiohttp.ClientSession, url: str, body: Mapping[str, Any], who: Mapping[str, str]) -> None:
    headers = {f"x-tollgate-{name}": who[name] for name in ("team", "agent")} | {"x-simulate": who["wish"]}
    said = {"messages": [{"role": "user", "content": "What is the weather like in Oslo?"}]}
    try:
        async with session.post(url, json={**said, **body}, headers=headers) as answer:
            await answer.read()
    except aiohttp.ClientError:
        assert who["wish"].startswith("cut"), url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prometheus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """One that has seen fifteen seconds of traffic, a change of the config and a deployment."""
    folder = tmp_path_factory.mktemp("dashboards")
    around = Surroundings()
    async with Simulator() as provider, around.serving() as address:
        telling = {
            "targets": TARGETS,
            "alerts": {"webhooks": [{"url": f"http://{address}/hook", "kind": "generic"}]},
            "observability": {"tracing": {"enabled": True, "endpoint": f"http://{address}/v1/traces"}},
        }
        config = config_for(folder, provider.url, budgets=BUDGETS, metering={"compare_every": 1}, **telling)
        gateway = GatewayProcess(folder, config)
        await gateway.start()
        server = Prometheus(folder, [gateway.admin_url.removeprefix("http://"), address])
        try:
            await server.start()
            await _scraped(server, gateway)
            await drive(gateway)
            await _lasted(server, gateway, 6)
            around.version = "0.0.2"
            await _annotate(gateway)
            ports = {"front": {"port": gateway.front_port}, "admin": {"port": gateway.admin_port}}
            write(
                folder, config | ports | {"budgets": [*BUDGETS, {"scope": "user:*", "limit_usd": 9, "window": "day"}]}
            )
            await _lasted(server, gateway, 8)
            yield server
        finally:
            await server.stop()
            await gateway.kill()


async def _annotate(gateway: GatewayProcess) -> None:
    """As a pipeline says that it has deployed something."""
    async with aiohttp.ClientSession() as session:
        said = {"text": "0.0.2 is out", "tags": ["deploy"]}
        async with session.post(f"{gateway.admin_url}/api/v1/annotations", json=said) as answer:
            assert answer.status == 201


async def _scraped(server: Prometheus, gateway: GatewayProcess) -> None:
    """Until the gateway was seen before its first call, so that what follows is a rise."""
    async with asyncio.timeout(20):
        while not (await server.ask("query", query="count_over_time(tollgate_store_up[1m]) >= 3"))["result"]:
            await asyncio.sleep(0.1)


async def _lasted(server: Prometheus, gateway: GatewayProcess, scrapes: int) -> None:
    """Traffic for so many more scrapes."""
    before = await _scrapes(server)
    async with asyncio.timeout(60):
        while await _scrapes(server) < before + scrapes:
            await drive(gateway)


async def _scrapes(server: Prometheus) -> float:
    found = await server.ask("query", query="count_over_time(tollgate_store_up[10m])")
    return float(found["result"][0]["value"][1])


def _may_be_empty(query: Query) -> bool:
    return bool(query.metrics & {*NOT_YET_DECLARED, *UNMOVED})


def _numbers(series: list[dict[str, Any]]) -> list[float]:
    found = [pair[1] for each in series for pair in each.get("values", [each.get("value")])]
    return [float(text) for text in found if text != "NaN"]


async def _answer(server: Prometheus, query: Query) -> list[dict[str, Any]]:
    now = time.time()
    if query.instant:
        found = await server.ask("query", query=query.filled(MACROS), time=now)
    else:
        found = await server.ask("query_range", query=query.filled(MACROS), start=now - 60, end=now, step=STEP)
    return list(found["result"])


@pytest.mark.parametrize("query", list(queries()), ids=lambda query: query.where)
async def test_a_panel_has_an_answer(prometheus: Prometheus, query: Query) -> None:
    """Prometheus understands the question and, unless what it asks for is not built yet, knows a number."""
    numbers = _numbers(await _answer(prometheus, query))
    assert numbers or _may_be_empty(query), query.filled(MACROS)


@pytest.mark.parametrize("mark", list(annotations()), ids=lambda mark: mark.where)
async def test_an_annotation_marks_something(prometheus: Prometheus, mark: Query) -> None:
    """And not everything: what happened once is marked for one step of the graph."""
    series = await _answer(prometheus, mark)
    numbers = _numbers(series)
    assert numbers
    if mark.where != "Alerts":
        assert len(numbers) <= 4 * len(series)


@pytest.mark.parametrize("choice", list(variables()), ids=lambda choice: choice[0])
async def test_a_variable_offers_something(prometheus: Prometheus, choice: tuple[str, str, str]) -> None:
    """The names of those who called."""
    _, series, label = choice
    asked = Query("", series)
    values = await prometheus.ask(f"label/{label}/values", **{"match[]": asked.filled(MACROS)})
    assert values or asked.metrics & set(NOT_YET_DECLARED)


async def test_choosing_narrows(prometheus: Prometheus) -> None:
    """A variable's value, several of them, and all of them."""
    total = next(query for query in queries() if query.where == "overview: Total requests: A")
    counts = []
    for team in (".*", "(search|ads)", "ads"):
        numbers = _numbers((await prometheus.ask("query", query=total.filled(MACROS | {"team": team})))["result"])
        counts += numbers
    assert counts[0] > counts[1] > counts[2] > 0


async def test_what_was_found_is_what_happened(prometheus: Prometheus) -> None:
    """Shares are shares, and a rare event that began its series is seen."""
    found = {query.where: _numbers(await _answer(prometheus, query)) for query in queries()}
    kept = found["overview: Cache hit rate: A"][0]
    assert 0 < kept < 1
    wrong, right = found["overview: Error rate: A"][0], found["overview: Success rate: A"][0]
    assert 0 < wrong < 1 - right < 1
    assert sum(found["budgets: Notices: A"]) >= 1
    assert min(found["budgets: Budgets: D"]) == 0
    assert found["internals: Replicas: A"] == [2]
    assert max(found["latency: Where the time goes: C"]) > 0


async def test_what_is_exposed_by_now_is_not_called_missing(prometheus: Prometheus) -> None:
    """The list of metrics that others are building empties itself."""
    names = {name.removesuffix("_bucket") for name in await prometheus.ask("label/__name__/values")}
    assert not names & set(NOT_YET_DECLARED), json.dumps(sorted(names & set(NOT_YET_DECLARED)))
