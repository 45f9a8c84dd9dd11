"""The standard ``OTEL_*`` variables, for what the config leaves open.

Source: OpenTelemetry specification, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter". A key that
the config sets goes before a variable; a variable for one signal goes before the one for all.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from gateway import __version__
from gateway.value import value

PATHS = {"traces": "/v1/traces", "metrics": "/v1/metrics"}
GRPC = "grpc"
EXPORT_INTERVAL_S = 60.0
"""The default, which a variable may change."""


@value
class Receiver:
    """Where one signal goes. ``headers`` may hold secrets, so that they never stand in a ``repr``."""

    endpoint: str
    protocol: str
    timeout_s: float
    gzip: bool
    ca_file: str
    _headers: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return f"Receiver({self.endpoint!r}, {self.protocol!r})"

    @property
    def headers(self) -> dict[str, str]:
        """Sent along with each request."""
        return dict(self._headers)


def receiver(
    signal: str, endpoint: str, protocol: str, headers: Mapping[str, str], environ: Mapping[str, str]
) -> Receiver:
    """The receiver of a signal (traces, metrics). An ``endpoint`` without a path gets the signal's; "" is the variables' own,
    else this machine's.
    """
    found = _found(signal, environ)
    protocol = GRPC if GRPC in (protocol, "" if endpoint else found("PROTOCOL")) else "http/protobuf"
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "")
    shared = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if protocol == GRPC:
        url = endpoint or own or shared or "http://localhost:4317"
    else:
        url = (
            _with_path(endpoint, signal)
            if endpoint
            else own or _joined(with_scheme(shared or "localhost:4318"), signal)
        )
    told = {name.lower(): value for name, value in (*_pairs(found("HEADERS")), *headers.items())}
    return Receiver(
        url,
        protocol,
        _milliseconds(found("TIMEOUT"), 10.0),
        (found("COMPRESSION") or ("gzip" if url.lower().startswith("https:") else "")) == "gzip",
        found("CERTIFICATE"),
        tuple(told.items()),
    )


def _found(signal: str, environ: Mapping[str, str]) -> Callable[[str], str]:
    def look(name: str) -> str:
        return environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}") or environ.get(
            f"OTEL_EXPORTER_OTLP_{name}", ""
        )

    return look


def with_scheme(endpoint: str) -> str:
    """HOST:PORT is an address, too."""
    return endpoint if "://" in endpoint else f"http://{endpoint}"


def _with_path(endpoint: str, signal: str) -> str:
    url = with_scheme(endpoint)
    _, _, rest = url.partition("://")
    return url if "/" in rest.rstrip("/") else _joined(url, signal)


def _joined(url: str, signal: str) -> str:
    return url.rstrip("/") + PATHS[signal]


def _pairs(text: str) -> list[tuple[str, str]]:
    """``k=v,k=v``, percent-encoded as in W3C Baggage."""
    pairs = [part.partition("=") for part in text.split(",") if "=" in part]
    return [(unquote(key.strip()), unquote(value.strip())) for key, _, value in pairs]


def _milliseconds(text: str, otherwise: float) -> float:
    try:
        return max(0.1, float(text) / 1000)
    except ValueError:
        return otherwise


def is_off(environ: Mapping[str, str]) -> bool:
    """Whether all telemetry over OTLP is switched off (``OTEL_SDK_DISABLED``)."""
    return environ.get("OTEL_SDK_DISABLED", "").lower() == "true"


def is_latest(environ: Mapping[str, str]) -> bool:
    """Whether the newest names of the GenAI conventions are wanted."""
    return "gen_ai_latest_experimental" in environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "")


def sample_rate(configured: float, environ: Mapping[str, str]) -> float:
    """The share that is traced: the config's, else what ``OTEL_TRACES_SAMPLER`` and its argument say."""
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").removeprefix("parentbased_")
    if configured != 1.0 or not sampler or sampler == "always_on":
        return configured
    if sampler == "always_off":
        return 0.0
    try:
        return min(1.0, max(0.0, float(environ.get("OTEL_TRACES_SAMPLER_ARG", "1"))))
    except ValueError:
        return configured


def export_interval(configured_s: float, environ: Mapping[str, str]) -> float:
    """How often metrics are pushed: as the config says, else ``OTEL_METRIC_EXPORT_INTERVAL`` (milliseconds)."""
    if configured_s != EXPORT_INTERVAL_S:
        return configured_s
    return max(0.1, _milliseconds(environ.get("OTEL_METRIC_EXPORT_INTERVAL", ""), configured_s))


def resource(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What tells this process from others (semantic conventions, service.*), of the same host too: their sums are not one."""
    instance = f"{socket.gethostname()}-{os.getpid()}"
    told = {"service.name": "tollgate", "service.version": __version__, "service.instance.id": instance}
    told |= dict(_pairs(environ.get("OTEL_RESOURCE_ATTRIBUTES", "")))
    if environ.get("OTEL_SERVICE_NAME"):
        told["service.name"] = environ["OTEL_SERVICE_NAME"]
    return tuple((_utf8(key), _utf8(value)) for key, value in told.items())


def of_worker(environ: Mapping[str, str], number: int) -> str:
    """``OTEL_RESOURCE_ATTRIBUTES`` for one of several workers: what names an instance must not name all of them."""
    pairs = environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    return ",".join(f"{pair}-{number}" if pair.strip().startswith("service.instance.id=") else pair for pair in pairs)


def _utf8(text: str) -> str:
    """Without the half characters that stand for what is no UTF-8 in the environment: nothing could be written with them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
