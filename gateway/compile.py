"""Settings -> Snapshot: what a call needs of the config, worked out once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import resources
from ipaddress import ip_network
from urllib.parse import urlsplit

from gateway.admin.routes import OPERATOR
from gateway.admin.tokens import Token, token
from gateway.admission.limits import Limit, Limits
from gateway.agreement import limit_name
from gateway.call import Caller
from gateway.canonical import version
from gateway.decided import Rules
from gateway.dialects.stream_usage import Wishes
from gateway.dialects.table import dialect_for
from gateway.loading import load_book
from gateway.metering.tokens import Counter
from gateway.observe import otel_env
from gateway.observe.tracing import traceparent_of
from gateway.outbound import proxy_of
from gateway.settings import Admin, Settings, Tracing
from gateway.settings import Limit as LimitSettings
from gateway.settings import Upstream as UpstreamSettings
from gateway.snapshot import Snapshot
from gateway.wire.credentials import Credential, Keyring
from gateway.wire.endpoint import Endpoint
from gateway.wire.forwarded import Proxies
from gateway.wire.routes import Routes, Rule
from gateway.wire.upstreams import Pool

MEGABYTE = 1024 * 1024


def compile_snapshot(settings: Settings, pools: Mapping[str, Pool], counter: Counter, rules: Rules) -> Snapshot:
    """Settings and ``rules`` to what a call needs. Pools whose endpoint did not change are taken over from ``pools``, connections and all."""
    endpoints = {name: _endpoint(name, upstream) for name, upstream in settings.upstreams.items()}
    book = load_book(settings.pricing.overrides)
    book.prime(endpoint.provider for endpoint in endpoints.values())
    return Snapshot(
        version=version(settings),
        routes=Routes(
            [Rule(route.to[0], route.match.model, route.match.path) for route in settings.routes],
            {name: (endpoint.protocol, endpoint.base_path) for name, endpoint in endpoints.items()},
        ),
        pools={
            name: pools[name]
            if name in pools and pools[name].endpoint == endpoint
            else _pool(endpoint, pools.get(name))
            for name, endpoint in endpoints.items()
        },
        ledger=rules.ledger,
        limits=Limits([_limit(each) for each in settings.limits]) if settings.limits else None,
        keys=rules.keys,
        proxies=Proxies(ip_network(each) for each in settings.front.trusted_proxies),
        book=book,
        counter=counter,
        response_headers=settings.front.response_headers,
        stream_usage=Wishes(settings.metering.stream_usage == "ask", settings.metering.stream_usage_except),
        models={name: upstream.models for name, upstream in settings.upstreams.items() if upstream.models},
        compare_every=settings.metering.compare_every,
        held_wait_s=settings.store.held_wait,
        refuse_unpriced=settings.metering.unpriced == "refuse",
        traceparent=_traceparent(settings.observability.tracing),
        drain_s=settings.metering.drain_timeout if settings.metering.on_disconnect == "drain" else 0.0,
        drain_bytes=settings.metering.drain_max_mb * MEGABYTE,
    )


def _limit(limit: LimitSettings) -> Limit:
    return Limit(limit_name(limit), limit.scope, limit.requests_per_minute, limit.tokens_per_minute, limit.concurrent)


def _traceparent(tracing: Tracing) -> Callable[[Caller, str], bytes] | None:
    """Only where spans are sent, and with the flag of the sampler that decides about them."""
    if not (tracing.enabled and tracing.propagate) or otel_env.is_off(os.environ):
        return None
    return traceparent_of(otel_env.sample_rate(tracing.sample_rate, os.environ))


def tokens_of(admin: Admin) -> list[Token]:
    """Who may ask the admin listener; nobody named = whoever is on this machine."""
    found = [token("admin.token", OPERATOR, admin.token.reveal())] if admin.token else []
    return found + [token(each.name, each.role, each.token.reveal(), each.expires) for each in admin.tokens]


def _pool(endpoint: Endpoint, before: Pool | None) -> Pool:
    """Keys that stay as they are keep their standing, although the connections do not stay."""
    known = before.keys if before is not None else None
    return Pool(endpoint, Keyring(endpoint.credentials, known) if endpoint.credentials else None)


def _endpoint(name: str, upstream: UpstreamSettings) -> Endpoint:
    url = urlsplit(upstream.base_url)
    tls = url.scheme == "https"
    port = url.port or (443 if tls else 80)
    secret = upstream.api_key.reveal()
    header = dialect_for(upstream.protocol, "", "").credential
    return Endpoint(
        name=name,
        provider=upstream.provider,
        protocol=upstream.protocol,
        host=url.hostname or "",
        port=port,
        tls=tls,
        host_header=url.netloc.encode("idna" if not url.netloc.isascii() else "ascii"),
        base_path=url.path.rstrip("/"),
        credential=header(secret) if secret else None,
        credentials=tuple(Credential(key.name, header(key.api_key.reveal()), key.weight) for key in upstream.api_keys),
        verify_tls=upstream.verify_tls,
        ca_file=upstream.ca_file,
        connect_s=upstream.connect_timeout,
        first_byte_s=upstream.first_byte_timeout,
        idle_s=upstream.idle_timeout,
        keepalive_s=upstream.keepalive,
        max_idle=upstream.max_idle,
        max_age_s=upstream.max_connection_age,
        proxy=proxy_of(upstream, os.environ),
    )


def vocabulary(name: str) -> bytes:
    """The packed vocabulary of an encoding, from the package."""
    return (resources.files("gateway.metering") / "vocab" / f"{name}.xz").read_bytes()
