"""Where traces go: the address that a receiver listens on, as the config names it."""

from __future__ import annotations

import pytest

from gateway.observe.transports import Post
from gateway.settings import Observability, Tracing
from gateway.tracers import tracers
from pricing.book import Book


def book() -> Book:
    raise AssertionError("nobody asks for prices here")


@pytest.mark.parametrize(
    ("exporter", "endpoint", "protocol", "expected"),
    [
        ("zipkin", "", "http/protobuf", "http://localhost:9411/api/v2/spans"),
        ("zipkin", "zipkin:9411", "http/protobuf", "http://zipkin:9411/api/v2/spans"),
        ("zipkin", "http://z/api/v2/spans/", "http/protobuf", "http://z/api/v2/spans"),
        ("jaeger", "", "http/protobuf", "http://localhost:4318/v1/traces"),
        ("jaeger", "", "grpc", "http://localhost:4317"),
        ("tempo", "", "grpc", "http://localhost:4317"),
        ("tempo", "tempo:4317", "grpc", "tempo:4317"),
        ("honeycomb", "", "http/protobuf", "https://api.honeycomb.io/v1/traces"),
        ("honeycomb", "", "grpc", "https://api.honeycomb.io"),
    ],
)
def test_the_address_of_a_receiver(exporter: str, endpoint: str, protocol: str, expected: str) -> None:
    """HOST:PORT is an address too; OTLP over gRPC has its own port."""
    tracing = Tracing(enabled=True, exporter=exporter, endpoint=endpoint, protocol=protocol)
    [traces] = tracers(Observability(tracing=tracing), lambda *told: None, book, {})
    transport = traces.exporter._transport
    assert transport._receiver.endpoint == expected  # type: ignore[attr-defined]
    assert isinstance(transport, Post) == (protocol != "grpc")
