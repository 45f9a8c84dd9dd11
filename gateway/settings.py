"""The shape of the config: one frozen dataclass for each YAML block, its fields named like the keys.

This file is the documentation, with ``settings_observability`` for what is told of calls: each key has a kind (``kinds``: what
values it takes), a default and a sentence; ``loading`` reads by kind, ``reload`` compares by ``restart``, and the example
file is held against all of it. It knows no YAML and reads nothing. Durations are seconds (float), money is integer
nano-dollars, secrets hide themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.kinds import (
    CALLS,
    FILE,
    FLAG,
    HASH,
    MOMENT,
    MONEY,
    NAME,
    NETWORK,
    OWN_NAME,
    OWN_SECRET,
    PATH,
    PROCESSES,
    PROXY_URL,
    SCOPE,
    SECRET,
    STORE_URL,
    TEXT,
    URL,
    WORD,
    WORDS,
    YEAR_S,
    ZONE,
    Kind,
    Secret,
    block,
    duration,
    list_of,
    one_of,
    whole,
)
from gateway.settings_key import key
from gateway.settings_observability import (
    CALLER_LABELS,
    Alerts,
    Content,
    Health,
    Logging,
    Metrics,
    Mlflow,
    Observability,
    Otlp,
    Target,
    TargetMatch,
    Tracing,
    Webhook,
)
from gateway.store.rollups import DIMENSIONS, USUAL, Rollups
from gateway.value import value

__all__ = [
    "CALLER_LABELS",
    "DEFAULT_ROUTES",
    "DEFAULT_UPSTREAMS",
    "PROVIDERS",
    "WEEK_STARTS",
    "Admin",
    "AdminToken",
    "Alerts",
    "Auth",
    "Budget",
    "Content",
    "Front",
    "GatewayKey",
    "Health",
    "Limit",
    "Logging",
    "Match",
    "Metering",
    "Metrics",
    "Mlflow",
    "Observability",
    "Otlp",
    "Pricing",
    "ProviderKey",
    "Retention",
    "Route",
    "Settings",
    "Spend",
    "Store",
    "Target",
    "TargetMatch",
    "Tracing",
    "Upstream",
    "Webhook",
]

WEEK_STARTS = {"monday": 0, "saturday": 5, "sunday": 6}


@value
class Front:
    """The listener for apps."""

    host: str = key("127.0.0.1", WORD, "Address to listen on.", restart=True)
    port: int = key(8080, whole(0, 65535), "Port to listen on; 0 takes a free one.", restart=True)
    max_body_mb: int = key(100, whole(1, 4096), "Largest request body that is accepted, in MiB.")
    max_header_kb: int = key(32, whole(1, 1024), "Longest request line and longest header field, in KiB.", restart=True)
    max_headers: int = key(256, whole(8, 10_000), "Most header fields of a request.", restart=True)
    response_headers: bool = key(True, FLAG, "Whether x-tollgate-* fields are added to responses.")
    trusted_proxies: tuple[str, ...] = key(
        (),
        list_of(NETWORK),
        "Proxies whose word on a caller's address counts (X-Forwarded-For, Forwarded); empty = none.",
    )
    shutdown_grace: float = key(30.0, duration(), "How long calls may take to finish after SIGTERM.", restart=True)
    body_timeout: float = key(60.0, duration(), "Longest wait for the next piece of a request body; 0 = no limit.")
    keepalive_timeout: float = key(75.0, duration(1), "How long an idle connection of an app is kept.", restart=True)


@value
class AdminToken:
    """A bearer token for the admin listener, beside admin.token."""

    name: str = key("", OWN_NAME, "Whose it is, as the log of changes names it.", required=True)
    token: Secret = key(Secret(), OWN_SECRET, "The bearer token itself.", required=True)
    role: str = key("viewer", one_of("viewer", "operator"), "A viewer looks at everything, an operator changes things.")
    expires: int = key(
        0, MOMENT, "A day (UTC, its beginning) or a time from which on it lets nobody in; empty = never."
    )


@value
class Admin:
    """The listener for operators and probes."""

    host: str = key(
        "127.0.0.1", WORD, "Address to listen on; off loopback an operator's token is required.", restart=True
    )
    port: int = key(8081, whole(0, 65535), "Port to listen on; 0 takes a free one.", restart=True)
    token: Secret = key(
        Secret(), SECRET, "An operator's bearer token, for everything but the health probes; empty = none."
    )
    tokens: tuple[AdminToken, ...] = key((), list_of(block(AdminToken), 0, 100), "More of them, each with a role.")


@value
class Store:
    """Where the books are kept."""

    url: str = key(
        "sqlite:///tollgate.db",
        STORE_URL,
        "sqlite:///FILE, or redis://HOST:PORT/DB and its kin (rediss, unix, redis+sentinel, redis+cluster).",
    )
    username: str = key("", TEXT, "Redis: the user of its ACL.")
    password: Secret = key(Secret(), SECRET, "Redis: its password.")
    ca_file: str = key("", FILE, "Redis over TLS: a file of certificates to trust instead of the system's.")
    prefix: str = key(
        "tollgate", WORD, "Redis: what all keys begin with, in braces: gateways of one prefix share budgets."
    )
    timeout: float = key(1.0, duration(0, 60), "Redis: how long it may take to answer before it counts as down.")
    on_outage: str = key(
        "closed",
        one_of("closed", "open", "local"),
        "While the store is down: refuse calls that a budget limits, let all go on, or (Redis) grant from slices kept here.",
    )
    journal: str = key(
        "tollgate-journal", TEXT, "Redis: a folder on the local disk for settlements that the store does not have yet."
    )
    lease: float = key(60.0, duration(1), "Holds of a process that is silent for so long are charged as lost.")
    held_wait: float = key(
        0.5, duration(0, 60), "How long a call waits when only other calls' holds are in its way; 0 = not at all."
    )
    durability: str = key(
        "normal", one_of("normal", "full"), "normal survives kill -9, full a power cut (one fsync a batch)."
    )


@value
class ProviderKey:
    """One of several keys that an upstream's provider knows."""

    name: str = key("", OWN_NAME, "What it is called in records and metrics.", required=True)
    api_key: Secret = key(Secret(), SECRET, "The provider's key itself.")
    weight: int = key(1, whole(1, 100), "Its share of the calls, beside the weights of the others.")


@value
class Upstream:
    """A place to send calls to."""

    base_url: str = key("", URL, "Where it is, path included: https://api.openai.com/v1.", required=True)
    protocol: str = key("openai", one_of("openai", "anthropic", "gemini"), "The family of APIs that it speaks.")
    provider: str = key("", TEXT, "Who bills: decides the prices. Default: openai, anthropic or google by protocol.")
    api_key: Secret = key(Secret(), SECRET, "Replaces the caller's own credential; empty = the caller's is passed on.")
    api_keys: tuple[ProviderKey, ...] = key(
        (), list_of(block(ProviderKey), 0, 100), "Several keys of the provider, in place of api_key: calls are spread."
    )
    models: Mapping[str, str] = key(
        MappingProxyType({}),
        WORDS,
        "Names that it has for models (deployments, aliases), and whose price holds for each.",
    )
    connect_timeout: float = key(10.0, duration(), "Longest time to connect, TLS included.")
    first_byte_timeout: float = key(0.0, duration(), "Longest wait for the head of the answer; 0 = no limit.")
    idle_timeout: float = key(0.0, duration(), "Longest silence within an answer; 0 = no limit.")
    keepalive: float = key(15.0, duration(), "How long an idle connection is kept for the next call.")
    max_idle: int = key(256, whole(0, 10_000), "Most idle connections that are kept.")
    max_connection_age: float = key(
        600.0, duration(), "How long a connection is used at most, so that changes of DNS are followed; 0 = no limit."
    )
    proxy: Secret = key(
        Secret(), PROXY_URL, "A proxy on the way to it: a URL, or none; empty = what HTTPS_PROXY and its kin say."
    )
    verify_tls: bool = key(True, FLAG, "Whether the certificate is verified.")
    ca_file: str = key("", FILE, "A file of certificates to trust instead of the system's.")


@value
class Match:
    """What a route speaks of; neither = everything."""

    model: str = key("", TEXT, 'A pattern for the model: "claude-*".')
    path: str = key("", PATH, "A path and what is below it: /v1.")


@value
class Route:
    """A rule for calls under /v1; the first that matches decides."""

    match: Match = key(Match(), block(Match), "Which calls.")
    to: tuple[str, ...] = key((), list_of(WORD, 1, 1), "The upstream that they go to: exactly one.", required=True)


@value
class Auth:
    """Who may ask."""

    mode: str = key(
        "passthrough",
        one_of("passthrough", "keys"),
        "The callers' own credentials go on to the upstream, or each call needs a gateway key.",
    )


@value
class GatewayKey:
    """A key that apps bring in place of a provider's. `tollgate keys create` makes one."""

    name: str = key(
        "", OWN_NAME, "Its name in records and budgets; once more for the key that follows it.", required=True
    )
    hash: str = key("", HASH, "Of the key, as `tollgate keys create` prints it.", required=True)
    team: str = key("", NAME, "The team of its calls; empty = what they say.")
    user: str = key("", NAME, "The user of its calls; empty = what they say.")
    models: tuple[str, ...] = key((), list_of(WORD), "Patterns of models that it may ask for; empty = all.")
    upstreams: tuple[str, ...] = key((), list_of(WORD), "Upstreams that its calls may go to; empty = all.")
    expires: int = key(0, MOMENT, "A day (UTC, its beginning) or a time from which on it is refused; empty = never.")
    cidr: tuple[str, ...] = key((), list_of(NETWORK), "Where its calls may come from; empty = anywhere.")


@value
class Budget:
    """A limit on what a scope may spend in a window."""

    scope: str = key(
        "", SCOPE, "global, call, request, KIND:NAME or KIND:* (each its own); several joined by +.", required=True
    )
    limit_nanousd: int = key(0, MONEY, "Dollars, as a decimal number.", yaml="limit_usd", required=True)
    window: str = key("day", one_of("hour", "day", "week", "month", "total"), "After which it starts again.")
    mode: str = key(
        "hard",
        one_of("hard", "strict", "soft", "shadow"),
        "hard sets aside what a call likely costs, strict the most it can; soft looks at what was spent, shadow only counts.",
    )
    timezone: str = key("UTC", ZONE, "IANA time zone of the calendar.")
    week_start: str = key("monday", one_of(*WEEK_STARTS), "The first day of its weeks.")
    notify_at: tuple[int, ...] = key(
        (), list_of(whole(1, 1000), 0, 20), "Percents of the limit: crossing one is told once a window."
    )
    on_exhausted: str = key(
        "finish", one_of("finish", "cut"), "A stream that outgrows its hold and finds no room: let it end, or cut it."
    )
    lost: str = key(
        "hold",
        one_of("hold", "estimate"),
        "What a call costs whose process died: its hold, or what it had likely used.",
    )
    name: str = key("", TEXT, "Its name in errors and metrics. Default: scope/window.")


@value
class Limit:
    """How fast, and how many at a time, the calls of a scope may be."""

    scope: str = key("", SCOPE, "global, KIND:NAME or KIND:* (each its own); several joined by +.", required=True)
    requests_per_minute: int = key(0, whole(0, 10**7), "Calls that are let through in a minute; 0 = any number.")
    tokens_per_minute: int = key(0, whole(0, 10**9), "Tokens, read and written, of a minute's calls; 0 = any number.")
    concurrent: int = key(0, whole(0, 10**6), "Calls that may run at a time; 0 = any number.")
    name: str = key("", TEXT, "Its name in errors and metrics. Default: its scope.")


@value
class Metering:
    """How usage is come by."""

    on_disconnect: str = key(
        "cancel", one_of("cancel", "drain"), "A client left: cancel and count, or read to the usage."
    )
    drain_max_mb: int = key(64, whole(1, 4096), "drain: most bytes of an answer, in MiB.")
    drain_timeout: float = key(600.0, duration(1), "drain: longest time after the client left.")
    stream_usage: str = key("passthrough", one_of("passthrough", "ask"), "Streams: count their text, or ask for usage.")
    stream_usage_except: tuple[str, ...] = key(
        (), list_of(CALLS), "Calls that do the other of the two: upstream:NAME, team:NAME or model:PATTERN."
    )
    compare_every: int = key(
        100,
        whole(0, 10**9),
        "Of so many calls that their provider metered one is counted too, to see drift; 0 = none.",
    )
    unpriced: str = key("estimate", one_of("estimate", "refuse"), "No price: charge the family's dearest, or refuse.")


@value
class Pricing:
    """What calls cost."""

    overrides: str = key("", FILE, "A file of price rows that go before the book's: negotiated or self-hosted prices.")


@value
class Spend:
    """The sums that reports are made of."""

    by: tuple[str, ...] = key(
        USUAL,
        list_of(one_of(*DIMENSIONS), 0, len(DIMENSIONS)),
        "What spend can be told apart by: each combination of values that occurs in an hour is one row.",
    )


@value
class Retention:
    """How long things are kept."""

    calls: float = key(30 * 86400.0, duration(3600, 10 * YEAR_S), "Records of calls.")
    spend_hours: float = key(
        Rollups().hours_s, duration(86400, 10 * YEAR_S), "Sums of spend by the hour; older ones are kept by the day."
    )
    spend_days: float = key(Rollups().days_s, duration(86400, 10 * YEAR_S), "Sums of spend by the day.")


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


@value
class Settings:
    """The whole config."""

    front: Front = key(Front(), block(Front), "The listener for apps.")
    admin: Admin = key(Admin(), block(Admin), "The listener for operators and probes.")
    workers: int = key(
        1, PROCESSES, "Processes that serve calls; auto = one for each processor that may be used.", restart=True
    )
    store: Store = key(Store(), block(Store), "Where the books are kept.", restart=True)
    upstreams: Mapping[str, Upstream] = key(
        DEFAULT_UPSTREAMS,
        Kind("map", of=block(Upstream)),
        "By name. An entry replaces the default of its name; null removes that default.",
    )
    routes: tuple[Route, ...] = key(
        DEFAULT_ROUTES, list_of(block(Route)), "Which upstream serves /v1; /NAME/... needs no rule."
    )
    auth: Auth = key(Auth(), block(Auth), "Who may ask.")
    keys: tuple[GatewayKey, ...] = key(
        (), list_of(block(GatewayKey)), "Gateway keys: their hashes, and what each may do."
    )
    budgets: tuple[Budget, ...] = key((), list_of(block(Budget)), "Limits on spend.")
    limits: tuple[Limit, ...] = key((), list_of(block(Limit)), "Limits on how fast calls may come.")
    metering: Metering = key(Metering(), block(Metering), "How usage is come by.")
    pricing: Pricing = key(Pricing(), block(Pricing), "What calls cost.")
    observability: Observability = key(Observability(), block(Observability), "What is told of calls.", restart=True)
    targets: tuple[Target, ...] = key((), list_of(block(Target), 0, 100), "What calls promise their users.")
    alerts: Alerts = key(Alerts(), block(Alerts), "What is told by the gateway itself, for those without Alertmanager.")
    spend: Spend = key(Spend(), block(Spend), "The sums that reports are made of.", restart=True)
    retention: Retention = key(Retention(), block(Retention), "How long things are kept.", restart=True)
