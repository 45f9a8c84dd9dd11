"""How a request with telemetry gets to its receiver: posted over HTTP, or over gRPC. Both say alike what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ssl
from typing import Any

import aiohttp

from gateway.errors import Failure, Kind, Whose
from gateway.observe.exporter import Away, Refused, Transport
from gateway.observe.otel_env import GRPC, Receiver
from gateway.trust import trusted

GZIP_ABOVE = 1024
MOST_ANSWER_BYTES = 64 << 10
ANSWER_S = 2.0
"""What is read of an answer's body, and for how long: its status has said all."""
TRANSIENT = frozenset((408, 429, 502, 503, 504))
METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
PLAIN = {"Accept-Encoding": "identity"}
TRANSIENT_CODES = frozenset(("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"))
"""OTLP specification 1.9, "OTLP/gRPC response": these are tried again."""


class Post:
    """OTLP over HTTP, or anything else that is posted."""

    def __init__(self, receiver: Receiver, content_type: str = "application/x-protobuf") -> None:
        self._receiver = receiver
        self._content_type = content_type
        self._session: aiohttp.ClientSession | None = None

    async def send(self, body: bytes) -> None:
        """See Transport."""
        session = self._session or await self._open()
        headers = {"Content-Type": self._content_type, **PLAIN, **self._receiver.headers}
        if self._receiver.gzip and len(body) > GZIP_ABOVE:
            body = await asyncio.to_thread(gzip.compress, body, 1)
            headers["Content-Encoding"] = "gzip"
        try:
            # A redirect would turn the POST into a GET that takes nothing, and give our headers to another host.
            async with session.post(
                self._receiver.endpoint, data=body, headers=headers, allow_redirects=False
            ) as answer:
                judge(answer.status, answer.headers.get("Retry-After", ""))
                await read_some(answer)  # so that the connection can be used again
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as error:
            raise Away(type(error).__name__) from None
        except aiohttp.InvalidURL:
            raise Refused("the endpoint is no address") from None

    async def _open(self) -> aiohttp.ClientSession:
        own = self._receiver.ca_file
        tls = ssl.create_default_context(cafile=own) if own else await trusted()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._receiver.timeout_s),
            connector=aiohttp.TCPConnector(ssl=tls, limit=2),
            trust_env=True,
            auto_decompress=False,
        )
        return self._session

    async def close(self) -> None:
        """See Transport."""
        if self._session is not None:
            await self._session.close()


async def read_some(answer: aiohttp.ClientResponse) -> bytes:
    """The first 64 KiB of a body, or what comes of them in two seconds, not unpacked: it may be endless. Raises nothing."""
    found = b""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(ANSWER_S):
            while len(found) < MOST_ANSWER_BYTES and (
                more := await answer.content.read(MOST_ANSWER_BYTES - len(found))
            ):
                found += more
    return found


def judge(status: int, retry_after: str) -> None:
    """Nothing for a request that was taken; raises Away or Refused for another."""
    if status < 300:
        return
    if status in TRANSIENT:
        seconds = retry_after if retry_after.isascii() and retry_after.isdigit() else "0"
        raise Away(f"status {status}", float(seconds))
    raise Refused(f"status {status}")


class Grpc:
    """OTLP over gRPC; needs the package ``grpcio``."""

    def __init__(self, receiver: Receiver, signal: str) -> None:
        """ImportError without the package."""
        import grpc  # noqa: PLC0415 - 30 MB that nobody else needs
        import grpc.aio  # noqa: PLC0415

        self._grpc: Any = grpc
        self._receiver = receiver
        self._signal = signal
        self._channel: Any = None
        self._call: Any = None

    async def send(self, body: bytes) -> None:
        """See Transport."""
        if self._call is None:
            self._open()
        metadata = tuple(self._receiver.headers.items())
        try:
            await self._call(body, timeout=self._receiver.timeout_s, metadata=metadata)
        except self._grpc.aio.AioRpcError as error:
            code = error.code()
            if code.name in TRANSIENT_CODES:
                raise Away(code.name) from None
            raise Refused(code.name) from None

    def _open(self) -> None:
        scheme, _, rest = self._receiver.endpoint.rpartition("://")
        target = rest.partition("/")[0]  # gRPC has paths of its own
        options = {"compression": self._grpc.Compression.Gzip} if self._receiver.gzip else {}
        if scheme.lower() == "https":
            roots = None
            if self._receiver.ca_file:
                with open(self._receiver.ca_file, "rb") as file:  # noqa: PTH123
                    roots = file.read()
            credentials = self._grpc.ssl_channel_credentials(roots)
            self._channel = self._grpc.aio.secure_channel(target, credentials, **options)
        else:
            self._channel = self._grpc.aio.insecure_channel(target, **options)
        self._call = self._channel.unary_unary(METHODS[self._signal])

    async def close(self) -> None:
        """See Transport."""
        if self._channel is not None:
            await self._channel.close()


def transport_to(receiver: Receiver, signal: str) -> Transport:
    """The transport that the receiver's protocol asks for. Raises Failure for gRPC without its package."""
    if receiver.protocol != GRPC:
        return Post(receiver)
    try:
        return Grpc(receiver, signal)
    except ImportError:
        raise Failure(
            Kind.INTERNAL,
            Whose.OURS,
            f"{signal.capitalize()} over gRPC need its package: pip install 'llm-tollgate[grpc]'.",
        ) from None
