"""What the entries of a list in the config must say so that they agree with each other and with the rest of it.

Each fault is three texts: the key's path, a path whose own faults make this one an echo (nothing is said then), and what is
wrong. No value is repeated but a name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from gateway.accounts import UNITS
from gateway.admission.limits import WITHOUT
from gateway.admission.scopes import parse_scope
from gateway.kinds import Secret, near
from gateway.settings import Admin, GatewayKey, Limit, Settings, Target

Fault = tuple[str, str, str]
TAKEN = ("admin.token", "loopback")
"""Names of whoever asks with that token, and of whoever asks where there is none."""


def disagreements(settings: Settings) -> Iterator[Fault]:
    """All that are spoken of here."""
    yield from of_workers(settings)
    yield from of_limits(settings.limits)
    yield from of_targets(settings.targets)
    yield from of_keys(settings)
    yield from of_provider_keys(settings)
    yield from of_admin(settings.admin)


def of_targets(targets: Sequence[Target]) -> Iterator[Fault]:
    """Names of their own, and objectives that can be met and missed."""
    names: set[str] = set()
    for index, target in enumerate(targets):
        path = f"targets[{index}]"
        if target.name in names:
            yield f"{path}.name", path, "another target has this name"
        names.add(target.name)
        if not 0 < target.objective < 1:
            yield (
                f"{path}.objective",
                f"{path}.objective",
                "must be above 0, which promises something, and below 1, which leaves room for a miss",
            )


def of_workers(settings: Settings) -> Iterator[Fault]:
    """Books that all of them can reach."""
    if settings.workers != 1 and settings.store.url == "sqlite:///:memory:":
        yield "workers", "store", "need books that they share: a file (sqlite:///FILE) or Redis, and not :memory:"


def of_limits(limits: Sequence[Limit]) -> Iterator[Fault]:
    """Scopes and names of their own, and something that is limited."""
    scopes, names = set(), set()
    for index, limit in enumerate(limits):
        path = f"limits[{index}]"
        if not limit.scope:
            continue  # told where it was read
        scope = parse_scope(limit.scope)
        if scope.kinds & WITHOUT:
            yield f"{path}.scope", path, "a limit is not on a single call or request"
        if scope in scopes:
            yield (
                f"{path}.scope",
                path,
                "another limit has this scope; one entry can limit requests, tokens and calls at once",
            )
        elif limit_name(limit) in names:
            yield f"{path}.name", path, "another limit has this name"
        scopes.add(scope)
        names.add(limit_name(limit))
        if not any(getattr(limit, unit) for unit in UNITS):
            yield path, path, f"limits nothing: it has none of {', '.join(UNITS)}"


def limit_name(limit: Limit) -> str:
    """The name a limit goes by: its own, or its scope."""
    return limit.name or limit.scope


def of_admin(admin: Admin) -> Iterator[Fault]:
    """Tokens that are told apart, by text and by name; off loopback one of an operator's."""
    if not _is_loopback(admin.host) and not admin.token and all(each.role != "operator" for each in admin.tokens):
        yield (
            "admin.host",
            "admin",
            "off loopback the admin listener needs admin.token, or an operator among admin.tokens",
        )
    names, secrets = set(TAKEN), {admin.token} - {Secret()}
    for index, token in enumerate(admin.tokens):
        path = f"admin.tokens[{index}]"
        if token.name in names:
            yield f"{path}.name", path, "another token has this name; admin.token and loopback are taken"
        if token.token in secrets:
            yield f"{path}.token", path, "another name has the same token"
        names.add(token.name)
        secrets.add(token.token)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def of_keys(settings: Settings) -> Iterator[Fault]:
    """Each key once; those of one name (an old and a new one) for one team and user; upstreams that are there and have keys of
    their own.
    """
    hashes: set[str] = set()
    owners: dict[str, tuple[str, str]] = {}
    for index, key in enumerate(settings.keys):
        path = f"keys[{index}]"
        if key.hash in hashes:
            yield f"{path}.hash", path, "another entry has the same key"
        hashes.add(key.hash)
        if owners.setdefault(key.name, (key.team, key.user)) != (key.team, key.user):
            yield f"{path}.name", path, "another key of this name has another team or user"
        yield from _of_upstreams(path, key, settings)
    if settings.auth.mode == "keys":
        for name, upstream in settings.upstreams.items():
            if not upstream.api_key and not upstream.api_keys:
                yield (
                    f"upstreams.{name}",
                    f"upstreams.{name}",
                    "needs an api_key where auth.mode is keys; a server that asks for none takes any word",
                )


def of_provider_keys(settings: Settings) -> Iterator[Fault]:
    """One key or several; each of several is there, once, under a name of its own."""
    for upstream_name, upstream in settings.upstreams.items():
        path, seen = f"upstreams.{upstream_name}.api_keys", set[object]()
        if upstream.api_key and upstream.api_keys:
            yield path, f"upstreams.{upstream_name}", "stands beside api_key; one of them is enough"
        for index, key in enumerate(upstream.api_keys):
            at = f"{path}[{index}]"
            if not key.api_key:
                yield at, at, "has no api_key"
            elif key.api_key in seen:
                yield f"{at}.api_key", at, "another entry has the same key"
            if key.name in seen:
                yield f"{at}.name", at, "another key of this upstream has this name"
            seen |= {key.api_key, key.name}


def _of_upstreams(path: str, key: GatewayKey, settings: Settings) -> Iterator[Fault]:
    for index, name in enumerate(key.upstreams):
        if name not in settings.upstreams:
            yield (
                f"{path}.upstreams[{index}]",
                "upstreams",
                f"there is no upstream of that name{near(name, settings.upstreams)}",
            )
