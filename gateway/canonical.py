"""Settings -> their canonical form, and its hash: what ``tollgate check`` and the admin API show, secrets masked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

from gateway.kinds import WRITERS, Kind, Secret
from gateway.settings import DEFAULT_UPSTREAMS, Settings


def canonical(settings: Settings) -> dict[str, Any]:
    """The settings as YAML would have them, secrets masked: what ``tollgate check`` and the admin API show."""
    return _shown_block(settings, str)


def version(settings: Settings) -> str:
    """The version of a config: 12 hex digits over its canonical form. Secrets count, as hashes."""
    hashed = _shown_block(settings, lambda secret: hashlib.sha256(secret.reveal().encode()).hexdigest())
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:12]


def shown(block: Any) -> dict[str, Any]:
    """One block as YAML would have it."""
    return _shown_block(block, str)


def _shown_block(block: Any, secret: Callable[[Secret], str]) -> dict[str, Any]:
    return {yaml_name(each): _shown(each.metadata["kind"], getattr(block, each.name), secret) for each in fields(block)}


def _shown(kind: Kind, value: Any, secret: Callable[[Secret], str]) -> Any:
    if kind.name == "block":
        return _shown_block(value, secret)
    if kind.name == "map" and kind.of is not None:
        removed = dict.fromkeys(name for name in DEFAULT_UPSTREAMS if name not in value)
        return {name: _shown(kind.of, each, secret) for name, each in value.items()} | removed
    if kind.name == "list" and kind.of is not None:
        return [_shown(kind.of, each, secret) for each in value]
    if kind.name == "words":
        return {name: _shown(kind.of, each, secret) if kind.of else each for name, each in value.items()}
    if isinstance(value, Secret):
        return secret(value)
    return WRITERS[kind.name](value) if kind.name in WRITERS else value


def yaml_name(each: Field[Any]) -> str:
    """The name of a field in the file."""
    return str(each.metadata["yaml"] or each.name)
