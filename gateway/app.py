"""The composition root: Settings become a Snapshot, a Snapshot becomes servers. The only file that names concrete classes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.admission.budgets import Budget, Ledger
from gateway.call import Headers
from gateway.dialects.table import dialect_for
from gateway.errors import Failure
from gateway.handle import Handle, refusal_answer
from gateway.loading import version
from gateway.metering.tokens import Counter
from gateway.reload import Reloader
from gateway.settings import Settings
from gateway.settings import Upstream as UpstreamSettings
from gateway.settle import Settler
from gateway.snapshot import Snapshot
from gateway.store.sqlite import SqliteStore
from gateway.wire.front import Front
from gateway.wire.routes import Routes, Rule
from gateway.wire.upstreams import Endpoint, Pool
from pricing.book import Book

log = logging.getLogger("gateway.app")

MEGABYTE = 1024 * 1024


class Gateway:
    """One running gateway: front, admin, store, settler, and the snapshot that new calls start with."""

    def __init__(self, settings: Settings, config_path: Path | None = None) -> None:
        self.settings = settings
        self._config_path = config_path
        self._snapshot = compile_snapshot(settings, {}, Counter())
        self._store = SqliteStore(
            _store_path(settings.store.url),
            lease_s=settings.store.lease,
            durability=settings.store.durability,
            retention_s=settings.retention.calls,
            owner=f"{time.time_ns():x}",
        )


def compile_snapshot(settings: Settings, pools: Mapping[str, Pool], counter: Counter) -> Snapshot:
    """Settings to what a call needs. Pools whose endpoint did not change are taken over from ``pools``, connections and all."""
    endpoints = {name: _endpoint(name, upstream) for name, upstream in settings.upstreams.items()}
    return Snapshot(
        version=version(settings),
        routes=Routes(
            [Rule(route.to[0], route.match.model, route.match.path) for route in settings.routes],
            {name: (endpoint.protocol, endpoint.base_path) for name, endpoint in endpoints.items()},
        ),
        pools={
            name: pools[name] if name in pools and pools[name].endpoint == endpoint else Pool(endpoint)
            for name, endpoint in endpoints.items()
        },
        ledger=Ledger(
            [
                Budget(each.name, each.scope, each.limit_nanousd, each.window, each.mode, each.timezone)
                for each in settings.budgets
            ]
        ),
        book=Book.load(Path(settings.pricing.overrides) if settings.pricing.overrides else None),
        counter=counter,
        response_headers=settings.front.response_headers,
        refuse_unpriced=settings.metering.unpriced == "refuse",
        drain_s=settings.metering.drain_timeout if settings.metering.on_disconnect == "drain" else 0.0,
        drain_bytes=settings.metering.drain_max_mb * MEGABYTE,
    )


def _endpoint(name: str, upstream: UpstreamSettings) -> Endpoint:
    url = urlsplit(upstream.base_url)
    tls = url.scheme == "https"
    port = url.port or (443 if tls else 80)
    secret = upstream.api_key.reveal()
    return Endpoint(
        name=name,
        provider=upstream.provider,
        protocol=upstream.protocol,
        host=url.hostname or "",
        port=port,
        tls=tls,
        host_header=url.netloc.encode("idna" if not url.netloc.isascii() else "ascii"),
        base_path=url.path.rstrip("/"),
        credential=dialect_for(upstream.protocol, "", "").credential(secret) if secret else None,
        verify_tls=upstream.verify_tls,
        ca_file=upstream.ca_file,
        connect_s=upstream.connect_timeout,
        first_byte_s=upstream.first_byte_timeout,
        idle_s=upstream.idle_timeout,
        keepalive_s=upstream.keepalive,
        max_idle=upstream.max_idle,
    )


def _store_path(url: str) -> str:
    """``sqlite:///tollgate.db`` is a file beside the process, ``sqlite:////var/lib/x.db`` an absolute one."""
    return url.removeprefix("sqlite:///")


def complain(failure: Failure) -> tuple[int, Headers, bytes]:
    """The answer to what never became a call: in OpenAI's dialect, which most clients of this address read."""
    return refusal_answer(failure.refusal(), dialect_for("openai", "", ""), None, time.time())
