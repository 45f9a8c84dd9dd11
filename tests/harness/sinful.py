"""A proxy that does on purpose what other proxies do by accident: the proof that the comparison can fail.

Owns one sin at a time, applied to the bytes of a request or an answer. Without a sin it is transparent enough to pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.harness.messages import CutOff, Head, Incoming, read_body, read_head
from tests.harness.raw_client import connected

Sin = Callable[[bytes], bytes]


def innocent(message: bytes) -> bytes:
    """No sin."""
    return message


@asynccontextmanager
async def proxy(
    upstream_port: int, *, prefix: bytes, on_request: Sin = innocent, on_answer: Sin = innocent
) -> AsyncIterator[int]:
    """Serves one request a connection, and yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            incoming = Incoming(reader)
            head = await read_head(incoming)
            body = await read_body(incoming, head, request=True)
            request = _forwarded(head, prefix, upstream_port) + body.content
            async with connected(upstream_port) as client:
                await client.send(on_request(request))
                writer.write(on_answer(await _whole_answer(client.incoming, head)))
        except CutOff:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def _forwarded(head: Head, prefix: bytes, upstream_port: int) -> bytes:
    """Each thing that a gateway may do, and no other."""
    lines = [head.start.replace(prefix, b"", 1)]
    for name, value in head.fields:
        if name.lower() == b"host":
            lines.append(b"Host: 127.0.0.1:%d" % upstream_port)
        elif not name.lower().startswith(b"x-tollgate-") and name.lower() != b"connection":
            lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\nVia: 1.1 sinful\r\n\r\n"


async def _whole_answer(incoming: Incoming, request: Head) -> bytes:
    """The answer byte for byte, framing included."""
    head = await read_head(incoming)
    if not head.is_chunked:
        body = await read_body(incoming, head, request=False, method=request.start.partition(b" ")[0].decode())
        return head.raw + body.content
    raw = head.raw + await incoming.through(b"\r\n0\r\n")
    while not raw.endswith(b"\r\n\r\n"):
        raw += await incoming.through(b"\r\n")
    return raw
