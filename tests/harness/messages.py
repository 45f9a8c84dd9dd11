"""HTTP/1.1 messages as bytes: heads, bodies, trailers, exactly as they came over a socket.

Owns the reading of one side of a connection. Must not know the gateway, and shares no code with it, so that a fault of its
parsers cannot hide itself. Law: nothing is normalised; what was received can be had byte for byte.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

PATIENCE_S = 20.0
"""No test waits longer than this for one read: a hang becomes a failure that says where."""


class CutOff(Exception):
    """The other side ended the connection in the middle of a message. ``how`` is ``eof`` or ``reset``."""

    def __init__(self, how: str, left: bytes) -> None:
        super().__init__(f"{how} after {left[-80:]!r}")
        self.how = how
        self.left = left


@dataclass(frozen=True, slots=True)
class Head:
    """A start line and fields. ``raw`` includes the blank line."""

    raw: bytes

    @property
    def start(self) -> bytes:
        """The first line, without its line end."""
        return self.raw.partition(b"\r\n")[0]

    @property
    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """(name, value) in order; optional white space around values is no part of them (RFC 9110 5.5)."""
        lines = self.raw[: -len(b"\r\n\r\n")].split(b"\r\n")[1:]
        pairs = (line.partition(b":") for line in lines)
        return tuple((name, value.strip(b" \t")) for name, _, value in pairs)

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, whatever its case."""
        return [value for each, value in self.fields if each.lower() == name.lower()]

    def value(self, name: bytes) -> bytes | None:
        """The first value of a field."""
        return next(iter(self.values(name)), None)

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.start.split(b" ", 2)[1])

    @property
    def reason(self) -> bytes:
        """Of a response."""
        parts = self.start.split(b" ", 2)
        return parts[2] if len(parts) > 2 else b""

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return any(value.lower().endswith(b"chunked") for value in self.values(b"transfer-encoding"))


@dataclass(slots=True)
class Body:
    """A body. ``framing`` is none, length, chunked or eof; ``whole`` is False when it was cut off (``ended`` says how)."""

    framing: str = "none"
    content: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    whole: bool = True
    ended: str = ""


class Incoming:
    """What one side of a connection sends. ``reads`` holds (monotonic seconds, size) of each read of the socket."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.buffer = bytearray()
        self.ended = ""
        self.reads: list[tuple[float, int]] = []

    async def fill(self, *, patience_s: float = PATIENCE_S) -> bool:
        """Read once into ``buffer``. False when the other side has ended."""
        if self.ended:
            return False
        try:
            async with asyncio.timeout(patience_s):
                piece = await self._reader.read(1 << 17)
        except (ConnectionError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"nothing came after {bytes(self.buffer[-120:])!r}") from None
            self.ended = "reset"
            return False
        if not piece:
            self.ended = "eof"
            return False
        self.reads.append((time.monotonic(), len(piece)))
        self.buffer += piece
        return True

    async def see(self, mark: bytes) -> None:
        """Until the buffer holds ``mark``; nothing is taken out."""
        while mark not in self.buffer:
            if not await self.fill():
                raise CutOff(self.ended, bytes(self.buffer))

    async def through(self, mark: bytes) -> bytes:
        """Take everything up to and with ``mark``."""
        await self.see(mark)
        return self._take(self.buffer.index(mark) + len(mark))

    async def exactly(self, count: int) -> bytes:
        """Take so many bytes."""
        while len(self.buffer) < count:
            if not await self.fill():
                raise CutOff(self.ended, bytes(self.buffer))
        return self._take(count)

    async def at_most(self, count: int) -> bytes:
        """Take what is there, waiting for at least one byte."""
        if not self.buffer and not await self.fill():
            raise CutOff(self.ended, b"")
        return self._take(min(count, len(self.buffer)))

    async def rest(self) -> bytes:
        """Everything until the other side ends."""
        while await self.fill():
            pass
        return self._take(len(self.buffer))

    def _take(self, count: int) -> bytes:
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken


async def read_head(incoming: Incoming) -> Head:
    """The next head, blank line included; CutOff when there is none."""
    return Head(await incoming.through(b"\r\n\r\n"))


def framing_of(head: Head, *, request: bool, method: str = "GET") -> str:
    """How the body of a message ends (RFC 9112 6.3)."""
    if not request and (method == "HEAD" or head.status in (204, 304) or head.status < 200):
        return "none"
    if head.is_chunked:
        return "chunked"
    if head.value(b"content-length") is not None:
        return "length"
    return "none" if request else "eof"


async def read_body(incoming: Incoming, head: Head, *, request: bool, method: str = "GET") -> Body:
    """The body to its end, or to where it was cut off."""
    body = Body(framing_of(head, request=request, method=method))
    pieces: list[bytes] = []
    try:
        async for piece in pieces_of(incoming, head, body):
            pieces.append(piece)
    except CutOff as cut:
        pieces.append(cut.left if body.framing != "chunked" else b"")
        body.whole, body.ended = body.framing == "eof" and cut.how == "eof", cut.how
    body.content = b"".join(pieces)
    if body.framing == "chunked":
        body.chunks = [piece for piece in pieces if piece]
    return body


async def pieces_of(incoming: Incoming, head: Head, body: Body) -> AsyncIterator[bytes]:
    """The body piece by piece: chunks as they were framed, else as much as each read brought. Fills ``body.trailers``."""
    if body.framing == "chunked":
        while (size := int((await incoming.through(b"\r\n")).partition(b";")[0], 16)) > 0:
            try:
                yield await incoming.exactly(size)
            except CutOff as cut:
                yield cut.left
                raise CutOff(cut.how, b"") from None
            if await incoming.exactly(2) != b"\r\n":
                raise ValueError("a chunk does not end where its size says")
        body.trailers = await _trailers(incoming)
    elif body.framing == "length":
        left = int(head.value(b"content-length") or b"0")
        while left:
            piece = await incoming.at_most(left)
            left -= len(piece)
            yield piece
    elif body.framing == "eof":
        while True:
            yield await incoming.at_most(1 << 20)


async def _trailers(incoming: Incoming) -> tuple[tuple[bytes, bytes], ...]:
    trailers: list[tuple[bytes, bytes]] = []
    while line := (await incoming.through(b"\r\n"))[:-2]:
        name, _, value = line.partition(b":")
        trailers.append((name, value.strip(b" \t")))
    return tuple(trailers)


def request(
    method: str,
    target: str | bytes,
    *fields: tuple[str | bytes, str | bytes],
    body: bytes = b"",
    host: str = "front.test",
) -> bytes:
    """A request as a plain client writes it: Host first, Content-Length where there is a body or POST has none."""
    lines = [b"%b %b HTTP/1.1" % (method.encode(), _bytes(target)), b"Host: " + host.encode()]
    lines += [b"%b: %b" % (_bytes(name), _bytes(value)) for name, value in fields]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def response(
    status: int, *fields: tuple[str | bytes, str | bytes], body: bytes | None = b"", reason: str | bytes = "OK"
) -> bytes:
    """A response with Content-Length; ``body=None`` writes neither body nor length."""
    lines = [b"HTTP/1.1 %d %b" % (status, _bytes(reason))]
    lines += [b"%b: %b" % (_bytes(name), _bytes(value)) for name, value in fields]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8")
