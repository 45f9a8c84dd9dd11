"""The raw client: a socket on which a test writes any bytes, and reads an answer as it came.

Owns the front's side of a test. Must not know the gateway. Law: what is asserted on was received, never inferred.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.harness.messages import Body, Head, Incoming, read_body, read_head


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: the 1xx heads before it, its head, its body."""

    head: Head
    body: Body
    interim: tuple[Head, ...] = field(default=())

    @property
    def status(self) -> int:
        """The final one."""
        return self.head.status


class RawClient:
    """One connection. Use ``connected``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.incoming = Incoming(reader)
        self.writer = writer

    async def send(self, piece: bytes) -> None:
        """Write, waiting while the other side does not keep up."""
        self.writer.write(piece)
        await self.writer.drain()

    async def head(self) -> Head:
        """The next head, interim or final."""
        return await read_head(self.incoming)

    async def answer(self, method: str = "GET") -> Answer:
        """The next whole answer; a body that is cut off is returned as such, a missing head raises CutOff."""
        interim: list[Head] = []
        while (head := await self.head()).status < 200 and head.status != 101:
            interim.append(head)
        return Answer(head, await read_body(self.incoming, head, request=False, method=method), tuple(interim))

    async def ask(self, request: bytes) -> Answer:
        """Send a request, read its answer."""
        await self.send(request)
        return await self.answer(request.partition(b" ")[0].decode("latin-1"))

    async def see(self, mark: bytes) -> None:
        """Until these bytes have come."""
        await self.incoming.see(mark)

    def finish_sending(self) -> None:
        """FIN: nothing more will be sent, answers are still welcome."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Leave with RST."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        """Leave with FIN."""
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


@asynccontextmanager
async def connected(
    port: int, *, tls: ssl.SSLContext | None = None, window: int = 0, source: str = ""
) -> AsyncIterator[RawClient]:
    """A connection to 127.0.0.1. ``window`` bounds the receive buffer in bytes, for a client that is to read slowly; ``source`` is the
    address to come from: all of 127.0.0.0/8 is this machine.
    """
    connection = socket.socket()
    if window:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    if source:
        connection.bind((source, 0))
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        name = "127.0.0.1" if tls else None
        reader, writer = await asyncio.open_connection(
            sock=connection, ssl=tls, server_hostname=name, limit=window or 1 << 16
        )
    except BaseException:
        connection.close()
        raise
    client = RawClient(reader, writer)
    try:
        yield client
    finally:
        await client.close()


async def ask(port: int, request: bytes, *, tls: ssl.SSLContext | None = None, source: str = "") -> Answer:
    """One request on a connection of its own."""
    async with connected(port, tls=tls, source=source) as client:
        return await client.ask(request)
