"""Traces end to end: calls through the front, spans at a receiver, read with the official classes."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from gateway.app import Gateway, running
from gateway.loading import load
from gateway.simulator import Simulator
from tests.harness.books import CHAT, MESSAGES, MINI, TOLD, look, post, record_after
from tests.harness.gateways import config_for, in_process, write
from tests.harness.messages import request
from tests.harness.raw_client import ask
from tests.harness.receivers import GrpcReceiver, Receiver
from tests.harness.scripted import ScriptedUpstream

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE, SPAN = PARENT[3:35], PARENT[36:52]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CLIENT, SERVER, ERROR = 3, 2, 2


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as server:
        yield server


def traced(folder: Path, provider: Simulator, url: str, **tracing: Any) -> dict[str, Any]:
    blocks: dict[str, Any] = {"tracing": {"enabled": True, "endpoint": url} | tracing}
    return config_for(folder, provider.url, observability=blocks)


def by_name(spans: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {span["name"].split(" ")[0]: span for span in spans}


async def test_a_call_is_a_trace_whose_parts_add_up(tmp_path, provider, receiver):
    """Four spans of one trace; admit, upstream and meter follow one another without a gap; the figures are the record's."""
    async with in_process(tmp_path, traced(tmp_path, provider, receiver.url)) as gateway:
        answer = await ask(
            gateway.front_port,
            post(
                CHAT,
                MINI,
                "words=30;cached=4;reasoning=7",
                ("x-tollgate-team", "search"),
                ("x-tollgate-tags", "env=prod"),
            ),
        )
        record = await record_after(gateway, answer)
        await receiver.until(lambda: len(receiver.spans) == 4)
    spans = by_name(receiver.spans)
    root, admit, upstream, meter = (spans[name] for name in ("chat", "admit", "upstream", "meter"))
    assert root["name"] == "chat gpt-4o-mini"
    assert root["trace_id"] == record["trace_id"] == record["call_id"].replace("-", "")
    assert (root["parent_id"], root["kind"], root["status"]) == ("", CLIENT, 0)
    assert {each["parent_id"] for each in (admit, upstream, meter)} == {root["span_id"]}
    assert len({each["span_id"] for each in spans.values()}) == 4
    assert root["start_ns"] == admit["start_ns"] <= admit["end_ns"] == upstream["start_ns"]
    assert upstream["start_ns"] < upstream["end_ns"] == root["end_ns"] == meter["start_ns"] <= meter["end_ns"]
    assert abs((root["end_ns"] - root["start_ns"]) / 1e6 - record["latency_ms"]) < 0.001
    assert abs((upstream["events"]["first byte"] - root["start_ns"]) / 1e6 - record["ttft_ms"]) < 0.001
    told = root["attributes"]
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "openai"
    assert told["gen_ai.request.model"] == "gpt-4o-mini"
    assert told["gen_ai.response.model"] == record["model_served"]
    assert told["gen_ai.usage.input_tokens"] == record["usage"]["input"] + record["usage"]["cached_input"]
    assert told["gen_ai.usage.cache_read.input_tokens"] == 4
    assert told["gen_ai.usage.output_tokens"] == record["usage"]["output"] + 7
    assert told["gen_ai.usage.reasoning.output_tokens"] == 7
    assert told["tollgate.cost_nanousd"] == record["cost_nanousd"] > 0
    assert (told["tollgate.team"], told["tollgate.tags.env"]) == ("search", "prod")
    assert root["resource"]["service.name"] == "tollgate"
    assert meter["attributes"]["tollgate.price_rows"] == record["price_rows"]


async def test_a_call_of_a_traced_app_hangs_below_its_span(tmp_path, provider, receiver):
    """The app's trace goes on; the field is passed on as it came."""
    async with in_process(tmp_path, traced(tmp_path, provider, receiver.url)) as gateway:
        await ask(gateway.front_port, post(CHAT, MINI, "", ("traceparent", PARENT)))
        await receiver.until(lambda: len(receiver.spans) == 4)
    root = by_name(receiver.spans)["chat"]
    assert (root["trace_id"], root["parent_id"], root["kind"]) == (TRACE, SPAN, SERVER)


@pytest.mark.parametrize("given", [PARENT, ""])
async def test_the_upstreams_spans_can_hang_below_ours(tmp_path, receiver, given):
    """With ``propagate`` the upstream is told our span; the trace stays the caller's."""
    fields = (("traceparent", given),) if given else ()
    async with ScriptedUpstream([OK]) as scripted:
        tracing = {"tracing": {"enabled": True, "endpoint": receiver.url, "propagate": True}}
        async with in_process(tmp_path, config_for(tmp_path, scripted, observability=tracing)) as gateway:
            await ask(gateway.front_port, post(CHAT, MINI, "", *fields))
            await receiver.until(lambda: len(receiver.spans) == 4)
        (seen,) = scripted.seen
    spans = by_name(receiver.spans)
    version, trace_id, span_id, flags = seen.head.value(b"traceparent").decode().split("-")
    assert (version, trace_id, flags) == ("00", spans["chat"]["trace_id"], "01")
    assert span_id == spans["upstream"]["span_id"]
    assert seen.head.values(b"traceparent") == [seen.head.value(b"traceparent")]
    assert trace_id == (TRACE if given else trace_id)


@pytest.mark.parametrize(
    ("name", "value", "sent"), [("OTEL_TRACES_SAMPLER", "always_off", "00"), ("OTEL_SDK_DISABLED", "true", "")]
)
async def test_what_the_upstream_is_told_of_sampling_is_so(tmp_path, receiver, monkeypatch, name, value, sent):
    """The flag is that of the sampler which the variables name; a span that is not sent is not named."""
    monkeypatch.setenv(name, value)
    async with ScriptedUpstream([OK]) as scripted:
        tracing = {"tracing": {"enabled": True, "endpoint": receiver.url, "propagate": True}}
        async with in_process(tmp_path, config_for(tmp_path, scripted, observability=tracing)) as gateway:
            await ask(gateway.front_port, post(CHAT, MINI))
        (seen,) = scripted.seen
    assert [field.decode().split("-")[-1] for field in seen.head.values(b"traceparent")] == ([sent] if sent else [])


async def test_sampling_keeps_errors_and_dear_calls(tmp_path, provider, receiver):
    """At a share of nothing there are still traces of what failed and of what was dear."""
    config = traced(tmp_path, provider, receiver.url, sample_rate=0, always_over_usd=0.001)
    async with in_process(tmp_path, config) as gateway:
        await ask(gateway.front_port, post(CHAT, MINI, "words=3"))
        await ask(gateway.front_port, post(CHAT, MINI | {"model": "gpt-4o"}, "words=300"))
        failed = await ask(gateway.front_port, post(CHAT, MINI, "status=500"))
        assert failed.status == 500
        await receiver.until(lambda: len(receiver.spans) >= 8)
    roots = [span for span in receiver.spans if not span["parent_id"]]
    assert sorted(span["attributes"]["gen_ai.request.model"] for span in roots) == ["gpt-4o", "gpt-4o-mini"]
    (bad,) = (span for span in roots if span["status"] == ERROR)
    assert bad["attributes"]["error.type"] == bad["error"] == "500"


async def test_what_a_caller_decided_on_sampling_holds(tmp_path, provider, receiver):
    """``traceparent`` says not to sample: no trace, whatever our share; the other way about too."""
    config = traced(tmp_path, provider, receiver.url, sample_rate=0)
    async with in_process(tmp_path, config) as gateway:
        await ask(gateway.front_port, post(CHAT, MINI, "", ("traceparent", PARENT[:-1] + "0")))
        await ask(gateway.front_port, post(CHAT, MINI, "", ("traceparent", PARENT.replace("4bf9", "5bf9"))))
        await receiver.until(lambda: len(receiver.spans) == 4)
    assert {span["trace_id"] for span in receiver.spans} == {TRACE.replace("4bf9", "5bf9")}


async def test_a_refused_call_has_a_trace_that_never_leaves(tmp_path, provider, receiver):
    """No upstream span; the reason stands at the root."""
    config = traced(tmp_path, provider, receiver.url) | {"budgets": [{"scope": "global", "limit_usd": "0.000001"}]}
    async with in_process(tmp_path, config) as gateway:
        answer = await ask(gateway.front_port, post(CHAT, MINI))
        assert answer.status == 429
        await receiver.until(lambda: len(receiver.spans) == 3)
    spans = by_name(receiver.spans)
    assert set(spans) == {"chat", "admit", "meter"}
    assert spans["chat"]["attributes"]["error.type"] == "budget_exceeded"
    assert spans["admit"]["attributes"]["tollgate.budgets"] == ["global/day"]
    assert spans["admit"]["end_ns"] == spans["chat"]["end_ns"]


@pytest.mark.parametrize("stream", [{}, TOLD], ids=["whole", "streamed"])
async def test_what_was_said_is_shown_only_where_asked_for_and_redacted(tmp_path, provider, receiver, stream):
    """Mail addresses by the config's pattern, keys always; the answer's text is there too, in either form."""
    said = {"role": "user", "content": "Write to ann@example.com, with key sk-proj-abcdefgh12345."}
    config = traced(tmp_path, provider, receiver.url, capture_content=True)
    config["observability"]["content"] = {"redact": [r"[\w.]+@[\w.]+"]}
    async with in_process(tmp_path, config) as gateway:
        answer = await ask(gateway.front_port, post(CHAT, MINI | stream | {"messages": [said]}, "words=5"))
        assert answer.status == 200
        await receiver.until(lambda: len(receiver.spans) == 4)
    told = by_name(receiver.spans)["chat"]["attributes"]
    assert json.loads(told["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "Write to ***, with key ***."}]}
    ]
    (message,) = json.loads(told["gen_ai.output.messages"])
    assert message["role"] == "assistant"
    assert len(message["parts"][0]["content"].split()) == 5
    body = b"".join(body for _, _, body in receiver.requests)
    assert b"ann@" not in body


async def test_nothing_that_was_said_is_in_a_span_by_default(tmp_path, provider, receiver):
    """Not the prompt, not the answer, not a key."""
    fields = (("authorization", "Bearer sk-canary-key-123456"),)
    async with in_process(tmp_path, traced(tmp_path, provider, receiver.url)) as gateway:
        prompt = [{"role": "user", "content": "zqcanaryzq"}]
        await ask(gateway.front_port, post(CHAT, MINI | {"messages": prompt}, "words=5", *fields))
        await ask(
            gateway.front_port, post(MESSAGES, MINI | {"messages": prompt, "max_tokens": 5}, "status=401", *fields)
        )
        await receiver.until(lambda: len(receiver.spans) == 8)
    body = b"".join(body for _, _, body in receiver.requests)
    assert b"canary" not in body


async def test_spans_over_grpc_with_headers_and_a_second_try(tmp_path, provider):
    """What is unavailable is asked again; metadata goes along."""
    async with GrpcReceiver() as receiver:
        receiver.code = grpc.StatusCode.UNAVAILABLE
        config = traced(tmp_path, provider, receiver.url, protocol="grpc", headers={"x-team-key": "secret-word"})
        async with in_process(tmp_path, config) as gateway:
            await ask(gateway.front_port, post(CHAT, MINI))
            await Receiver.until(None, lambda: len(receiver.spans) == 4)  # type: ignore[arg-type]
            await exported(gateway)
        assert receiver.metadata[0]["x-team-key"] == "secret-word"
        assert by_name(receiver.spans)["chat"]["attributes"]["gen_ai.request.model"] == "gpt-4o-mini"


@pytest.mark.parametrize("trusted", [True, False])
async def test_spans_over_grpc_behind_tls(tmp_path, provider, monkeypatch, authority, ca_file, trusted):
    """To a receiver that somebody vouches for, and to no other, gzip and all."""
    certificate = authority.issue_cert("localhost")
    pair = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    if trusted:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", ca_file)
    async with GrpcReceiver(pair) as receiver:
        config = traced(tmp_path, provider, receiver.url, protocol="grpc", headers={"X-Key": "secret-word"})
        async with in_process(tmp_path, config) as gateway:
            await ask(gateway.front_port, post(CHAT, MINI))
            if trusted:
                await exported(gateway)
            else:
                async with asyncio.timeout(15):
                    while gateway._telemetry.failing() != ["traces"]:
                        await asyncio.sleep(0.02)
    assert [each["x-key"] for each in receiver.metadata] == (["secret-word"] if trusted else [])


async def exported(gateway: Gateway) -> None:
    """Until the receiver's word for it has come."""
    async with asyncio.timeout(10):
        while b'tollgate_telemetry_exported_total{outcome="exported",signal="traces"}' not in await look(
            gateway, "/metrics"
        ):
            await asyncio.sleep(0.02)


async def test_spans_for_zipkin(tmp_path, provider, receiver):
    """Its own JSON, at its own path."""
    config = traced(tmp_path, provider, receiver.url, exporter="zipkin")
    async with in_process(tmp_path, config) as gateway:
        await ask(gateway.front_port, post(CHAT, MINI))
        await receiver.until(lambda: bool(receiver.requests))
    path, headers, body = receiver.requests[0]
    assert (path, headers["Content-Type"]) == ("/api/v2/spans", "application/json")
    spans = {span["name"]: span for span in json.loads(body)}
    assert set(spans) == {"chat gpt-4o-mini", "admit", "upstream", "meter"}
    root = spans["chat gpt-4o-mini"]
    assert (root["kind"], root["localEndpoint"]["serviceName"]) == ("CLIENT", "tollgate")
    assert spans["upstream"]["parentId"] == root["id"]
    assert all(type(text) is str for text in root["tags"].values())


async def test_a_receiver_that_is_away_costs_a_counter(tmp_path, provider, receiver):
    """Calls go on; what failed is counted; when it is back, spans arrive again; health is not touched."""
    answers = iter([503, 400])
    receiver.answer = lambda: next(answers, 200)
    async with in_process(tmp_path, traced(tmp_path, provider, receiver.url)) as gateway:
        for _ in range(2):
            assert (await ask(gateway.front_port, post(CHAT, MINI))).status == 200
            await receiver.until(lambda: bool(receiver.requests))
        await receiver.until(lambda: len(receiver.requests) >= 2)
        assert (await ask(gateway.front_port, post(CHAT, MINI))).status == 200
        await receiver.until(lambda: len(receiver.requests) >= 3)
        text = (await look(gateway, "/metrics")).decode()
    assert 'tollgate_telemetry_exported_total{outcome="failed",signal="traces"}' in text


async def test_a_receiver_that_hangs_holds_up_nothing(tmp_path, provider, receiver):
    """Not the calls, and not the end."""
    receiver.hang = True
    async with in_process(tmp_path, traced(tmp_path, provider, receiver.url)) as gateway:
        for _ in range(20):
            assert (await ask(gateway.front_port, post(CHAT, MINI))).status == 200


async def test_variables_say_what_the_config_leaves_open(tmp_path, provider, receiver, monkeypatch):
    """Endpoint with its path, headers, the service's name, further attributes."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my gateway")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod")
    async with in_process(tmp_path, traced(tmp_path, provider, "")) as gateway:
        await ask(gateway.front_port, post(CHAT, MINI))
        await receiver.until(lambda: len(receiver.spans) == 4)
    path, headers, _ = receiver.requests[0]
    assert (path, headers["x-key"]) == ("/v1/traces", "a b")
    resource = receiver.spans[0]["resource"]
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("my gateway", "prod")


async def test_a_free_call_is_traced_too(tmp_path, provider, receiver):
    """What is not understood is forwarded, and shown as a request."""
    async with in_process(tmp_path, traced(tmp_path, provider, receiver.url)) as gateway:
        await ask(gateway.front_port, request("GET", "/v1/models"))
        await receiver.until(lambda: len(receiver.spans) == 4)
    root = next(span for span in receiver.spans if not span["parent_id"])
    assert root["attributes"]["tollgate.outcome"] in ("completed", "upstream_error")


@pytest.mark.parametrize("wanted", [True, False])
async def test_what_was_said_stands_in_the_log_only_where_it_is_wanted_there(tmp_path, provider, receiver, wanted):
    """Although the spans have it."""
    config = traced(tmp_path, provider, receiver.url, capture_content=True)
    config["observability"]["logging"] = {"content": wanted}
    path = write(tmp_path, config)
    lines = io.BytesIO()
    async with running(load(path, {}), path, call_log=lines) as gateway:
        prompt = [{"role": "user", "content": "zqcanaryzq"}]
        await record_after(gateway, await ask(gateway.front_port, post(CHAT, MINI | {"messages": prompt}, "words=5")))
        await receiver.until(lambda: len(receiver.spans) == 4)
    (line,) = [json.loads(text) for text in lines.getvalue().splitlines()]
    assert ("zqcanaryzq" in json.dumps(line)) == wanted
    assert ("input_messages" in line) == ("output_messages" in line) == wanted
    assert b"zqcanaryzq" not in (tmp_path / "books.db").read_bytes()
