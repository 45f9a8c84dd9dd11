"""The scripted upstream: a TCP (or TLS) server that keeps each request byte for byte and plays a script in answer.

Owns what a provider may do to a gateway, each byte and each ending of it. Must not know the gateway. Law: it plays what the
script says and nothing else: no Date, no Server, no framing of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self

from tests.harness.messages import PATIENCE_S, Body, CutOff, Head, Incoming, framing_of, pieces_of, read_body, read_head


class End(Enum):
    """How a script may end a connection; without one it stays open for the next request."""

    CLOSE = auto()
    """FIN in both directions, after everything was sent."""
    HALF_CLOSE = auto()
    """FIN after what was sent; the other side may still send."""
    RESET = auto()
    """RST: SO_LINGER of zero seconds."""


@dataclass(slots=True)
class Seen:
    """One request as the upstream saw it. ``gone`` is set when its sender closed while the script was playing."""

    connection: int
    head: Head
    body: Body = field(default_factory=Body)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def method(self) -> bytes:
        """Of the request line."""
        return self.head.start.split(b" ")[0]

    @property
    def target(self) -> bytes:
        """Of the request line."""
        return self.head.start.split(b" ")[1]


class Wire:
    """The upstream's end of one connection, for steps that are functions."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.incoming = Incoming(reader)
        self.writer = writer
        self.sent_bytes = 0

    async def send(self, piece: bytes) -> None:
        """Write, and wait while the other side does not keep up."""
        self.writer.write(piece)
        await self.writer.drain()
        self.sent_bytes += len(piece)

    def reset(self) -> None:
        """Drop the connection with RST."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Step = bytes | float | asyncio.Event | End | Callable[[Wire, Seen], Awaitable[None]]
"""Bytes to send, seconds to pause, an event to wait for, an end, or a function that does as it likes."""
Script = Sequence[Step]
Answer = Script | Callable[[Seen], Script]


class ScriptedUpstream:
    """Serves on 127.0.0.1. ``answer`` is the script of every request, or a function from request to script; ``greeting``
    is played on each new connection before anything is read; with ``read_body`` off a script starts at the head.
    """

    def __init__(self, answer: Answer = (), *, tls: ssl.SSLContext | None = None) -> None:
        self.forget()
        self.answer = answer
        self.wires: list[Wire] = []
        self.port = 0
        self._tls = tls
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Refuse connections from now on and drop those that are open."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        for wire in self.wires:
            with contextlib.suppress(
                AttributeError
            ):  # Python 3.11.2: a TLS transport that was closed twice has no protocol
                wire.writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self) -> None:
        """As new, but for the connections that are open."""
        self.answer: Answer = ()
        self.greeting: Script = ()
        self.read_body = True
        self.keep_content = True
        self.seen: list[Seen] = []

    @property
    def url(self) -> str:
        """Its address, without a final slash."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def request(self, number: int = 0) -> Seen:
        """The request of that number, as soon as its head (and body, if read) is here."""
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(lambda: len(self.seen) > number)
        return self.seen[number]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        wire = Wire(len(self.wires), reader, writer)
        self.wires.append(wire)
        try:
            await self._serve(wire)
        except (ConnectionError, CutOff, ssl.SSLError, asyncio.CancelledError):
            pass  # the other side left, or the test is over: both are what scripts are for
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError, TimeoutError):
                await writer.wait_closed()

    async def _serve(self, wire: Wire) -> None:
        if await self._play(wire, None, self.greeting):
            return
        while True:
            try:
                seen = Seen(wire.number, await read_head(wire.incoming))
            except TimeoutError:
                if wire.incoming.buffer:
                    raise
                return  # kept open by the other side, which owes it no request
            if self.read_body:
                await self._read(wire, seen)
            async with self._arrived:
                self.seen.append(seen)
                self._arrived.notify_all()
            script = self.answer(seen) if callable(self.answer) else self.answer
            watching = asyncio.create_task(_watch(wire, seen)) if self.read_body else None
            try:
                if await self._play(wire, seen, script):
                    return
            except ConnectionError:
                seen.gone.set()
                raise
            finally:
                if watching is not None:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)

    async def _read(self, wire: Wire, seen: Seen) -> None:
        if self.keep_content:
            seen.body = await read_body(wire.incoming, seen.head, request=True)
            return
        seen.body = Body(framing_of(seen.head, request=True))
        async for _ in pieces_of(wire.incoming, seen.head, seen.body):
            pass

    async def _play(self, wire: Wire, seen: Seen | None, script: Script) -> bool:
        """True when the script ended the connection."""
        for step in script:
            if isinstance(step, bytes):
                await wire.send(step)
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif step is End.CLOSE:
                return True
            elif step is End.HALF_CLOSE:
                wire.writer.write_eof()
            elif step is End.RESET:
                wire.reset()
                return True
            elif callable(step) and seen is not None:
                await step(wire, seen)
        return False


async def _watch(wire: Wire, seen: Seen) -> None:
    """While a script plays nothing more is to come: what ends this is the other side leaving."""
    while await wire.incoming.fill(patience_s=3600):
        pass
    seen.gone.set()
