"""WebSocket: a real client, the gateway, a real server. What one end sends the other end gets, and nothing else."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import trustme
from aiohttp import WSMsgType, web
from yarl import URL

from tests.front_door.conftest import Serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

REALTIME = "/v1/realtime?model=gpt-4o-realtime-preview&x=%2F"
Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


class RealServer:
    """An aiohttp server whose every path is a WebSocket. ``talk`` is what it does on one; ``sockets`` and ``requests`` are kept."""

    def __init__(self) -> None:
        self.talk: Talk = echo
        self.options: dict[str, Any] = {}
        self.sockets: list[web.WebSocketResponse] = []
        self.requests: list[web.Request] = []
        self.ended = asyncio.Event()
        self.url = ""

    async def answer(self, asked: web.Request) -> web.StreamResponse:
        """Agree, talk, remember."""
        socket = web.WebSocketResponse(autoping=False, max_msg_size=0, **self.options)
        await socket.prepare(asked)
        self.requests.append(asked)
        self.sockets.append(socket)
        try:
            await self.talk(socket)
        finally:
            self.ended.set()
        return socket


async def echo(socket: web.WebSocketResponse) -> None:
    """Each frame back as it came, pings as pongs."""
    async for message in socket:
        if message.type is WSMsgType.PING:
            await socket.pong(message.data)
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)


@pytest_asyncio.fixture(params=["plain", "tls"], loop_scope="module")
async def server(request: pytest.FixtureRequest, authority: trustme.CA) -> AsyncIterator[RealServer]:
    """A real WebSocket server, once in the open and once behind TLS."""
    made = RealServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    tls = None
    if request.param == "tls":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    made.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="module")
async def connect(server: RealServer, ca_file: str, serve: Serve) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Opens a WebSocket through a gateway to the server; keyword arguments are the client's."""
    gateway = await serve(server.url, up={"ca_file": ca_file} if server.url.startswith("https") else {})
    async with aiohttp.ClientSession() as session:

        async def start(**options: Any) -> aiohttp.ClientWebSocketResponse:
            return await session.ws_connect(
                URL(gateway.front_url + REALTIME, encoded=True),
                autoping=False,
                max_msg_size=0,
                timeout=aiohttp.ClientWSTimeout(),
                **options,
            )

        yield start


async def test_messages_pass_frame_by_frame(server: RealServer, connect: Any) -> None:
    """Text, binary, empty and a megabyte, each answered before the next is sent: nothing waits for company."""
    client = await connect()
    for text in ("hello", "", "\u00e9 \u4e16 \U0001f600", "x" * 126, "y" * 65536):
        await client.send_str(text)
        assert (await client.receive(10))[:2] == (WSMsgType.TEXT, text)
    for data in (b"", b"\x00\xff\x88\x81", bytes(range(256)) * 300, random.Random(1).randbytes(1 << 20)):
        await client.send_bytes(data)
        assert (await client.receive(10))[:2] == (WSMsgType.BINARY, data)
    await client.close()


async def test_pings_are_answered_by_the_other_end(server: RealServer, connect: Any) -> None:
    """With the data that they carried; the gateway neither answers nor sends any of its own."""
    client = await connect()
    await client.ping(b"are you there")
    assert (await client.receive(10))[:2] == (WSMsgType.PONG, b"are you there")
    await server.sockets[0].ping(b"and you?")
    assert (await client.receive(10))[:2] == (WSMsgType.PING, b"and you?")
    await client.close()


async def test_the_handshake_is_the_two_ends_own(server: RealServer, connect: Any) -> None:
    """Target, subprotocols, key, credentials and other fields arrive; the server's choice comes back."""
    server.options = {"protocols": ("realtime", "other")}
    client = await connect(
        protocols=("openai-insecure-api-key.sk-1", "realtime"),
        headers={"Authorization": "Bearer sk-app", "OpenAI-Beta": "realtime=v1"},
    )
    asked = server.requests[0]
    assert (client.protocol, asked.raw_path) == ("realtime", REALTIME)
    assert asked.headers["Sec-WebSocket-Protocol"] == "openai-insecure-api-key.sk-1,realtime"
    assert (asked.headers["Authorization"], asked.headers["OpenAI-Beta"]) == ("Bearer sk-app", "realtime=v1")
    await client.close()


@pytest.mark.parametrize("compressed", [True, False])
async def test_compression_is_agreed_between_the_ends(server: RealServer, connect: Any, compressed: bool) -> None:
    """``Sec-WebSocket-Extensions`` goes both ways as it stands: offered and taken, offered and declined."""
    server.options = {"compress": compressed}
    client = await connect(compress=15)
    assert "permessage-deflate" in server.requests[0].headers["Sec-WebSocket-Extensions"]
    assert bool(client.compress) is compressed
    assert bool(server.sockets[0].compress) is compressed
    text = "the same words again and again " * 5000
    await client.send_str(text)
    assert (await client.receive(10)).data == text
    await client.close()


@pytest.mark.parametrize(("code", "reason"), [(1000, b""), (1001, b"going"), (4002, "caf\u00e9".encode())])
@pytest.mark.parametrize("who", ["client", "server"])
async def test_a_close_is_told_to_the_other_end(
    server: RealServer, connect: Any, who: str, code: int, reason: bytes
) -> None:
    """Code and reason arrive, whoever closes; nobody has to wait for a time-out."""
    client = await connect()
    if who == "client":
        await client.close(code=code, message=reason)
        await asyncio.wait_for(server.ended.wait(), 10)
        assert server.sockets[0].close_code == code
    else:
        closing = asyncio.create_task(server.sockets[0].close(code=code, message=reason))
        message = await client.receive(10)
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, code, reason.decode())
        await asyncio.wait_for(closing, 10)
        assert client.close_code == code


async def test_a_client_that_vanishes_takes_the_upstream_with_it(server: RealServer, connect: Any) -> None:
    """No close frame, just gone: the server sees the same."""
    client = await connect()
    await client.send_str("x")
    await client.receive(10)
    client._response.connection.transport.abort()
    await asyncio.wait_for(server.ended.wait(), 10)
    assert server.sockets[0].close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE


async def test_an_upstream_that_vanishes_takes_the_client_with_it(server: RealServer, connect: Any) -> None:
    """No close frame is made up."""

    async def vanish(socket: web.WebSocketResponse) -> None:
        await socket.send_str("last words")
        server.requests[0].transport.close()  # type: ignore[union-attr]

    server.talk = vanish
    client = await connect()
    assert (await client.receive(10)).data == "last words"
    message = await client.receive(10)
    assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
    assert client.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE


async def test_fifty_conversations_run_side_by_side(server: RealServer, connect: Any) -> None:
    """None gets what belongs to another."""

    async def converse(number: int) -> None:
        client = await connect()
        for turn in range(10):
            await client.send_str(f"{number}:{turn}")
            assert (await client.receive(10)).data == f"{number}:{turn}"
        await client.close()

    await asyncio.gather(*(converse(number) for number in range(50)))
