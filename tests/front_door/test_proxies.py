"""Upstreams behind a forward proxy: found by name through it, unchanged behind it, and a clean error when it refuses."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import trustme
from aiohttp import web

from tests.front_door.conftest import Serve
from tests.harness.differential import answer_changes, request_changes
from tests.harness.forward_proxy import ForwardProxy
from tests.harness.messages import chunked, request
from tests.harness.raw_client import ask, connected
from tests.harness.rows import CHAT, HEADS_AND_BODIES, PLAIN
from tests.harness.scripted import ScriptedUpstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "api.provider.test"
"""Nobody resolves it: who reaches it went through the proxy."""
POST = request("POST", "/v1/chat/completions?a=%2F", ("X-Dup", "1"), ("x-dup", "2"), body=CHAT)
PASSWORD = "p@ss:w/rd"
BASIC = b"Basic " + base64.b64encode(b"us er:" + PASSWORD.encode())
VARIABLES = ("https_proxy", "http_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Without anybody's proxy; sets variables."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch.setenv


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server_side(authority: trustme.CA) -> ssl.SSLContext:
    """Speaks for the provider's name, and for this machine."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME, "127.0.0.1").configure_cert(made)
    return made


@pytest_asyncio.fixture(loop_scope="module")
async def provider(scheme: str, server_side: ssl.SSLContext) -> AsyncIterator[ScriptedUpstream]:
    """The upstream, once with TLS and once without."""
    async with ScriptedUpstream(tls=server_side if scheme == "https" else None) as server:
        yield server


@pytest_asyncio.fixture(params=["http proxy", "https proxy"], loop_scope="module")
async def proxy(
    request: pytest.FixtureRequest,
    provider: ScriptedUpstream,
    server_side: ssl.SSLContext,
    environment: Callable[[str, str], None],
    ca_file: str,
) -> AsyncIterator[ForwardProxy]:
    """In front of it, once with TLS (trusted by way of the system) and once without."""
    environment("SSL_CERT_FILE", ca_file)
    async with ForwardProxy(provider.port, tls=server_side if request.param == "https proxy" else None) as server:
        yield server


@pytest.fixture
def place(scheme: str, ca_file: str) -> tuple[str, dict[str, Any]]:
    """The upstream's address and what every upstream of a config has."""
    return f"{scheme}://{NAME}", {"ca_file": ca_file} if scheme == "https" else {}


def with_credentials(url: str) -> str:
    return url.replace("://", "://us%20er:p%40ss%3Aw%2Frd@")


async def test_nothing_changes_behind_a_proxy(
    scheme: str, provider: ScriptedUpstream, proxy: ForwardProxy, place: Any, serve: Serve, trusting: ssl.SSLContext
) -> None:
    """Tunnel or absolute-form: the upstream sees what it would have seen, and who answers for the proxy is the proxy alone."""
    gateway = await serve(place[0], up=place[1] | {"proxy": with_credentials(proxy.url)})
    for name in ("201", "gzip", "trailers", "mixed chunks", "a megabyte with a length"):
        provider.answer = HEADS_AND_BODIES[name]
        direct = await ask(provider.port, POST, tls=trusting if scheme == "https" else None)
        through = await ask(gateway.front_port, POST.replace(b" ", b" /up", 1))
        seen = provider.seen[-2:]
        assert [*request_changes(*seen, host=NAME.encode()), *answer_changes(direct, through)] == []
        assert seen[1].head.value(b"proxy-authorization") is None
    assert all(head.values(b"proxy-authorization") == [BASIC] for head in proxy.asked)
    starts = {head.start for head in proxy.asked}
    if scheme == "https":
        assert starts == {b"CONNECT api.provider.test:443 HTTP/1.1"}
        assert proxy.connections == len(proxy.asked) == 1, "the tunnel was not kept"
    else:
        assert starts == {b"POST http://api.provider.test/v1/chat/completions?a=%2F HTTP/1.1"}
        assert (proxy.connections, len(proxy.asked)) == (1, 5), "the connection was not kept"


async def test_a_stream_passes_event_by_event(
    provider: ScriptedUpstream, proxy: ForwardProxy, place: Any, serve: Serve
) -> None:
    gateway = await serve(place[0], up=place[1] | {"proxy": proxy.url})
    go_on = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    provider.answer = [head, b"d\r\ndata: first\n\n\r\n", go_on, chunked(b"data: second\n\n")]
    async with connected(gateway.front_port) as client:
        await client.send(POST)
        await client.see(b"data: first\n\n")
        go_on.set()
        assert (await client.answer("POST")).body.content == b"data: first\n\ndata: second\n\n"


async def test_a_large_upload_passes(provider: ScriptedUpstream, proxy: ForwardProxy, place: Any, serve: Serve) -> None:
    """Written in pieces, behind a head that the proxy has its own form of."""
    gateway = await serve(place[0], up=place[1] | {"proxy": proxy.url})
    provider.answer = [PLAIN]
    body = bytes(range(256)) * 4096
    sent = b"POST /up/v1/files HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(
        body[:999], body[999:]
    )
    assert (await ask(gateway.front_port, sent)).status == 200
    assert provider.seen[-1].body.content == body


@pytest.mark.parametrize("variable", ["own", "all", "ALL"])
async def test_the_environment_names_the_proxy(
    scheme: str,
    provider: ScriptedUpstream,
    proxy: ForwardProxy,
    place: Any,
    serve: Serve,
    environment: Callable[[str, str], None],
    variable: str,
) -> None:
    name = {"own": f"{scheme}_proxy", "all": "all_proxy", "ALL": "ALL_PROXY"}[variable]
    environment(name, proxy.url)
    gateway = await serve(place[0], up=place[1])
    provider.answer = [PLAIN]
    assert (await ask(gateway.front_port, POST)).status == 200
    assert len(proxy.asked) == 1


@pytest.mark.parametrize("why", ["no_proxy", "none", "loopback"])
async def test_an_upstream_may_be_reached_directly_all_the_same(
    scheme: str,
    provider: ScriptedUpstream,
    serve: Serve,
    ca_file: str,
    environment: Callable[[str, str], None],
    why: str,
) -> None:
    """``NO_PROXY``, ``proxy: none``, or because it is on this machine."""
    async with ForwardProxy(provider.port) as proxy:
        environment("ALL_PROXY", proxy.url)
        if why == "no_proxy":
            environment("NO_PROXY", f"other.test, {NAME.partition('.')[2]}:1, {NAME.partition('.')[2]}")
        up = {"proxy": "none"} if why == "none" else {}
        name = "127.0.0.1" if why == "loopback" else NAME
        if scheme == "https":
            up["ca_file"] = ca_file
        gateway = await serve(f"{scheme}://{name}:{provider.port}", up=up)
        provider.answer = [PLAIN]
        answer = await ask(gateway.front_port, POST)
        assert proxy.asked == []
        assert answer.status == (200 if why == "loopback" else 502)  # nobody resolves the other name


REFUSALS = {
    "407": (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 6\r\n\r\nsecret", "HTTP 407"),
    "403": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nsecret", "HTTP 403"),
    "502": (b"HTTP/1.0 502 secret\r\n\r\nsecret", "HTTP 502"),
    "no HTTP": (b"220 secret ESMTP\r\n\r\n", "no answer to CONNECT"),
    "too long": (b"HTTP/1.1 200 OK\r\nX: " + b"secret" * 20_000, "no answer to CONNECT"),
    "nothing": (b"", "closed the connection"),
}  # fmt: skip


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("scheme", ["https"], indirect=True)
async def test_a_proxy_that_refuses_is_a_clean_502(
    provider: ScriptedUpstream, proxy: ForwardProxy, place: Any, serve: Serve, how: str, route: str
) -> None:
    """It says who refused and with what status, in the dialect of the route, and quotes nothing."""
    gateway = await serve(place[0], up=place[1] | {"proxy": proxy.url})
    proxy.refusal, told = REFUSALS[how]
    answer = await ask(gateway.front_port, request("POST", route, body=CHAT))
    error = json.loads(answer.body.content)["error"]
    assert answer.status == 502
    assert error["type"] == ("api_error" if route == "/v1/messages" else "upstream_error")
    assert "proxy" in error["message"]
    assert told in error["message"]
    assert b"secret" not in answer.head.raw + answer.body.content
    assert provider.seen == []
    proxy.refusal = None
    provider.answer = [PLAIN]
    assert (await ask(gateway.front_port, POST)).status == 200


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
async def test_a_proxy_may_send_interim_answers_before_it_agrees(
    provider: ScriptedUpstream, proxy: ForwardProxy, place: Any, serve: Serve
) -> None:
    """RFC 9110 15.2: a client must be able to read them, however many."""
    gateway = await serve(place[0], up=place[1] | {"proxy": proxy.url})
    proxy.interim = b"HTTP/1.1 102 Processing\r\nX-A: 1\r\n\r\n" * 2000
    provider.answer = [PLAIN]
    assert (await ask(gateway.front_port, POST)).status == 200


@pytest.mark.parametrize("scheme", ["https"], indirect=True)
async def test_words_behind_the_consent_of_a_proxy_are_not_taken_for_the_upstreams(
    provider: ScriptedUpstream, proxy: ForwardProxy, place: Any, serve: Serve
) -> None:
    """Who speaks before it was asked, speaks for somebody else."""
    gateway = await serve(place[0], up=place[1] | {"proxy": proxy.url})
    proxy.early = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    assert (await ask(gateway.front_port, POST)).status == 502
    assert provider.seen == []


@pytest.mark.parametrize("scheme", ["http"], indirect=True)
async def test_a_proxy_that_reads_requests_and_wants_credentials_is_a_clean_502(
    provider: ScriptedUpstream, proxy: ForwardProxy, place: Any, serve: Serve
) -> None:
    """Its 407 concerns the gateway, not the app; any other answer may be the upstream's own, and is passed on."""
    gateway = await serve(place[0], up=place[1] | {"proxy": proxy.url})
    proxy.refusal = REFUSALS["407"][0]
    answer = await ask(gateway.front_port, POST)
    error = json.loads(answer.body.content)["error"]
    assert (answer.status, error["code"]) == (502, "upstream_unreachable")
    assert "HTTP 407" in error["message"]
    assert answer.head.value(b"proxy-authenticate") is None
    proxy.refusal = REFUSALS["403"][0]
    assert (await ask(gateway.front_port, POST)).status == 403


async def test_a_proxy_that_is_not_there_is_named(scheme: str, serve: Serve, place: Any) -> None:
    gateway = await serve(place[0], up=place[1] | {"proxy": "http://127.0.0.1:9"})
    answer = await ask(gateway.front_port, POST)
    assert answer.status == 502
    assert "proxy on the way to the upstream refused" in json.loads(answer.body.content)["error"]["message"]


async def test_a_proxy_that_is_silent_runs_into_the_time_out(serve: Serve, place: Any, scheme: str) -> None:
    """``connect_timeout`` covers the way through it."""
    if scheme == "http":
        pytest.skip("there the request itself goes to the proxy")
    async with ScriptedUpstream() as silent:
        silent.read_body = False
        gateway = await serve(place[0], up=place[1] | {"proxy": silent.url, "connect_timeout": "200ms"})
        answer = await ask(gateway.front_port, POST)
        assert (answer.status, json.loads(answer.body.content)["error"]["code"]) == (504, "upstream_timeout")


async def test_web_sockets_go_through_a_tunnel(
    scheme: str,
    server_side: ssl.SSLContext,
    environment: Callable[[str, str], None],
    ca_file: str,
    place: Any,
    serve: Serve,
) -> None:
    """Without TLS too: a proxy that reads requests would not let go of the connection (RFC 6455 4.1)."""

    async def echo(asked: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(asked)
        async for message in socket:
            await socket.send_str(message.data + asked.headers["Host"])
        return socket

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_side if scheme == "https" else None).start()
    async with ForwardProxy(runner.addresses[0][1]) as proxy:
        gateway = await serve(place[0], up=place[1] | {"proxy": proxy.url})
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(gateway.front_url + "/v1/realtime?model=gpt-realtime") as client,
        ):
            await client.send_str("hello ")
            assert (await client.receive_str()) == f"hello {NAME}"
        assert [head.start.split(b":")[0] for head in proxy.asked] == [f"CONNECT {NAME}".encode()]
    await runner.cleanup()


async def test_the_log_says_what_goes_through_which_proxy(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """A variable that somebody set for something else is a surprise; its credentials are nobody's business."""
    await serve(f"https://{NAME}", up={"proxy": "https://u:canary@proxy.test"})
    told = capsys.readouterr().err
    assert "upstream up goes through the proxy https://proxy.test:443" in told
    assert "canary" not in told
