"""An upstream as the wire knows it: where it is, and how to talk to it."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from gateway.value import value

if TYPE_CHECKING:
    from gateway.wire.credentials import Credential
    from gateway.wire.proxies import Proxy


@value
class Endpoint:
    """Where an upstream is and how to talk to it, compiled from the config. Times in seconds, 0 = no limit."""

    name: str
    provider: str
    protocol: str
    host: str
    port: int
    tls: bool
    host_header: bytes
    base_path: str
    credential: tuple[bytes, bytes] | None = field(default=None, repr=False)
    credentials: tuple[Credential, ...] = ()
    """Several, of which each call has one; then ``credential`` is None."""
    verify_tls: bool = True
    ca_file: str = ""
    connect_s: float = 10.0
    first_byte_s: float = 0.0
    idle_s: float = 0.0
    keepalive_s: float = 15.0
    max_idle: int = 256
    max_age_s: float = 0.0
    proxy: Proxy | None = None
