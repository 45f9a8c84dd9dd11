"""A forward proxy: joins tunnels (CONNECT), sends absolute-form requests on, and refuses as it is told.

Owns what a proxy between a gateway and its upstream may do. Must not know the gateway. Whatever upstream it is asked for, it
leads to ``to``: a name that nobody resolves will do. Law: it reads no more of a tunnel than the request for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Self

from tests.harness.messages import CutOff, Head, Incoming, read_head


class ForwardProxy:
    """Serves on 127.0.0.1. ``asked`` holds the head of each request; ``refusal`` is answered to all of them, in place of help."""

    def __init__(self, to: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.to = to
        self.asked: list[Head] = []
        self.connections = 0
        self.refusal: bytes | None = None
        self.interim = b""
        """Sent before the consent to a tunnel."""
        self.early = b""
        """Sent behind the consent to a tunnel."""
        self.port = 0
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._serve(Incoming(reader), reader, writer)
        except (CutOff, ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass  # one of the two sides left, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError, TimeoutError):
                await writer.wait_closed()

    async def _serve(self, incoming: Incoming, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(incoming)
        self.asked.append(head)
        if self.refusal is not None:
            writer.write(self.refusal)
            await writer.drain()
            return
        there = await asyncio.open_connection("127.0.0.1", self.to)
        if head.start.startswith(b"CONNECT "):
            writer.write(
                self.interim + b"HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\n\r\n" + self.early
            )
        else:
            there[1].write(self._onward(head))
        there[1].write(bytes(incoming.buffer))
        try:
            await asyncio.gather(_copy(reader, there[1], self._keep), _copy(there[0], writer))
        finally:
            there[1].close()

    def _onward(self, head: Head) -> bytes:
        """In origin-form, without what is the proxy's own."""
        method, target, version = head.start.split(b" ")
        path = b"/" + target.split(b"/", 3)[3]
        lines = [line for line in head.raw.split(b"\r\n")[1:] if not line.lower().startswith(b"proxy-")]
        return b"\r\n".join([b" ".join((method, path, version)), *lines])

    def _keep(self, piece: bytes) -> bytes:
        """Later requests on the same connection, as long as each comes in one piece."""
        head, ended, body = piece.partition(b"\r\n\r\n")
        if not ended or b" http://" not in head.partition(b"\r\n")[0]:
            return piece
        self.asked.append(Head(head + ended))
        return self._onward(self.asked[-1]) + body


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: object = None) -> None:
    while piece := await reader.read(1 << 16):
        writer.write(change(piece) if callable(change) else piece)
        await writer.drain()
    with contextlib.suppress(OSError, RuntimeError, NotImplementedError):
        writer.write_eof() if writer.can_write_eof() else writer.close()
