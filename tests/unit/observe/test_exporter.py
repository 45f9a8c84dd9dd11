"""Telemetry on its way: what is tried again, what is dropped, and that none of it takes room without end."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable

import grpc.aio
import pytest

from gateway.observe import exporter as under_test
from gateway.observe.exporter import MAX_KEPT_BYTES, TRIES, Away, Exporter, Refused
from gateway.observe.otel_env import Receiver, receiver, resource, sample_rate
from gateway.observe.transports import Grpc, Post
from tests.harness.receivers import Receiver as Server


class Scripted:
    """Answers in turn; then takes everything."""

    def __init__(self, *answers: Exception) -> None:
        self.answers = list(answers)
        self.taken: list[bytes] = []
        self.tries = 0
        self.closed = False

    async def send(self, body: bytes) -> None:
        self.tries += 1
        if self.answers:
            raise self.answers.pop(0)
        self.taken.append(body)

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def counts(monkeypatch) -> Counter[str]:
    monkeypatch.setattr(under_test, "FIRST_PAUSE_S", 0.001)
    return Counter()


def exporter(transport: Scripted, counts: Counter[str]) -> Exporter:
    def count(signal: str, outcome: str, items: int) -> None:
        counts[outcome] += items

    return Exporter("traces", transport, count)


async def test_what_is_away_for_a_while_gets_all(counts):
    """Tried again after a pause; in order, nothing twice."""
    transport = Scripted(Away("a"), Away("b"))
    export = exporter(transport, counts)
    export.start()
    export.submit(b"1", 10)
    export.submit(b"2", 5)
    async with asyncio.timeout(30):
        while len(transport.taken) < 2:
            await asyncio.sleep(0.01)
    await export.close(1)
    assert (transport.taken, transport.tries, counts) == ([b"1", b"2"], 4, {"exported": 15})
    assert export.fault == ""
    assert transport.closed


@pytest.mark.parametrize("fault", [Refused("status 400"), ValueError("a bug")])
async def test_what_is_refused_is_not_tried_again(counts, fault):
    """The next one may be better."""
    transport = Scripted(fault)
    export = exporter(transport, counts)
    export.start()
    export.submit(b"1", 10)
    export.submit(b"2", 5)
    async with asyncio.timeout(30):
        while not transport.taken:
            await asyncio.sleep(0.01)
    await export.close(1)
    assert (transport.taken, counts) == ([b"2"], {"failed": 10, "exported": 5})


async def test_one_request_is_given_up_after_some_tries(counts):
    """Or nothing would ever get through."""
    transport = Scripted(*[Away("gone")] * TRIES)
    export = exporter(transport, counts)
    export.start()
    export.submit(b"1", 10)
    async with asyncio.timeout(20):
        while not counts["failed"]:
            await asyncio.sleep(0.01)
    assert transport.tries == TRIES
    assert export.fault == "gone"
    await export.close(1)


async def test_what_waits_is_bounded_and_the_oldest_goes_first(counts):
    """Nobody sends; a thousand requests of 64 KB come."""
    transport = Scripted()
    export = exporter(transport, counts)
    for number in range(1000):
        export.submit(number.to_bytes(2) * 32768, 1)
    kept = MAX_KEPT_BYTES // 65536
    assert counts["dropped"] == 1000 - kept
    export.start()
    await export.close(5)
    assert len(transport.taken) == kept
    assert transport.taken[-1] == (999).to_bytes(2) * 32768


async def test_the_end_does_not_wait_for_a_receiver_that_hangs(counts):
    """What is left is counted as dropped."""

    class Hanging(Scripted):
        async def send(self, body: bytes) -> None:
            await asyncio.sleep(3600)

    export = exporter(Hanging(), counts)
    export.start()
    export.submit(b"1", 1)
    export.submit(b"2", 2)
    await export.close(0.05)
    assert counts == {"failed": 1, "dropped": 2}  # the one that was on its way, and the one that was not


@pytest.mark.parametrize("asked_s", [0.3, 0.05])
async def test_the_pause_that_a_receiver_asks_for_is_kept(counts, asked_s, monkeypatch):
    """Not cut by what keeps replicas apart (OTLP specification, "OTLP/HTTP Throttling")."""
    monkeypatch.setattr(under_test.random, "uniform", lambda least, most: least)
    transport = Scripted(Away("status 429", asked_s))
    export = exporter(transport, counts)
    export.start()
    began = asyncio.get_running_loop().time()
    export.submit(b"1", 10)
    async with asyncio.timeout(30):
        while not transport.taken:
            await asyncio.sleep(0.001)
    assert asyncio.get_running_loop().time() - began >= asked_s
    await export.close(1)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, None), (202, None), (429, Away), (503, Away), (502, Away), (400, Refused), (401, Refused)],
)
async def test_what_a_status_means(status, kind):
    """OTLP specification, "Failures"."""
    async with Server() as server:
        server.answer, server.retry_after = (lambda: status), "7"
        post = Post(Receiver(server.url + "/v1/traces", "http/protobuf", 5, True, "", (("x-key", "k"),)))
        try:
            if kind is None:
                await post.send(b"x" * 5000)
            else:
                with pytest.raises(kind) as caught:
                    await post.send(b"x")
                if kind is Away:
                    assert caught.value.pause_s == 7
        finally:
            await post.close()
        path, headers, body = server.requests[0]
    assert (path, headers["x-key"], headers["Content-Type"]) == ("/v1/traces", "k", "application/x-protobuf")
    assert body in (b"x", b"x" * 5000)


async def test_nobody_there_is_away_and_nonsense_is_refused():
    """No exception of the client's gets out."""
    post = Post(Receiver("http://127.0.0.1:9/v1/traces", "http/protobuf", 5, True, "", ()))
    with pytest.raises(Away):
        await post.send(b"x")
    await post.close()


async def test_grpc_is_spoken_to_what_the_address_says(monkeypatch):
    """Schemes know no case (RFC 3986 3.1): keys must not go out in the clear for it. A path means nothing to gRPC."""
    opened: list[tuple[str, str]] = []
    monkeypatch.setattr(grpc.aio, "secure_channel", lambda target, *_, **more: opened.append(("tls", target)) or Mute())
    monkeypatch.setattr(grpc.aio, "insecure_channel", lambda target, **more: opened.append(("plain", target)) or Mute())
    for endpoint in ("HTTPS://c:4317", "https://c", "http://c:4317/v1/traces", "c:4317", "http://[::1]:4317/"):
        transport = Grpc(receiver("traces", endpoint, "grpc", {}, {}), "traces")
        await transport.send(b"x")
    assert opened == [
        ("tls", "c:4317"),
        ("tls", "c"),
        ("plain", "c:4317"),
        ("plain", "c:4317"),
        ("plain", "[::1]:4317"),
    ]


class Mute:
    """A channel to nobody."""

    def unary_unary(self, method: str) -> Callable[..., Awaitable[bytes]]:
        async def call(body: bytes, **more: object) -> bytes:
            return b""

        return call


def test_headers_never_show():
    """They hold keys."""
    found = receiver("traces", "", "http/protobuf", {"authorization": "Bearer canary"}, {})
    assert "canary" not in repr(found)
    assert found.headers == {"authorization": "Bearer canary"}


@pytest.mark.parametrize(
    ("endpoint", "protocol", "environ", "expected"),
    [
        ("", "http/protobuf", {}, ("http://localhost:4318/v1/traces", "http/protobuf")),
        ("", "grpc", {}, ("http://localhost:4317", "grpc")),
        ("", "http/protobuf", {"OTEL_EXPORTER_OTLP_ENDPOINT": "e:1"}, ("http://e:1/v1/traces", "http/protobuf")),
        ("http://c:4318", "http/protobuf", {}, ("http://c:4318/v1/traces", "http/protobuf")),
        ("http://c:4318/", "http/protobuf", {}, ("http://c:4318/v1/traces", "http/protobuf")),
        ("c:4318", "http/protobuf", {}, ("http://c:4318/v1/traces", "http/protobuf")),
        ("http://c/own/path", "http/protobuf", {}, ("http://c/own/path", "http/protobuf")),
        ("", "http/protobuf", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://e"}, ("http://e/v1/traces", "http/protobuf")),
        ("", "http/protobuf", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://e"}, ("http://e", "http/protobuf")),
        ("", "http/protobuf", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ("http://localhost:4317", "grpc")),
        ("http://c", "http/protobuf", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ("http://c/v1/traces", "http/protobuf")),
    ],
)
def test_where_a_signal_goes(endpoint, protocol, environ, expected):
    """The config goes before the variables; a variable of one signal is taken as it is, the one for all gets the path."""
    found = receiver("traces", endpoint, protocol, {}, environ)
    assert (found.endpoint, found.protocol) == expected


@pytest.mark.parametrize(
    ("configured", "environ", "expected"),
    [
        (1.0, {}, 1.0),
        (0.5, {"OTEL_TRACES_SAMPLER": "always_off"}, 0.5),
        (1.0, {"OTEL_TRACES_SAMPLER": "always_off"}, 0.0),
        (1.0, {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, 0.25),
        (1.0, {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "x"}, 1.0),
    ],
)
def test_the_share_that_is_traced(configured, environ, expected):
    """The config's, unless it says nothing."""
    assert sample_rate(configured, environ) == expected


def test_a_field_of_the_config_goes_before_a_variables_whatever_its_case():
    """RFC 9110 5.1: the receiver would get both, and might take the wrong one."""
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20old,x-a=1"}
    found = receiver("traces", "", "http/protobuf", {"authorization": "Bearer new"}, environ)
    assert found.headers == {"authorization": "Bearer new", "x-a": "1"}


def test_the_resource_tells_this_process_apart():
    """Percent-encoding as in W3C Baggage."""
    found = dict(resource({"OTEL_RESOURCE_ATTRIBUTES": "a=b%20c,service.name=x", "OTEL_SERVICE_NAME": "y"}))
    assert (found["a"], found["service.name"]) == ("b c", "y")
    assert found["service.instance.id"].endswith(f"-{os.getpid()}"), (
        "two on one host would be one, and their sums mixed"
    )
