"""The shape of the config, the part about what is told of calls: log, metrics, traces, MLflow, health, targets, alerts.

As ``settings``, which takes these blocks in; the laws of that file hold here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.kinds import (
    ADDRESS,
    ENDPOINT,
    FLAG,
    HEADERS,
    LABEL,
    MONEY_OR_NONE,
    PATTERN,
    RATIO,
    SECRET,
    TEXT,
    URL,
    WORD,
    Secret,
    block,
    duration,
    list_of,
    one_of,
    whole,
)
from gateway.observe.events import KINDS
from gateway.settings_key import key
from gateway.value import value

CALLER_LABELS = ("team", "agent", "call_type")


@value
class Logging:
    """The gateway's log, on standard output."""

    level: str = key("info", one_of("debug", "info", "warning", "error"), "Least level of the gateway's own messages.")
    format: str = key("json", one_of("json", "console"), "One JSON object a line, or a line for people.")
    sample_rate: float = key(1.0, RATIO, "Share of the calls that are logged; those that failed always are.")
    content: bool = key(False, FLAG, "Whether what was said stands in the log, redacted as content says.")
    access: bool = key(False, FLAG, "Whether each request to the admin listener is logged.")


@value
class Otlp:
    """Metrics pushed over OTLP."""

    enabled: bool = key(False, FLAG, "Whether metrics are pushed, beside being scraped.")
    endpoint: str = key("", ENDPOINT, "Where to; empty = OTEL_EXPORTER_OTLP_ENDPOINT, else http://localhost:4318.")
    protocol: str = key("http/protobuf", one_of("http/protobuf", "grpc"), "How.")
    headers: Mapping[str, Secret] = key(MappingProxyType({}), HEADERS, "Sent along: {authorization: Bearer ...}.")
    interval: float = key(60.0, duration(1, 3600), "How often.")


@value
class Metrics:
    """Prometheus metrics."""

    labels: tuple[str, ...] = key(CALLER_LABELS, list_of(LABEL), "The caller's; also user, key_name, tags.NAME.")
    max_label_values: int = key(200, whole(1, 100_000), "Most values of a label; further ones become other.")
    max_combinations: int = key(5000, whole(1, 100_000), "Most combinations of all labels; further ones become other.")
    otlp: Otlp = key(Otlp(), block(Otlp), "The same, pushed over OTLP.")
    statsd: str = key("", ADDRESS, "HOST:PORT of a StatsD server that is told of every call; empty = none.")


@value
class Tracing:
    """A trace of each call."""

    enabled: bool = key(False, FLAG, "Whether spans are made and exported.")
    exporter: str = key(
        "otlp",
        one_of("otlp", "console", "jaeger", "tempo", "honeycomb", "zipkin"),
        "Where to: any OTLP receiver, standard error, or one of these with its usual address.",
    )
    endpoint: str = key(
        "", ENDPOINT, "Its address; empty = the exporter's usual one, or what OTEL_EXPORTER_OTLP_* say."
    )
    protocol: str = key("http/protobuf", one_of("http/protobuf", "grpc"), "How OTLP is spoken.")
    headers: Mapping[str, Secret] = key(MappingProxyType({}), HEADERS, "Sent along: {x-honeycomb-team: ...}.")
    sample_rate: float = key(
        1.0, RATIO, "Share of the calls that are traced, where their caller has not decided it for them."
    )
    always_on_error: bool = key(True, FLAG, "Whether calls that failed are traced in any case.")
    always_over_nanousd: int = key(
        0, MONEY_OR_NONE, "Calls that cost as many dollars are traced in any case; 0 = none.", yaml="always_over_usd"
    )
    propagate: bool = key(
        False, FLAG, "Whether traceparent is rewritten on the way, so that the upstream's spans hang below ours."
    )
    capture_content: bool = key(False, FLAG, "Whether what was said stands in spans, redacted as content says.")


@value
class Mlflow:
    """Calls as traces in MLflow."""

    enabled: bool = key(False, FLAG, "Whether calls become MLflow traces.")
    tracking_uri: str = key("http://127.0.0.1:5000", URL, "The tracking server.")
    experiment: str = key("production", WORD, "The experiment that they belong to; made if it is not there.")
    username: str = key("", TEXT, "Where it asks for a user.")
    password: Secret = key(Secret(), SECRET, "The user's password; without a user, a bearer token.")
    capture_content: bool = key(False, FLAG, "Whether what was said stands there, redacted as content says.")


@value
class Content:
    """What was said in calls, where it is captured at all."""

    redact: tuple[str, ...] = key((), list_of(PATTERN, 0, 100), "Regular expressions: what they match becomes ***.")
    max_kb: int = key(32, whole(1, 1024), "Most that is kept of a call's input, and of its output, in KiB.")


@value
class Health:
    """When this process is not fit to serve."""

    disk_free_mb: int = key(64, whole(0, 1 << 30), "Least room on the disk of store and journal, in MiB; 0 = any.")
    memory_mb: int = key(0, whole(0, 1 << 30), "Most memory that this process may have, in MiB; 0 = any.")
    upstreams: bool = key(False, FLAG, "Whether it is unfit while no upstream answers.")
    every: float = key(5.0, duration(0, 3600), "How often the checks look, whether or not somebody asks.")


@value
class Observability:
    """What is told of calls. Health probes and records are always there."""

    enabled: bool = key(True, FLAG, "Whether calls are logged and counted in metrics.")
    logging: Logging = key(Logging(), block(Logging), "The log.")
    metrics: Metrics = key(Metrics(), block(Metrics), "The metrics.")
    tracing: Tracing = key(Tracing(), block(Tracing), "The traces.")
    mlflow: Mlflow = key(Mlflow(), block(Mlflow), "Calls as traces in MLflow.")
    content: Content = key(Content(), block(Content), "What was said, where log, traces or MLflow may hold it.")
    health: Health = key(Health(), block(Health), "What makes /health/ready say no.")


@value
class TargetMatch:
    """Which calls a target speaks of; all that stands here must hold. Patterns: search-*."""

    team: str = key("", TEXT, "Whose.")
    agent: str = key("", TEXT, "Which agent's.")
    call_type: str = key("", TEXT, "Of which type.")
    model: str = key("", TEXT, "To which model.")
    upstream: str = key("", TEXT, "To which upstream.")


@value
class Target:
    """What calls promise their users. A call that failed misses it, whatever its time."""

    name: str = key("", WORD, "Its name in metrics and alerts.", required=True)
    match: TargetMatch = key(TargetMatch(), block(TargetMatch), "Which calls.")
    of: str = key(
        "call", one_of("call", "request"), "Of each call, or of all calls of one correlation id, first to last."
    )
    latency_ms: int = key(0, whole(0, 86_400_000), "Most milliseconds to the end of the answer; 0 = any.")
    ttft_ms: int = key(0, whole(0, 86_400_000), "Most milliseconds to its first byte; 0 = any.")
    objective: float = key(0.99, RATIO, "The share that must meet it.")


@value
class Webhook:
    """Who is told of events."""

    url: Secret = key(Secret(), SECRET, "Where to; PagerDuty has its own.")
    kind: str = key("generic", one_of("slack", "pagerduty", "generic"), "In whose words.")
    on: tuple[str, ...] = key(KINDS, list_of(one_of(*KINDS), 1), "Of what.")
    secret: Secret = key(Secret(), SECRET, "generic: signs the body; pagerduty: the routing key.")
    repeat: float = key(4 * 3600.0, duration(60), "How long the same event is not told again.")
    timeout: float = key(10.0, duration(1, 60), "How long it may take to answer.")


@value
class Alerts:
    """What is told by the gateway itself, for those without Alertmanager."""

    webhooks: tuple[Webhook, ...] = key((), list_of(block(Webhook), 0, 20), "Who is told.")
