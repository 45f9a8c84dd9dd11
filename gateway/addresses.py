"""Addresses of the network as text has them."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@lru_cache(maxsize=4096)
def read_address(text: str) -> Address | None:
    """None for what is none. An IPv4 address that came over an IPv6 socket is an IPv4 address; a zone (``%eth0``) is no part of
    an address.
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
