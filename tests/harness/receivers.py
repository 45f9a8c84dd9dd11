"""Receivers of telemetry, read with the official classes: what the gateway writes itself is checked by somebody else's reader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc.aio
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Receiver:
    """Listens on 127.0.0.1 for anything that is posted. ``answer`` gives the status of each request, or waits."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        """Path, header fields, body without its content coding."""
        self.answer: Callable[[], int] = lambda: 200
        self.retry_after = ""
        self.hang = False
        self._runner: web.AppRunner
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.hang:
            await asyncio.sleep(3600)
        status = self.answer()
        self.requests.append((request.path, dict(request.headers), body))
        if request.path.endswith("/experiments/get-by-name"):
            return web.json_response({"experiment": {"experiment_id": "1"}})
        return web.Response(status=status, headers={"Retry-After": self.retry_after} if self.retry_after else {})

    @property
    def spans(self) -> list[dict[str, Any]]:
        """All spans that came, in order."""
        return [
            each
            for path, _, body in self.requests
            if path.endswith("/traces")
            for each in spans_in(ExportTraceServiceRequest.FromString(body))
        ]

    @property
    def metrics(self) -> list[Any]:
        """The metrics of the latest push."""
        pushed = [body for path, _, body in self.requests if path.endswith("/metrics")]
        if not pushed:
            return []
        return metrics_in(ExportMetricsServiceRequest.FromString(pushed[-1]))

    async def until(self, enough: Callable[[], bool]) -> None:
        """Waits; fails after fifteen seconds."""
        async with asyncio.timeout(15):
            while not enough():
                await asyncio.sleep(0.02)


def value_of(value: Any) -> Any:
    """What an ``AnyValue`` holds."""
    kind = value.WhichOneof("value")
    found = getattr(value, kind)
    return [value_of(each) for each in found.values] if kind == "array_value" else found


def told(attributes: Any) -> dict[str, Any]:
    """``KeyValue``s as a dict."""
    return {each.key: value_of(each.value) for each in attributes}


def metrics_in(request: Any) -> list[Any]:
    """All metrics of a push."""
    return [each for group in request.resource_metrics for scope in group.scope_metrics for each in scope.metrics]


def spans_in(request: Any) -> list[dict[str, Any]]:
    """Spans with their attributes and their resource's."""
    return [
        {
            "trace_id": span.trace_id.hex(),
            "span_id": span.span_id.hex(),
            "parent_id": span.parent_span_id.hex(),
            "name": span.name,
            "kind": span.kind,
            "start_ns": span.start_time_unix_nano,
            "end_ns": span.end_time_unix_nano,
            "events": {event.name: event.time_unix_nano for event in span.events},
            "links": [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
            "status": span.status.code,
            "error": span.status.message,
            "resource": told(group.resource.attributes),
            "attributes": told(span.attributes),
        }
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


class GrpcReceiver:
    """The same over gRPC; behind TLS with a ``(key, certificate)``."""

    def __init__(self, certificate: tuple[bytes, bytes] | None = None) -> None:
        self._certificate = certificate
        self.spans: list[dict[str, Any]] = []
        self.metrics: list[Any] = []
        """Those of the latest push."""
        self.metadata: list[dict[str, str]] = []
        self.code: grpc.StatusCode | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        services = (
            ("trace.v1.Trace", ExportTraceServiceRequest, ExportTraceServiceResponse),
            ("metrics.v1.Metrics", ExportMetricsServiceRequest, ExportMetricsServiceResponse),
        )
        for service, asked, answered in services:
            handler = grpc.unary_unary_rpc_method_handler(
                self._take, request_deserializer=asked.FromString, response_serializer=answered.SerializeToString
            )
            name = f"opentelemetry.proto.collector.{service}Service"
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": handler}),))
        if self._certificate is not None:
            credentials = grpc.ssl_server_credentials([self._certificate])
            self.url = f"https://localhost:{self._server.add_secure_port('localhost:0', credentials)}"
        else:
            self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop(0)

    async def _take(self, request: Any, context: Any) -> Any:
        if self.code is not None:
            code, self.code = self.code, None
            await context.abort(code, "not now")
        self.metadata.append(dict(context.invocation_metadata()))
        if isinstance(request, ExportMetricsServiceRequest):
            self.metrics = metrics_in(request)
            return ExportMetricsServiceResponse()
        self.spans += spans_in(request)
        return ExportTraceServiceResponse()
