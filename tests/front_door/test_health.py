"""Probes, the state at a glance and the access log, as a kubelet and an operator see them, with real stores that die and hang."""

from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway, running
from gateway.loading import load
from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, MINI, look, post
from tests.harness.gateways import config_for, free_port, write
from tests.harness.messages import request, response
from tests.harness.raw_client import Answer, ask, connected
from tests.harness.redis_servers import Server
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE_S = 20
CHECKS = {"store", "upstreams", "disk", "memory", "exporters", "config"}
PAID = response(
    200,
    ("Content-Type", "application/json"),
    body=json.dumps(
        {"model": "gpt-4o-mini", "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 10}}
    ).encode(),
)
COST = 1000 * 150 + 10 * 600


async def probe(gateway: Any, path: str = "/health/ready") -> Answer:
    return await ask(gateway.admin_port, request("GET", path, host="localhost"))


async def ready(gateway: Any) -> tuple[int, dict[str, Any]]:
    answer = await probe(gateway)
    return answer.status, json.loads(answer.body.content)


async def until_ready(gateway: Any, status: int) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while (found := await ready(gateway))[0] != status:
            await asyncio.sleep(0.05)
    return found[1]


async def until_check(gateway: Any, name: str, status: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while (found := (await ready(gateway))[1]["checks"][name])["status"] != status:
            await asyncio.sleep(0.05)
    return found


async def status_of(gateway: Any) -> dict[str, Any]:
    return json.loads(await look(gateway, "/system/llm-status"))


async def until_told(gateway: Any, calls: int) -> dict[str, Any]:
    """The state at a glance, as soon as so many calls are in the last minute."""
    async with asyncio.timeout(PATIENCE_S):
        while (found := await status_of(gateway))["last_minute"]["calls"] < calls:
            await asyncio.sleep(0.01)
    return found


async def metric(gateway: Any, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", (await look(gateway, "/metrics")).decode(), re.MULTILINE)
    assert found is not None, line
    return float(found[1])


# -- probes ----------------------------------------------------------------------------------------------------------------


async def test_a_store_that_dies_is_noticed_without_being_asked(serve: Serve, server: Server, tmp_path: Path) -> None:
    """Nothing but the probe runs: it says failed within a round, alive all the while, and ready again by itself."""
    gateway = await serve(store={"url": server.tcp_url, "timeout": "2s", "journal": str(tmp_path / "j")})
    status, told = await ready(gateway)
    assert (status, told["status"], told["checks"].keys()) == (200, "ready", CHECKS)
    server.kill()
    failed = await until_ready(gateway, 503)
    assert failed["status"] == "failed"
    assert {name for name, check in failed["checks"].items() if check["status"] == "failed"} == {"store"}
    assert (await probe(gateway, "/health/live")).status == 200
    assert await metric(gateway, 'tollgate_check_up{check="store"}') == 0
    assert await metric(gateway, 'tollgate_check_up{check="disk"}') == 1
    server.start()
    await until_ready(gateway, 200)
    assert await metric(gateway, 'tollgate_check_up{check="store"}') == 1


async def test_a_store_that_hangs_hangs_no_probe(serve: Serve, server: Server, tmp_path: Path) -> None:
    """Two hundred probes are answered while the store stands still with a time-out of its own of a minute; a scrape too."""
    gateway = await serve(store={"url": server.tcp_url, "timeout": "60s", "journal": str(tmp_path / "j")})
    server.freeze()
    scrape = asyncio.create_task(probe(gateway, "/metrics"))
    async with asyncio.timeout(PATIENCE_S), connected(gateway.admin_port) as client:
        for _ in range(200):
            answer = await client.ask(request("GET", "/health/ready", host="localhost"))
            assert answer.status in (200, 503)
        assert not scrape.done()
        assert b"\ntollgate_store_up 0.0" in (await scrape).body.content
    assert "no answer" in (await until_ready(gateway, 503))["checks"]["store"]["output"]
    assert (await status_of(gateway))["store"]["status"] == "failed"
    server.thaw()
    await until_ready(gateway, 200)


async def test_a_full_disk_makes_it_unfit_and_each_check_has_a_probe_of_its_own(serve: Serve) -> None:
    """As the probes of Kubernetes' own API server: one by name, lines for people, one left out."""
    gateway = await serve(observability={"health": {"disk_free_mb": 1 << 30}})
    status, told = await ready(gateway)
    disk = told["checks"]["disk"]
    assert (status, told["status"], disk["status"], disk["observedUnit"]) == (503, "failed", "failed", "MiB")
    assert disk["observedValue"] < 1 << 30
    says = f"{disk['observedValue']} MiB free, less than health.disk_free_mb ({1 << 30})"
    assert (disk["componentType"], disk["output"]) == ("system", says)
    assert (await status_of(gateway))["status"] == "failed", "whoever looks at a glance is not told that all is well"
    for path, expected in {
        "/health/ready/disk": 503,
        "/health/ready/store": 200,
        "/health/ready/nosuchzq": 404,
        "/health/ready?exclude=disk": 200,
        "/health/ready?exclude=store&exclude=disk": 200,
        "/health/ready?exclude=store": 503,
    }.items():
        answer = await probe(gateway, path)
        assert answer.status == expected, path
        assert b"nosuchzq" not in answer.body.content
        assert answer.head.value(b"content-type") == b"application/json"
    lines = await probe(gateway, "/health/ready?verbose")
    assert lines.status == 503
    assert (lines.head.value(b"content-type") or b"").startswith(b"text/plain")
    text = lines.body.content.decode().splitlines()
    assert {"[+]store ok", "[+]memory ok"} < set(text)
    assert [
        line for line in text if re.fullmatch(r"\[-\]disk failed: \d+ MiB free, less than health.disk_free_mb .*", line)
    ]
    assert text[-1] == "ready check failed"
    healthy = await probe(gateway, "/health/ready?verbose&exclude=disk")
    assert (healthy.status, healthy.body.content.splitlines()[-1]) == (200, b"ready check passed")


async def test_too_much_memory_makes_it_unfit(serve: Serve) -> None:
    """Of a bound that no Python can keep."""
    gateway = await serve(observability={"health": {"memory_mb": 1}})
    status, told = await ready(gateway)
    assert (status, told["checks"]["memory"]["status"]) == (503, "failed")


async def test_probes_need_no_token_and_nothing_else_is_open(serve: Serve) -> None:
    """Of one check as well; a path that only looks like it is not."""
    gateway = await serve(admin={"port": 0, "token": "t"})
    for path in ("/health/live", "/health/ready", "/health/ready/store", "/health/ready?verbose"):
        assert (await probe(gateway, path)).status == 200, path
    for path in (
        "/health/ready/store/x",
        "/health/ready/",
        "/health/ready/../../metrics",
        "/health/ready%2fx/y",
        "/metrics",
    ):
        assert (await probe(gateway, path)).status == 401, path


async def test_a_gateway_on_its_way_out_says_draining(upstream: ScriptedUpstream, serve: Serve) -> None:
    """While calls that run are brought to their end."""
    gateway = await serve(front={"shutdown_grace": "20s"})
    go_on = asyncio.Event()
    upstream.answer = [go_on, PAID]
    running_call = asyncio.create_task(ask(gateway.front_port, post(CHAT, MINI)))
    await upstream.request()
    stopping = asyncio.create_task(gateway.stop(20))
    told = await until_ready(gateway, 503)
    assert told["status"] == "draining"
    assert b"[-]shutdown failed" in (await probe(gateway, "/health/ready?verbose")).body.content
    assert (await status_of(gateway))["draining"] is True
    assert (await probe(gateway, "/health/live")).status == 200
    go_on.set()
    assert (await running_call).status == 200
    await stopping


async def test_a_reload_that_failed_is_a_warning(serve: Serve, tmp_path: Path) -> None:
    """Calls go on with the config before it; the check is well again with the next good one, whose time is told."""
    gateway = await serve()
    file = tmp_path / "tollgate.yaml"
    good = file.read_text()
    before = await status_of(gateway)
    file.write_text(good + "\nnonsense: 1\n")
    warned = await until_check(gateway, "config", "warn")
    assert warned["observedValue"][:2] == "20"
    assert (await ready(gateway))[0] == 200
    assert (await status_of(gateway))["config_loaded_at"] == before["config_loaded_at"]
    file.write_text(good.replace("upstreams:", "budgets: [{scope: global, limit_usd: 1}]\nupstreams:"))
    await until_check(gateway, "config", "ok")
    after = await status_of(gateway)
    assert after["config_loaded_at"] > before["config_loaded_at"]
    assert after["config_version"] != before["config_version"]


# -- upstreams -------------------------------------------------------------------------------------------------------------


async def say(gateway: Any, times: int = 1) -> list[int]:
    return [(await ask(gateway.front_port, post(CHAT, MINI))).status for _ in range(times)]


async def test_an_upstream_that_fails_is_told_everywhere_and_makes_unfit_where_that_is_wanted(
    upstream: ScriptedUpstream, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """API, status, metrics, an event, the probe; the first call that comes through ends it."""
    gateway = await serve(observability={"health": {"upstreams": True}})
    upstream.answer = [PAID]
    assert await say(gateway) == [200]
    found = {each["name"]: each for each in (await until_told(gateway, 1))["upstreams"]}
    assert {name: each["state"] for name, each in found.items()} == {
        "openai": "up", "up": "unknown", "anthropic": "unknown"
    }  # fmt: skip
    upstream.answer = [response(503, body=b"{}")]
    assert await say(gateway, 3) == [503] * 3
    await until_told(gateway, 4)
    listed = json.loads(await look(gateway, "/api/v1/upstreams"))["upstreams"]
    failing = next(each for each in listed if each["name"] == "openai")
    assert (failing["state"], failing["last_error"]["kind"]) == ("failing", "503")
    assert failing["last_error"]["at"].endswith("Z")
    assert (failing["last_minute"]["calls"], failing["last_minute"]["errors"]) == (4, {"503": 3})
    assert await metric(gateway, 'llm_upstream_up{upstream="openai"}') == 0
    for outcome, count in (("ok", 1), ("error", 3)):
        labels = f'{{outcome="{outcome}",upstream="openai"}}'
        assert await metric(gateway, f"llm_upstream_attempts_total{labels}") == count
    assert "1 of 1" in (await until_ready(gateway, 503))["checks"]["upstreams"]["output"]
    upstream.answer = [PAID]
    assert await say(gateway) == [200]
    await until_told(gateway, 5)
    assert await metric(gateway, 'llm_upstream_up{upstream="openai"}') == 1
    await until_ready(gateway, 200)
    told = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines() if "upstream openai" in line]
    assert [re.sub(":.*", "", each) for each in told] == ["upstream openai fails", "upstream openai answers again"]


async def test_attempts_are_counted_by_how_they_went(upstream: ScriptedUpstream, serve: Serve) -> None:
    """No connection, none in time, broken off, and a client that gave up waiting; a call that was refused is no attempt."""
    gateway = await serve(
        up={"first_byte_timeout": "300ms"}, budgets=[{"scope": "team:poor", "limit_usd": "0.000000001"}]
    )
    upstream.answer = [1.0, PAID]
    assert await say(gateway) == [504]
    upstream.answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx", asyncio.Event()]
    async with connected(gateway.front_port) as client:
        await client.send(post(CHAT, MINI))
        await client.head()
        upstream.wires[-1].reset()
        await client.incoming.rest()
    upstream.answer = [asyncio.Event()]
    async with connected(gateway.front_port) as client:
        await client.send(post(CHAT, MINI))
        await upstream.request(2)
        client.reset()
    refused = await ask(gateway.front_port, post(CHAT, MINI, "", ("X-Tollgate-Team", "poor")))
    assert refused.status == 429
    found = await until_told(gateway, 4)
    assert found["last_minute"]["errors"]["budget_exceeded"] == 1
    for outcome, count in (("timeout", 1), ("disconnected", 2)):
        labels = f'{{outcome="{outcome}",upstream="openai"}}'
        assert await metric(gateway, f"llm_upstream_attempts_total{labels}") == count


async def test_the_state_at_a_glance(upstream: ScriptedUpstream, serve: Serve) -> None:
    """What runs and for which models, the last minute with exact dollars, the store, the checks, what is in force."""
    gateway = await serve()
    upstream.answer = [PAID]
    assert await say(gateway, 3) == [200] * 3
    await until_told(gateway, 3)
    go_on = asyncio.Event()
    upstream.answer = [go_on, PAID]
    running_calls = [asyncio.create_task(ask(gateway.front_port, post(CHAT, MINI))) for _ in range(2)]
    await upstream.request(4)
    found = await status_of(gateway)
    assert (found["status"], found["draining"], found["active_requests"], found["queue_depth"]) == ("ok", False, 2, 0)
    assert found["active"] == [{"upstream": "openai", "model": "gpt-4o-mini", "calls": 2}]
    assert found["store"] == {"status": "ok", "owed_settlements": 0}
    assert found["checks"].keys() == CHECKS
    assert time.time() - 60 < _unix(found["config_loaded_at"]) <= time.time()
    assert found["uptime_s"] >= 0
    openai = next(each for each in found["upstreams"] if each["name"] == "openai")
    assert (openai["busy"], openai["state"]) == (2, "up")
    for minute in (found["last_minute"], openai["last_minute"]):
        assert (minute["calls"], minute["errors"]) == (3, {})
        assert minute["cost_nanousd_per_minute"] >= 3 * COST
        assert minute["cost_nanousd_per_minute"] % (3 * COST) in range(60)
        assert minute["input_tokens_per_s"] == pytest.approx(100 * minute["output_tokens_per_s"], rel=0.05)
        assert 0 < minute["ttft_ms"] <= minute["latency_ms"]
    go_on.set()
    await asyncio.gather(*running_calls)


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# -- the access log --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "console"])
async def test_requests_to_the_admin_listener_are_logged_where_that_is_wanted(
    upstream: ScriptedUpstream, tmp_path: Path, form: str
) -> None:
    """A line each, among those of calls: template, status, who; no query, no token, no path that nobody serves."""
    stream = io.BytesIO()
    config = config_for(
        tmp_path,
        upstream,
        observability={"logging": {"access": True, "format": form}},
        admin={"port": 0, "token": "zqt"},
    )
    path = write(tmp_path, config)
    token, agent = ("Authorization", "Bearer zqt"), ("User-Agent", "kube/1 sk-zq1234567 \u2603 " + "long" * 100)
    async with running(load(path, {}), path, call_log=stream) as gateway:
        for method, target, *fields in (
            ("GET", "/health/ready/store?zq=1", agent),
            ("GET", "/api/v1/calls/zqcall?token=zqt", token),
            ("GET", "/api/v1/calls?token=zqt"),
            ("GET", "/zqnowhere", token),
            ("PURGE", "/metrics", token),
            ("POST", "/metrics", token),
        ):  # fmt: skip
            await ask(gateway.admin_port, request(method, target, *fields, host="localhost"))
    text = stream.getvalue().decode()
    assert "zq" not in text.lower()
    lines = text.splitlines()
    assert all(line.isprintable() for line in lines)
    if form == "json":
        told = [json.loads(line) for line in lines]
        assert [(each["event"], each["method"], each["path"], each["status"]) for each in told] == [
            ("access", "GET", "/health/ready/{check}", 200),
            ("access", "GET", "/api/v1/calls/{call_id}", 400),
            ("access", "GET", "/api/v1/calls", 401),
            ("access", "GET", "", 404),
            ("access", "other", "", 405),
            ("access", "POST", "", 405),
        ]
        assert all(each["client"] == "127.0.0.1" and each["duration_ms"] >= 0 for each in told)
        assert told[0]["user_agent"].startswith("kube")
        assert len(told[0]["user_agent"]) <= 120
    else:
        assert re.fullmatch(r"\d{4}-\S+Z 200 GET /health/ready/\{check\} [\d.]+ ms  127\.0\.0\.1 kube.*", lines[0]), (
            lines[0]
        )
        assert " 404 GET - " in lines[3]


async def test_without_it_nothing_of_the_kind_is_written(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """As it was."""
    stream = io.BytesIO()
    path = write(tmp_path, config_for(tmp_path, upstream))
    async with running(load(path, {}), path, call_log=stream) as gateway:
        assert (await probe(gateway)).status == 200
    assert stream.getvalue() == b""


class Full(io.BytesIO):
    """A log that takes nothing."""

    def write(self, data: Any) -> int:
        raise OSError(28, "No space left on device")


async def test_a_log_that_cannot_be_written_is_a_warning(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Calls and probes go on."""
    upstream.answer = [PAID]
    path = write(
        tmp_path,
        config_for(tmp_path, upstream, observability={"logging": {"access": True}, "health": {"every": "200ms"}}),
    )
    async with running(load(path, {}), path, call_log=Full()) as gateway:
        assert await say(gateway) == [200]
        await until_told(gateway, 1)
        assert "log" in (await until_check(gateway, "exporters", "warn"))["output"]
        assert (await ready(gateway))[0] == 200


async def test_what_is_told_elsewhere_and_does_not_arrive_is_a_warning(
    upstream: ScriptedUpstream, serve: Serve
) -> None:
    """A webhook by its place, and metrics that are pushed; neither by an address."""
    upstream.answer = [response(503)]
    nobody = f"http://127.0.0.1:{free_port()}"
    gateway = await serve(
        observability={"metrics": {"otlp": {"enabled": True, "endpoint": nobody, "interval": "1s"}}},
        alerts={"webhooks": [{"url": f"{nobody}/hush", "kind": "slack"}]},
    )
    await say(gateway, 3)  # an event: the upstream fails
    async with asyncio.timeout(PATIENCE_S):
        while "webhook 1 (slack)" not in (says := (await until_check(gateway, "exporters", "warn"))["output"]):
            await asyncio.sleep(0.05)
        while "metrics" not in (says := (await until_check(gateway, "exporters", "warn"))["output"]):
            await asyncio.sleep(0.05)
    assert "127.0.0.1" not in says
    assert "hush" not in says
    assert (await ready(gateway))[0] == 200


async def test_nobody_is_told_that_it_is_ready_before_the_front_listens(tmp_path: Path) -> None:
    """Else the first calls that are sent on that word are refused: operators' listener opens last."""
    admin = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"front": {"port": taken.getsockname()[1]}, "admin": {"port": admin}}
        gateway = Gateway(load(write(tmp_path, config_for(tmp_path, "http://127.0.0.1:9", **ports)), {}))
        try:
            with pytest.raises(OSError, match="in use"):
                await gateway.start()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", admin)
        finally:
            await gateway.stop(grace_s=0)
