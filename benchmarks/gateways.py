"""The gateway in the forms that are measured: everything on, and with one thing at a time done otherwise.

Everything on: usage and price of each call, budgets of five scopes, metrics, a JSON line a call (to /dev/null, through the real
writer), a record and sums of spend in the store, traces of every tenth call to a receiver.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from around import Around
from load import KEY
from systems import System, free_port

SCOPES = ("global", "team:*", "user:*", "agent:*", "model:*")
OURS, ON_REDIS, OFF = "tollgate", "tollgate, Redis", "tollgate, metering off"


def settings(
    around: Around,
    place: Path,
    *,
    redis: bool = False,
    budgets: int = 5,
    traced: float = 0.1,
    keys: bool = False,
    observed: bool = True,
    workers: int = 1,
) -> dict[str, object]:
    """A config, without its ports. ``traced`` is the share of calls that are."""
    store = {"url": f"redis://127.0.0.1:{around.redis}/0", "prefix": place.name, "journal": str(place / "journal")}
    tracing = {"enabled": traced > 0, "endpoint": f"http://127.0.0.1:{around.collector}", "sample_rate": traced}
    upstreams: dict[str, Any] = {"openai": {"base_url": f"http://127.0.0.1:{around.provider}/v1"}}
    if around.certificate:
        secure = {"base_url": f"https://localhost:{around.secure}", "ca_file": str(around.certificate)}
        upstreams["secure"] = {**secure, "provider": "openai"}
    auth: dict[str, object] = {}
    if keys:  # each upstream needs a credential of its own then
        upstreams = {"openai": {**upstreams["openai"], "api_key": "sk-none"}, "anthropic": None, "gemini": None}
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        auth = {
            "auth": {"mode": "keys"},
            "keys": [{"name": "bench", "hash": f"sha256:{digest}", "team": "search"}],
            "routes": [{"match": {"path": "/v1"}, "to": ["openai"]}],
        }
    return {
        "store": store if redis else {"url": f"sqlite:///{place}/books.db"},
        "upstreams": upstreams,
        "budgets": [{"scope": scope, "limit_usd": 1_000_000, "window": "day"} for scope in SCOPES[:budgets]],
        "observability": {"enabled": observed, "tracing": tracing if observed else {}},
        "workers": workers,
        **auth,
    }


def gateway(name: str, around: Around, path: str = "", **how: object) -> System:
    """Not started yet, with a folder of its own."""
    port = free_port()
    place = around.folder / f"gateway-{port}"
    place.mkdir()
    config = {"front": {"port": port}, "admin": {"port": free_port()}, **settings(around, place, **how)}  # type: ignore[arg-type]
    file = place / "tollgate.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(file)]
    return System(name, command, port, path) if path else System(name, command, port)


def forms(around: Around) -> dict[str, Callable[[], System]]:
    """How each is made, by name. What the name leaves out is as in everything on."""
    found: dict[str, Callable[[], System]] = {
        OURS: lambda: gateway(OURS, around),
        OFF: lambda: gateway(OFF, around, "/v1/anything", observed=False, budgets=0),
    }
    if around.redis:
        found[ON_REDIS] = lambda: gateway(ON_REDIS, around, redis=True)
    variants: dict[str, dict[str, object]] = {
        "no budgets": {"budgets": 0},
        "one budget": {"budgets": 1},
        "no tracing": {"traced": 0.0},
        "every call traced": {"traced": 1.0},
        "gateway keys": {"keys": True},
    }
    for name, how in variants.items():
        found[name] = lambda name=name, how=how: gateway(name, around, **how)
    return found


VARIANTS = (OURS, ON_REDIS, "no budgets", "one budget", "no tracing", "every call traced", "gateway keys", OFF)
