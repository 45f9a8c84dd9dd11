"""Real forward proxies in front of a scripted upstream: squid and tinyproxy, with credentials and without."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from tests.harness.gateways import config_for, in_process
from tests.harness.messages import request
from tests.harness.ports import free_port
from tests.harness.raw_client import ask
from tests.harness.rows import CHAT, PLAIN
from tests.harness.scripted import ScriptedUpstream

pytestmark = [pytest.mark.real]

POST = request("POST", "/up/v1/chat/completions", body=CHAT)
PASSWORD = "pass"
SQUID = """
http_port 127.0.0.1:{port}
pid_filename {folder}/squid.pid
access_log none
cache_log {folder}/squid.log
cache deny all
coredump_dir {folder}
shutdown_lifetime 0 seconds
pinger_enable off
cache_effective_user {user}
{access}
"""
SQUID_OPEN = "http_access allow all"
SQUID_CLOSED = "http_access deny all"
SQUID_ASKING = """
auth_param basic program {helper} {folder}/passwords
acl known proxy_auth REQUIRED
http_access allow known
"""
SQUID_HELPER = "/usr/lib/squid/basic_ncsa_auth"


class Started:
    """One proxy. ``url`` has the credentials that it knows."""

    def __init__(self, name: str, port: int, log: Path) -> None:
        self.name = name
        self.port = port
        self.log = log
        self.url = f"http://127.0.0.1:{port}"


@asynccontextmanager
async def squid(folder: Path, access: str) -> AsyncIterator[Started]:
    binary = shutil.which("squid") or shutil.which("squid", path="/usr/sbin")
    if binary is None:
        pytest.skip("there is no squid on this machine")
    if access is SQUID_ASKING and not Path(SQUID_HELPER).exists():
        pytest.skip("this squid has no basic_ncsa_auth")
    folder.chmod(0o777)  # squid of root becomes another user
    digest = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], capture_output=True, text=True, check=True).stdout
    (folder / "passwords").write_text(f"somebody:{digest}")
    port = free_port()
    user = "proxy" if getpass.getuser() == "root" else getpass.getuser()
    rules = access.format(helper=SQUID_HELPER, folder=folder)
    config = folder / "squid.conf"
    config.write_text(SQUID.format(port=port, folder=folder, user=user, access=rules))
    async with process([binary, "-N", "-f", str(config)], Started("squid", port, folder / "squid.log")) as started:
        if access is SQUID_ASKING:
            started.url = f"http://somebody:{PASSWORD}@127.0.0.1:{port}"
        yield started


@asynccontextmanager
async def tinyproxy(folder: Path, *, asking: bool) -> AsyncIterator[Started]:
    binary = shutil.which("tinyproxy")
    if binary is None:
        pytest.skip("there is no tinyproxy on this machine")
    port = free_port()
    config = folder / "tinyproxy.conf"
    access = f"BasicAuth somebody {PASSWORD}\n" if asking else ""
    config.write_text(f'Port {port}\nListen 127.0.0.1\nTimeout 60\nLogFile "{folder}/log"\nMaxClients 20\n{access}')
    async with process([binary, "-d", "-c", str(config)], Started("tinyproxy", port, folder / "log")) as started:
        if asking:
            started.url = f"http://somebody:{PASSWORD}@127.0.0.1:{port}"
        yield started


@asynccontextmanager
async def process(command: list[str], started: Started) -> AsyncIterator[Started]:
    running = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20):
            while True:
                if running.returncode is not None:
                    said = started.log.read_text()[-500:] if started.log.exists() else ""
                    raise RuntimeError(f"{started.name} did not start: {said}")
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", started.port)
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                break
        yield started
    finally:
        if running.returncode is None:
            running.terminate()
        await running.wait()


PROXIES: dict[str, Callable[[Path], Any]] = {
    "squid": lambda folder: squid(folder, SQUID_OPEN),
    "squid that asks who": lambda folder: squid(folder, SQUID_ASKING),
    "tinyproxy": lambda folder: tinyproxy(folder, asking=False),
    "tinyproxy that asks who": lambda folder: tinyproxy(folder, asking=True),
}


class Stage:
    """An upstream, a proxy and a gateway between them."""

    def __init__(self, upstream: ScriptedUpstream, proxy: Started, serve: Callable[..., Awaitable[Any]]) -> None:
        self.upstream = upstream
        self.proxy = proxy
        self.serve = serve


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def staged(folder: Path, scheme: str, made: Callable[[Path], Any]) -> AsyncIterator[Stage]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server_side = None
    if scheme == "https":
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(server_side)
    async with AsyncExitStack() as stack:
        own = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="tollgate-proxy-", ignore_cleanup_errors=True))
        )
        upstream = await stack.enter_async_context(ScriptedUpstream(tls=server_side))
        proxy = await stack.enter_async_context(made(own))

        async def serve(url: str, base_url: str = "") -> Any:
            base_url = base_url or f"{scheme}://localhost:{upstream.port}"
            up = {"proxy": url} | ({"ca_file": str(folder / "ca.pem")} if scheme == "https" else {})
            blocks = {"front": {"shutdown_grace": "200ms"}, "up": up}
            return await stack.enter_async_context(in_process(folder, config_for(folder, base_url, **blocks)))

        yield Stage(upstream, proxy, serve)


@pytest.mark.parametrize("kind", PROXIES)
async def test_calls_go_through_a_real_proxy(tmp_path: Path, kind: str, scheme: str) -> None:
    """Twice, the second time on the kept connection where there is a tunnel; the proxy's credentials stay with the proxy."""
    async with staged(tmp_path, scheme, PROXIES[kind]) as stage:
        gateway = await stage.serve(stage.proxy.url)
        stage.upstream.answer = [PLAIN]
        for _ in range(3):
            answer = await ask(gateway.front_port, POST)
            assert (answer.status, answer.body.content) == (200, b"answer")
        assert all(seen.head.value(b"proxy-authorization") is None for seen in stage.upstream.seen)
        assert [seen.body.content for seen in stage.upstream.seen] == [CHAT] * 3
        if scheme == "https":
            assert len({seen.connection for seen in stage.upstream.seen}) == 1


@pytest.mark.parametrize("kind", [name for name in PROXIES if "asks" in name])
async def test_a_real_proxy_that_does_not_know_us_is_a_clean_502(tmp_path: Path, kind: str, scheme: str) -> None:
    async with staged(tmp_path, scheme, PROXIES[kind]) as stage:
        gateway = await stage.serve(stage.proxy.url.replace("pass", "wrong"))
        answer = await ask(gateway.front_port, POST)
        assert stage.upstream.seen == []
        if scheme == "http" and stage.proxy.name == "tinyproxy":  # which says 401 in place of 407, as an upstream would
            assert answer.status == 401
            return
        assert answer.status == 502
        assert b"proxy on the way to the upstream refused" in answer.body.content
        assert b"HTTP 40" in answer.body.content


async def test_a_real_proxy_that_forbids_the_upstream_is_a_clean_502(tmp_path: Path) -> None:
    async with staged(tmp_path, "https", lambda folder: squid(folder, SQUID_CLOSED)) as stage:
        gateway = await stage.serve(stage.proxy.url)
        answer = await ask(gateway.front_port, POST)
        assert (answer.status, b"HTTP 403" in answer.body.content) == (502, True)


@pytest.mark.parametrize("kind", ["squid", "tinyproxy"])
async def test_web_sockets_and_streams_go_through_a_real_proxy(tmp_path: Path, kind: str, scheme: str) -> None:
    async def answer(asked: web.Request) -> web.StreamResponse:
        if "upgrade" in asked.headers:
            socket = web.WebSocketResponse()
            await socket.prepare(asked)
            async for message in socket:
                await socket.send_str(f"heard {message.data}")
            return socket
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(asked)
        await stream.write(b"data: first\n\n")
        await asyncio.wait_for(go_on.wait(), 20)
        await stream.write(b"data: second\n\n")
        return stream

    go_on = asyncio.Event()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    async with staged(tmp_path, scheme, PROXIES[kind]) as stage, aiohttp.ClientSession() as session:
        tls = stage.upstream._tls
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        gateway = await stage.serve(stage.proxy.url, f"{scheme}://localhost:{runner.addresses[0][1]}")
        async with session.ws_connect(gateway.front_url + "/v1/realtime?model=gpt-realtime") as client:
            await client.send_str("hello")
            assert await client.receive_str() == "heard hello"
        async with session.get(gateway.front_url + "/up/events") as stream:
            assert await stream.content.readexactly(13) == b"data: first\n\n"
            go_on.set()
            assert await stream.content.read() == b"data: second\n\n"
    await runner.cleanup()
