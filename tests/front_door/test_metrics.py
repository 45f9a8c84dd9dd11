"""Metrics of a gateway that serves: scraped in both forms, pushed over OTLP, told to StatsD, and never large."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

from tests.front_door.conftest import Serve
from tests.harness.books import CHAT, MINI, look, post, record_after
from tests.harness.gateways import records
from tests.harness.messages import request, response
from tests.harness.raw_client import ask
from tests.harness.receivers import GrpcReceiver, Receiver, told
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

USAGE = {"prompt_tokens": 26, "completion_tokens": 4, "total_tokens": 30}
OPEN = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331"


def answer(status: int = 200) -> list[bytes]:
    body = json.dumps({"object": "chat.completion", "model": "gpt-4o-mini", "choices": [], "usage": USAGE}).encode()
    return [response(status, ("Content-Type", "application/json"), body=body)]


async def scrape(gateway: Any, accept: str = "", encoding: str = "") -> tuple[bytes, Any]:
    headers = {"Accept": accept} | ({"Accept-Encoding": encoding} if encoding else {})
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.admin_url}/metrics", headers=headers) as found,
    ):
        assert found.status == 200
        return await found.read(), found.headers


def sums(text: bytes) -> dict[str, float]:
    """By name of sample, over all series."""
    found: dict[str, float] = {}
    for family in read_plain(text.decode()):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


async def test_exemplars_lead_to_the_record_of_a_call(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Whoever asks for OpenMetrics gets them, with the trace id of the call's record; a call that nobody traces has none."""
    gateway = await serve()
    upstream.answer = answer()
    record = await record_after(
        gateway, await ask(gateway.front_port, post(CHAT, MINI, "", ("traceparent", f"{PARENT}-01")))
    )
    upstream.answer = answer(500)
    await record_after(gateway, await ask(gateway.front_port, post(CHAT, MINI, "", ("traceparent", f"{PARENT}-00"))))
    text, headers = await scrape(gateway, OPEN)
    assert headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    found = {
        sample.name: (sample.exemplar.labels, sample.exemplar.value)
        for family in read_open(text.decode())
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert record["trace_id"] == TRACE
    assert found == {
        "llm_requests_total": ({"trace_id": TRACE}, 1),
        "llm_cost_usd_total": ({"trace_id": TRACE}, pytest.approx(record["cost_nanousd"] / 1e9)),
        "llm_request_duration_seconds_bucket": ({"trace_id": TRACE}, pytest.approx(record["latency_ms"] / 1e3)),
        "llm_time_to_first_token_seconds_bucket": ({"trace_id": TRACE}, pytest.approx(record["ttft_ms"] / 1e3)),
    }
    plain, headers = await scrape(gateway)
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert TRACE.encode() not in plain


@pytest.mark.parametrize(("rate", "kept"), [(0, False), (1, True)])
async def test_where_traces_are_made_only_a_kept_one_is_an_exemplar(
    upstream: ScriptedUpstream, serve: Serve, rate: int, kept: bool
) -> None:
    """A link from Grafana to a trace that was never sent leads nowhere."""
    async with Receiver() as receiver:
        tracing = {"enabled": True, "endpoint": receiver.url, "sample_rate": rate}
        gateway = await serve(observability={"tracing": tracing})
        upstream.answer = answer()
        record = await record_after(gateway, await ask(gateway.front_port, post(CHAT, MINI)))
        text, _ = await scrape(gateway, OPEN)
        assert (record["trace_id"].encode() in text) is kept


async def test_a_scrape_is_packed_for_who_can_unpack_it(gateway: Any) -> None:
    """And has what protects every answer of the listener."""
    for encoding in ("gzip", "identity"):
        text, headers = await scrape(gateway, OPEN, encoding)
        assert text.endswith(b"# EOF\n")
        assert headers.get("Content-Encoding", "identity") == encoding
        assert headers["X-Content-Type-Options"] == "nosniff"
    head = await ask(gateway.admin_port, request("HEAD", "/metrics", host="localhost"))
    assert head.status == 200


async def test_promtool_has_nothing_to_say(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Every family of a gateway that was used in every way: names, help, types, units and suffixes as Prometheus wants them."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    budgets = [{"scope": "team:poor", "limit_usd": "0.000000001", "window": "day", "notify_at": [50]}]
    gateway = await serve(budgets=budgets, metering={"compare_every": 1},
                          observability={"metrics": {"labels": ["team", "user", "tags.cost-center"]}})  # fmt: skip
    for fields in ((("x-tollgate-tags", 'cost-center=4"7\\11'),), (("x-tollgate-team", "poor"),), ()):
        upstream.answer = answer()
        await record_after(gateway, await ask(gateway.front_port, post(CHAT, MINI, "", *fields)))
    upstream.answer = answer(500)
    await record_after(gateway, await ask(gateway.front_port, post(CHAT, MINI | {"model": "gpt-99-ultra"})))
    text = await look(gateway, "/metrics")
    found = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert (found.returncode, found.stdout.decode(), found.stderr.decode()) == (0, "", "")
    values = sums(text)
    assert values["tollgate_workers"] == 1
    assert values["process_resident_memory_bytes"] > 10 << 20
    assert 0 < values["process_open_fds"] < values["process_max_fds"]
    assert values["process_cpu_seconds_total"] > 0
    assert values["process_start_time_seconds"] > 1.7e9
    assert b'tag_cost_center="4\\"7\\\\11"' in text
    phases = re.findall(rb'^tollgate_(overhead|store)_seconds_count{\w+="(\w+)"} (\S+)', text, re.MULTILINE)
    counts = {(name, phase): float(count) for name, phase, count in phases}
    assert counts.keys() == {
        (b"overhead", b"admit"),
        (b"overhead", b"settle"),
        (b"store", b"reserve"),
        (b"store", b"settle"),
    }
    assert counts[b"overhead", b"admit"] == 3
    assert counts[b"store", b"reserve"] == 4
    assert 1 <= counts[b"overhead", b"settle"] <= 4
    assert 1 <= counts[b"store", b"settle"] <= 4


async def test_what_is_pushed_is_what_is_scraped(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Over HTTP, with the headers of the config, every second and once more at the end; the conventions' names beside ours."""
    async with Receiver() as receiver:
        otlp = {"enabled": True, "endpoint": receiver.url, "headers": {"authorization": "Bearer x"}, "interval": "1s"}
        gateway = await serve(observability={"metrics": {"otlp": otlp}})
        for _ in range(3):
            upstream.answer = answer()
            record = await record_after(
                gateway, await ask(gateway.front_port, post(CHAT, MINI, "", ("x-tollgate-team", "a")))
            )
        counted = len(receiver.requests)
        await receiver.until(lambda: len(receiver.requests) >= counted + 2)
        pushed = {metric.name: metric for metric in receiver.metrics}
        path, headers, _ = receiver.requests[0]
        assert (path, headers["Authorization"]) == ("/v1/metrics", "Bearer x")
        scraped = sums(await look(gateway, "/metrics"))
        for name, metric in pushed.items():
            kind = metric.WhichOneof("data")
            points = list(getattr(metric, kind).data_points)
            if name.startswith("llm_") and kind != "histogram":
                assert sum(point.as_double for point in points) == scraped[name], name
            elif name.startswith("llm_"):
                assert sum(point.count for point in points) == scraped[f"{name}_count"], name
        assert pushed["llm_requests_total"].sum.data_points[0].as_double == 3
        assert pushed["tollgate_store_up"].gauge.data_points[0].as_double == 1
        [point] = pushed["gen_ai.server.request.duration"].histogram.data_points
        assert point.count == 3
        assert told(point.attributes) == {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.response.model": "gpt-4o-mini", "tollgate.team": "a",
        }  # fmt: skip
        usage = pushed["gen_ai.client.token.usage"].histogram.data_points
        assert {told(each.attributes)["gen_ai.token.type"]: each.sum for each in usage} == {"input": 78, "output": 12}
        assert record["usage"]["input"] == 26
        exported = re.search(
            rb'tollgate_telemetry_exported_total{outcome="exported",signal="metrics"} (\S+)',
            await look(gateway, "/metrics"),
        )
        assert exported is not None
        assert float(exported[1]) > 10


async def test_metrics_go_over_grpc_too(upstream: ScriptedUpstream, serve: Serve) -> None:
    """The same figures, and the headers of the config as metadata."""
    async with GrpcReceiver() as receiver:
        otlp = {
            "enabled": True,
            "endpoint": receiver.url,
            "protocol": "grpc",
            "headers": {"x-key": "k"},
            "interval": "1s",
        }
        gateway = await serve(observability={"metrics": {"otlp": otlp}})
        upstream.answer = answer()
        await record_after(gateway, await ask(gateway.front_port, post(CHAT, MINI)))
        async with asyncio.timeout(15):
            while "gen_ai.server.request.duration" not in (found := {each.name: each for each in receiver.metrics}):
                await asyncio.sleep(0.05)
        assert found["llm_requests_total"].sum.data_points[0].as_double == 1
        assert receiver.metadata[-1]["x-key"] == "k"


async def test_a_receiver_that_is_away_is_nobodys_trouble(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Calls go on, and what fails is counted."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        otlp = {"enabled": True, "endpoint": f"http://127.0.0.1:{closed.getsockname()[1]}", "interval": "1s"}
        gateway = await serve(
            observability={"metrics": {"otlp": otlp, "statsd": f"127.0.0.1:{closed.getsockname()[1]}"}}
        )
        for _ in range(3):
            upstream.answer = answer()
            assert (await ask(gateway.front_port, post(CHAT, MINI))).status == 200
            await records(gateway.admin_url, 1)
        async with asyncio.timeout(15):
            while sums(await look(gateway, "/metrics")).get("tollgate_sink_errors_total", 0) < 1:
                upstream.answer = answer()
                assert (await ask(gateway.front_port, post(CHAT, MINI))).status == 200
                await asyncio.sleep(0.05)


async def test_standard_variables_are_honoured(
    upstream: ScriptedUpstream, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where to, with what, how often, as whom, and in which words."""
    async with Receiver() as receiver:
        for name, text in {
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{receiver.url}/own/metrics",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_SERVICE_NAME": "gate",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            "OTEL_SEMCONV_STABILITY_OPT_IN": "http,gen_ai_latest_experimental",
        }.items():
            monkeypatch.setenv(name, text)
        gateway = await serve(observability={"metrics": {"otlp": {"enabled": True}}})
        upstream.answer = answer()
        await record_after(gateway, await ask(gateway.front_port, post(CHAT, MINI)))
        await receiver.until(lambda: "gen_ai.client.inference.duration" in {each.name for each in receiver.metrics})
        path, headers, body = receiver.requests[-1]
        assert (path, headers["x-key"]) == ("/own/metrics", "a b")
        assert b"deployment.environment.name" in body
        names = {each.name for each in receiver.metrics}
        assert "gen_ai.client.token.usage" not in names
        assert {"process_resident_memory_bytes", "tollgate_store_up"} <= names  # although nobody scrapes


async def test_otlp_can_be_switched_off_from_outside(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """``OTEL_SDK_DISABLED`` goes before the config, as everywhere."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    gateway = await serve(observability={"metrics": {"otlp": {"enabled": True, "interval": "1s"}}})
    assert gateway._telemetry._meters._push is None


async def test_statsd_is_told_of_calls(upstream: ScriptedUpstream, serve: Serve) -> None:
    """A server that really listens; its address may be a name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        gateway = await serve(observability={"metrics": {"statsd": f"127.0.0.1:{server.getsockname()[1]}"}})
        upstream.answer = answer()
        await record_after(gateway, await ask(gateway.front_port, post(CHAT, MINI, "", ("x-tollgate-team", "a"))))
        packet = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(server, 65536), 10)
    lines = packet.decode().split("\n")
    assert "llm_requests_total:1|c|#team:a,provider:openai,model:gpt-4o-mini,status:200" in lines
    assert "llm_tokens_total:26|c|#team:a,provider:openai,model:gpt-4o-mini,type:input" in lines


async def test_thousands_of_names_leave_a_scrape_bounded(upstream: ScriptedUpstream, serve: Serve) -> None:
    """Teams, agents, models and paths that somebody makes up: a bounded number of series, and every call among them."""
    bounds = {"max_label_values": 5, "max_combinations": 20}
    gateway = await serve(observability={"metrics": bounds})
    calls = 1500
    upstream.answer = answer()

    async def one(number: int) -> None:
        names = [(f"x-tollgate-{field}", f"{field}{number}") for field in ("team", "agent", "call-type", "user")]
        await ask(
            gateway.front_port,
            post(f"/v1/x{number}" if number % 3 else CHAT, MINI | {"model": f"m{number}"}, "", *names),
        )

    for first in range(0, calls, 50):
        await asyncio.gather(*(one(number) for number in range(first, first + 50)))
    async with asyncio.timeout(20):
        while (found := sums(text := await look(gateway, "/metrics")))["llm_requests_total"] < calls:
            await asyncio.sleep(0.05)
    assert found["llm_requests_total"] == calls
    assert text.count(b"\n") < 3000
    teams = set(re.findall(rb'llm_requests_total{.*team="(\w+)"', text))
    assert len(teams) <= 6
    assert b"other" in teams
