"""Settings -> their canonical form, and its hash: what ``tollgate check`` and the admin API show, secrets masked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

from gateway.kinds import HASH, WRITERS, Kind, Secret
from gateway.settings import DEFAULT_UPSTREAMS, Settings

Hide = Callable[[Secret | str], str]
"""What stands in the place of a secret, or of the hash of a key."""
SHOWN_HEX = 12
"""So many digits of a key's hash tell it from others; nobody needs the rest."""


def canonical(settings: Settings) -> dict[str, Any]:
    """The settings as YAML would have them, secrets masked and of hashes the beginning: what ``tollgate check`` and the admin API show."""
    return _shown_block(settings, _masked)


def version(settings: Settings) -> str:
    """The version of a config: 12 hex digits over its canonical form. Secrets count, as hashes, and keys with all of theirs."""
    hashed = _shown_block(settings, _hashed)
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:12]


def shown(block: Any) -> dict[str, Any]:
    """One block as YAML would have it."""
    return _shown_block(block, _masked)


def short_hash(text: str) -> str:
    """What is shown of the hash of a key (``sha256:`` and 64 hex digits)."""
    return text.removeprefix("sha256:")[:SHOWN_HEX]


def _masked(hidden: Secret | str) -> str:
    return short_hash(hidden) if isinstance(hidden, str) else str(hidden)


def _hashed(hidden: Secret | str) -> str:
    return hidden if isinstance(hidden, str) else hashlib.sha256(hidden.reveal().encode()).hexdigest()


def _shown_block(block: Any, hide: Hide) -> dict[str, Any]:
    return {yaml_name(each): _shown(each.metadata["kind"], getattr(block, each.name), hide) for each in fields(block)}


def _shown(kind: Kind, value: Any, hide: Hide) -> Any:
    if kind.name == "block":
        return _shown_block(value, hide)
    if kind.name == "map" and kind.of is not None:
        removed = dict.fromkeys(name for name in DEFAULT_UPSTREAMS if name not in value)
        return {name: _shown(kind.of, each, hide) for name, each in value.items()} | removed
    if kind.name == "list" and kind.of is not None:
        return [_shown(kind.of, each, hide) for each in value]
    if kind.name == "words":
        return {name: _shown(kind.of, each, hide) if kind.of else each for name, each in value.items()}
    if isinstance(value, Secret) or kind.name == HASH.name:
        return hide(value)
    return WRITERS[kind.name](value) if kind.name in WRITERS else value


def yaml_name(each: Field[Any]) -> str:
    """The name of a field in the file."""
    return str(each.metadata["yaml"] or each.name)
