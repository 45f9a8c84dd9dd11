"""The traces that the config asks for: which receivers there are, and how each wants to be spoken to."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gateway.call import Record, Said
from gateway.dialects import transcript
from gateway.metering.charge import charge_again
from gateway.observe import console, otel_env, otlp, zipkin
from gateway.observe.exporter import Exporter, Transport
from gateway.observe.logs import MASK, SECRETS
from gateway.observe.mlflow import Mlflow, finisher
from gateway.observe.otel_env import Receiver
from gateway.observe.spans import Style
from gateway.observe.tracing import Form, Sampler, Traces
from gateway.observe.transports import Post, transport_to
from gateway.settings import Content, Observability, Tracing
from gateway.settle import Capture
from pricing.price import OUTPUT_UNITS
from pricing.usage import Usage

if TYPE_CHECKING:
    from gateway.watch import Watch
    from pricing.book import Book

LOCAL = {"http/protobuf": "http://localhost:4318", "grpc": "http://localhost:4317"}
"""Where Jaeger and Tempo listen, which speak OTLP themselves."""
PRESETS = {"otlp": "", "honeycomb": "https://api.honeycomb.io"}
ZIPKIN = "http://localhost:9411"
Count = Callable[[str, str, int], None]


def tracers(
    observability: Observability, count: Count, book: Callable[[], Book], environ: Mapping[str, str] = os.environ
) -> list[Traces]:
    """A sink for each receiver. ``count`` is told what became of spans, ``book`` gives the prices in force. Raises
    Failure for gRPC without its package.
    """
    found = []
    tracing, mlflow = observability.tracing, observability.mlflow
    rate = otel_env.sample_rate(tracing.sample_rate, environ)
    sampler = Sampler(rate, tracing.always_on_error, tracing.always_over_nanousd)
    resource = otel_env.resource(environ)
    latest = otel_env.is_latest(environ)
    if tracing.enabled and not otel_env.is_off(environ):
        transport, form = _receiver(tracing, environ)
        exporter = Exporter("traces", transport, count)
        found.append(Traces(exporter, form, sampler, Style(latest), resource, content=tracing.capture_content))
    if mlflow.enabled:
        server = Mlflow(mlflow.tracking_uri, mlflow.experiment, mlflow.username, mlflow.password.reveal())
        found.append(
            Traces(
                Exporter("mlflow", server, count),
                otlp,
                sampler,
                Style(latest, own_root=True, brief=True),
                resource,
                content=mlflow.capture_content,
                finish=finisher(lambda record: split_cost(book(), record)),
            )
        )
    return found


def _receiver(tracing: Tracing, environ: Mapping[str, str]) -> tuple[Transport, Form]:
    if tracing.exporter == "console":
        return console.Screen(), console
    headers = {name: value.reveal() for name, value in tracing.headers.items()}
    if tracing.exporter == "zipkin":
        url = otel_env.with_scheme(tracing.endpoint or ZIPKIN).rstrip("/")
        url = url if url.endswith(zipkin.PATH) else url + zipkin.PATH
        found = Receiver(url, "http/json", 10.0, False, "", tuple(headers.items()))
        return Post(found, "application/json"), zipkin
    endpoint = tracing.endpoint or PRESETS.get(tracing.exporter, LOCAL[tracing.protocol])
    to = otel_env.receiver("traces", endpoint, tracing.protocol, headers, environ)
    return transport_to(to, "traces"), otlp


def split_cost(book: Book, record: Record) -> tuple[int, int]:
    """Nano-dollars of input and of output: what the input alone would have cost, and the rest."""
    used = Usage(**{unit: count for unit, count in record.usage.items() if unit not in OUTPUT_UNITS})
    told = {name: getattr(record, name) for name in CHARGED_BY}
    of_input = min(record.cost_nanousd, charge_again(book, told, used).nanousd)
    return of_input, record.cost_nanousd - of_input


CHARGED_BY = (
    "usage_source", "model_served", "service_tier", "usage_raw", "largest_input", "priced_as", "model_requested",
    "started_at", "provider",
)  # fmt: skip


def capturer(content: Content, wants: Callable[[Record], bool]) -> Capture:
    """What was said in calls that somebody ``wants`` to know it of: redacted, and no longer than the config allows."""
    patterns = [re.compile(pattern) for pattern in content.redact]
    most = content.max_kb * 1024

    def redact(text: str) -> str:
        text = SECRETS.sub(MASK, text)
        for pattern in patterns:
            text = pattern.sub(MASK, text)
        return text

    def capture(watch: Watch, record: Record) -> Callable[[], Said] | None:
        request = watch.call.request
        if request is None or not wants(record):
            return None
        body = request.body or b""
        return lambda: Said(transcript.asked(body, redact, most), transcript.answered(watch.reading, redact, most))

    return capture
