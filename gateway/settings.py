"""The shape of the config: one frozen dataclass for each YAML block, its fields named like the keys.

This file is the documentation: each key has a kind (what values it takes), a default and a sentence; ``loading`` reads by
kind, ``reload`` compares by ``restart``, and the example file is held against all of it. It knows no YAML and reads
nothing. Durations are seconds (float), money is integer nano-dollars, secrets hide themselves.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from pricing.money import format_usd, parse_usd

LARGEST_LIMIT_NANOUSD = 9_000_000 * 10**9
"""Balances stay below 2^53 nano-dollars, so that every store counts them exactly."""
CALLER_LABELS = ("team", "agent", "call_type")
YEAR_S = 366 * 86_400
SECONDS = {"d": Decimal(86_400), "h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)?")
_MONEY = re.compile(r"(-?[0-9]{1,12}(?:\.[0-9]{1,9})?)0*")


class Secret:
    """A text that shows itself only to who asks for it by ``reveal``."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "***" if self._text else ""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be. ``name`` picks its reader; the rest are its limits.

    ``least`` and ``most`` bound the value itself (whole), seconds (duration), nano-dollars (money), characters (texts) or
    entries (list).
    """

    name: str
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = 2**53
    block: type | None = None
    of: Kind | None = None


TEXT = Kind("text", most=4096)
WORD = Kind("text", least=1, most=4096)
FLAG = Kind("flag")
SECRET = Kind("secret", most=4096)
URL = Kind("url", least=1, most=2048)
STORE_URL = Kind("store", least=1, most=4096)
FILE = Kind("file", most=4096)
PATH = Kind("path", most=2048)
SCOPE = Kind("scope", least=1, most=160)
ZONE = Kind("zone", least=1, most=64)
MONEY = Kind("money", least=1, most=LARGEST_LIMIT_NANOUSD)


def whole(least: int, most: int) -> Kind:
    """A whole number within bounds."""
    return Kind("whole", least=least, most=most)


def duration(least_s: int = 0, most_s: int = YEAR_S) -> Kind:
    """A time within bounds, in seconds."""
    return Kind("duration", least=least_s, most=most_s)


def one_of(*choices: str) -> Kind:
    """One of some words."""
    return Kind("choice", choices=choices)


def block(shape: type) -> Kind:
    """A nested block."""
    return Kind("block", block=shape)


def list_of(kind: Kind, least: int = 0, most: int = 10_000) -> Kind:
    """A list with so many entries."""
    return Kind("list", of=kind, least=least, most=most)


# -- readers: the text of a value -> the value, or Wrong ------------------------------------------------------------------


class Wrong(Exception):  # noqa: N818 - the word of the house for it
    """One value that cannot be taken, in words without the value. Who walks the file knows where it stands."""


def near(word: str, known: Iterable[str]) -> str:
    """The suggestion at the end of a complaint; "" when nothing is like it."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _within(kind: Kind, value: Decimal, unit: str = "") -> Decimal:
    if not kind.least <= value <= kind.most:
        raise Wrong(f"must be from {kind.least} to {kind.most}{unit}")
    return value


def _read_whole(kind: Kind, text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,15}", text):
        raise Wrong("must be a whole number")
    return int(_within(kind, Decimal(text)))


def _read_flag(kind: Kind, text: str) -> bool:
    if text.lower() not in TRUTH:
        raise Wrong("must be true or false")
    return TRUTH[text.lower()]


def _read_choice(kind: Kind, text: str) -> str:
    if text not in kind.choices:
        raise Wrong(f"must be one of {', '.join(kind.choices)}{near(text, kind.choices)}")
    return text


def _read_duration(kind: Kind, text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise Wrong("must be a duration such as 500ms, 30s, 10m, 24h or 30d")
    return float(_within(kind, Decimal(match[1]) * SECONDS[match[2] or "s"], " seconds"))


def _duration_text(seconds: float) -> str:
    """The way back, in the largest unit that leaves no fraction: 600.0 -> ``10m``."""
    exact = Decimal(repr(seconds))
    for unit, length in SECONDS.items():
        if exact and exact % length == 0:
            return f"{int(exact / length)}{unit}"
    return f"{exact:f}s" if exact else "0s"


def _read_money(kind: Kind, text: str) -> int:
    match = _MONEY.fullmatch(text)
    if match is None:
        raise Wrong("must be an amount of dollars such as 10 or 2.50, with at most nine places")
    amount = parse_usd(match[1])
    if not kind.least <= amount <= kind.most:
        raise Wrong(f"must be above 0 and at most {kind.most // 10**9} dollars")
    return amount


def read_text(kind: Kind, text: str) -> str:
    """A line of text."""
    if not text.isprintable():
        raise Wrong("holds characters that cannot be printed")
    if len(text) < kind.least:
        raise Wrong("must not be empty")
    if len(text) > kind.most:
        raise Wrong(f"must have at most {kind.most} characters")
    return text


def read_secret(kind: Kind, text: str) -> Secret:
    """A secret: it travels in a header field, so that it is ASCII."""
    if not text.isascii():
        raise Wrong("must be printable ASCII")
    return Secret(read_text(kind, text))


def _read_path(kind: Kind, text: str) -> str:
    if text and text != "/v1" and not text.startswith("/v1/"):
        raise Wrong("must begin with /v1: what is below /NAME goes to the upstream of that name")
    return read_text(kind, text)


def _read_scope(kind: Kind, text: str) -> str:
    scope, _, name = read_text(kind, text).partition(":")
    if text != "global" and (scope not in ("team", "user") or not name or name != name.strip()):
        raise Wrong("must be global, team:NAME, team:*, user:NAME or user:*")
    if "*" in name and name != "*":
        raise Wrong("takes * alone, not as a part of a name")
    return text


def _read_url(kind: Kind, text: str) -> str:
    text = read_text(kind, text)
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not text.isascii() or " " in text:
        raise Wrong("must be http://... or https://...")
    if "?" in text or "#" in text or "@" in parts.netloc:
        raise Wrong("takes no query, fragment or credentials")
    return text


def _read_store(kind: Kind, text: str) -> str:
    if not read_text(kind, text).removeprefix("sqlite:///") or not text.startswith("sqlite:///"):
        raise Wrong("must be sqlite:///FILE")
    return text


READERS: dict[str, Callable[[Kind, str], Any]] = {
    "whole": _read_whole,
    "flag": _read_flag,
    "choice": _read_choice,
    "duration": _read_duration,
    "money": _read_money,
    "text": read_text,
    "secret": read_secret,
    "path": _read_path,
    "scope": _read_scope,
    "url": _read_url,
    "store": _read_store,
}
"""By the name of the kind; what names a thing outside the file (zone, file) has its reader in ``loading``."""
WRITERS: dict[str, Callable[[Any], str]] = {"money": format_usd, "duration": _duration_text}
"""The way back, where a value is not its own text."""


def key(default: Any, kind: Kind, says: str, *, yaml: str = "", required: bool = False, restart: bool = False) -> Any:
    """A field of a block. ``yaml`` is its name in the file where that differs; ``required`` keys have no sensible default;
    ``restart`` marks what a running gateway cannot change, for a block with everything in it.
    """
    told = {"kind": kind, "says": says, "yaml": yaml, "required": required, "restart": restart}
    if isinstance(default, MappingProxyType):
        return field(default_factory=lambda: default, metadata=told)
    return field(default=default, metadata=told)


@dataclass(frozen=True, slots=True)
class Front:
    """The listener for apps."""

    host: str = key("127.0.0.1", WORD, "Address to listen on.", restart=True)
    port: int = key(8080, whole(0, 65535), "Port to listen on; 0 takes a free one.", restart=True)
    max_body_mb: int = key(100, whole(1, 4096), "Largest request body that is accepted, in MiB.")
    max_header_kb: int = key(32, whole(1, 1024), "Longest request line and longest header field, in KiB.", restart=True)
    max_headers: int = key(256, whole(8, 10_000), "Most header fields of a request.", restart=True)
    response_headers: bool = key(True, FLAG, "Whether x-tollgate-* fields are added to responses.")
    shutdown_grace: float = key(30.0, duration(), "How long calls may take to finish after SIGTERM.", restart=True)
    keepalive_timeout: float = key(75.0, duration(1), "How long an idle connection of an app is kept.", restart=True)


@dataclass(frozen=True, slots=True)
class Admin:
    """The listener for operators and probes."""

    host: str = key("127.0.0.1", WORD, "Address to listen on; off loopback a token is required.")
    port: int = key(8081, whole(0, 65535), "Port to listen on; 0 takes a free one.")
    token: Secret = key(Secret(), SECRET, "Bearer token for everything but the health probes; empty = none.")


@dataclass(frozen=True, slots=True)
class Store:
    """Where the books are kept."""

    url: str = key("sqlite:///tollgate.db", STORE_URL, "sqlite:///FILE, or sqlite:////ABSOLUTE/FILE.")
    lease: float = key(60.0, duration(1), "Holds of a process that is silent for so long are charged as lost.")
    durability: str = key(
        "normal", one_of("normal", "full"), "normal survives kill -9, full a power cut (one fsync a batch)."
    )


@dataclass(frozen=True, slots=True)
class Upstream:
    """A place to send calls to."""

    base_url: str = key("", URL, "Where it is, path included: https://api.openai.com/v1.", required=True)
    protocol: str = key("openai", one_of("openai", "anthropic", "gemini"), "The family of APIs that it speaks.")
    provider: str = key("", TEXT, "Who bills: decides the prices. Default: openai, anthropic or google by protocol.")
    api_key: Secret = key(Secret(), SECRET, "Replaces the caller's own credential; empty = the caller's is passed on.")
    connect_timeout: float = key(10.0, duration(), "Longest time to connect, TLS included.")
    first_byte_timeout: float = key(0.0, duration(), "Longest wait for the head of the answer; 0 = no limit.")
    idle_timeout: float = key(0.0, duration(), "Longest silence within an answer; 0 = no limit.")
    keepalive: float = key(15.0, duration(), "How long an idle connection is kept for the next call.")
    max_idle: int = key(256, whole(0, 10_000), "Most idle connections that are kept.")
    verify_tls: bool = key(True, FLAG, "Whether the certificate is verified.")
    ca_file: str = key("", FILE, "A file of certificates to trust instead of the system's.")


@dataclass(frozen=True, slots=True)
class Match:
    """What a route speaks of; neither = everything."""

    model: str = key("", TEXT, 'A pattern for the model: "claude-*".')
    path: str = key("", PATH, "A path and what is below it: /v1.")


@dataclass(frozen=True, slots=True)
class Route:
    """A rule for calls under /v1; the first that matches decides."""

    match: Match = key(Match(), block(Match), "Which calls.")
    to: tuple[str, ...] = key((), list_of(WORD, 1, 1), "The upstream that they go to: exactly one.", required=True)


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on what a scope may spend in a window."""

    scope: str = key("", SCOPE, "global, team:NAME, team:* (every team its own), user:NAME or user:*.", required=True)
    limit_nanousd: int = key(0, MONEY, "Dollars, as a decimal number.", yaml="limit_usd", required=True)
    window: str = key("day", one_of("hour", "day", "week", "month", "total"), "After which it starts again.")
    mode: str = key(
        "hard", one_of("hard", "strict"), "hard sets aside what a call likely costs, strict the most it can."
    )
    timezone: str = key("UTC", ZONE, "IANA time zone of the calendar.")
    name: str = key("", TEXT, "Its name in errors and metrics. Default: scope/window.")


@dataclass(frozen=True, slots=True)
class Metering:
    """How usage is come by."""

    on_disconnect: str = key(
        "cancel", one_of("cancel", "drain"), "A client left: cancel and count, or read to the usage."
    )
    drain_max_mb: int = key(64, whole(1, 4096), "drain: most bytes of an answer, in MiB.")
    drain_timeout: float = key(600.0, duration(1), "drain: longest time after the client left.")
    stream_usage: str = key("passthrough", one_of("passthrough", "ask"), "Streams: count their text, or ask for usage.")
    unpriced: str = key("estimate", one_of("estimate", "refuse"), "No price: charge the family's dearest, or refuse.")


@dataclass(frozen=True, slots=True)
class Pricing:
    """What calls cost."""

    overrides: str = key("", FILE, "A file of price rows that go before the book's: negotiated or self-hosted prices.")


@dataclass(frozen=True, slots=True)
class Logging:
    """The gateway's log, on standard output."""

    level: str = key("info", one_of("debug", "info", "warning", "error"), "Least level of the gateway's own messages.")
    format: str = key("json", one_of("json", "console"), "One JSON object a line, or a line for people.")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Prometheus metrics."""

    labels: tuple[str, ...] = key(CALLER_LABELS, list_of(one_of(*CALLER_LABELS)), "Labels from the caller.")
    max_label_values: int = key(200, whole(1, 100_000), "Most values of a label; further ones become other.")


@dataclass(frozen=True, slots=True)
class Observability:
    """What is told of calls. Health probes and records are always there."""

    enabled: bool = key(True, FLAG, "Whether calls are logged and counted in metrics.")
    logging: Logging = key(Logging(), block(Logging), "The log.")
    metrics: Metrics = key(Metrics(), block(Metrics), "The metrics.")


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept."""

    calls: float = key(30 * 86400.0, duration(3600, 10 * YEAR_S), "Records of calls.")


PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
"""Who bills, where the config does not say it."""

DEFAULT_UPSTREAMS: Mapping[str, Upstream] = MappingProxyType(
    {
        "openai": Upstream("https://api.openai.com/v1", "openai", "openai"),
        "anthropic": Upstream("https://api.anthropic.com", "anthropic", "anthropic"),
        "gemini": Upstream("https://generativelanguage.googleapis.com", "gemini", "google"),
    }
)
DEFAULT_ROUTES = (Route(Match(path="/v1/messages"), ("anthropic",)), Route(Match(path="/v1"), ("openai",)))


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole config."""

    front: Front = key(Front(), block(Front), "The listener for apps.")
    admin: Admin = key(Admin(), block(Admin), "The listener for operators and probes.", restart=True)
    store: Store = key(Store(), block(Store), "Where the books are kept.", restart=True)
    upstreams: Mapping[str, Upstream] = key(
        DEFAULT_UPSTREAMS,
        Kind("map", of=block(Upstream)),
        "By name. An entry replaces the default of its name; null removes that default.",
    )
    routes: tuple[Route, ...] = key(
        DEFAULT_ROUTES, list_of(block(Route)), "Which upstream serves /v1; /NAME/... needs no rule."
    )
    budgets: tuple[Budget, ...] = key((), list_of(block(Budget)), "Limits on spend.")
    metering: Metering = key(Metering(), block(Metering), "How usage is come by.")
    pricing: Pricing = key(Pricing(), block(Pricing), "What calls cost.")
    observability: Observability = key(Observability(), block(Observability), "What is told of calls.", restart=True)
    retention: Retention = key(Retention(), block(Retention), "How long things are kept.", restart=True)
