"""How a key of the config is declared: a dataclass field with its kind, its sentence and what else ``loading`` and ``reload`` ask."""

from __future__ import annotations

from dataclasses import field
from types import MappingProxyType
from typing import Any

from gateway.kinds import Kind


def key(default: Any, kind: Kind, says: str, *, yaml: str = "", required: bool = False, restart: bool = False) -> Any:
    """A field of a block. ``yaml`` is its name in the file where that differs; ``required`` keys have no sensible default;
    ``restart`` marks what a running gateway cannot change, for a block with everything in it.
    """
    told = {"kind": kind, "says": says, "yaml": yaml, "required": required, "restart": restart}
    if isinstance(default, MappingProxyType):
        return field(default_factory=lambda: default, metadata=told)
    return field(default=default, metadata=told)
