"""Addresses that try tokens out: after so many wrong ones within a minute no token is looked at any more for a minute.

While an address is locked out, a right token and a wrong one are answered alike: who guesses learns nothing. It cannot be kept
locked for ever either: what is refused meanwhile does not count.
"""

from __future__ import annotations

import ipaddress
import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger("gateway.admin")

MOST_WRONG = 10
WITHIN_S = 60.0
LOCKED_S = 60.0
MOST_ADDRESSES = 10_000
"""About 2 MB; the address that was heard of longest ago is forgotten first."""
IPV6_PREFIX = 64
"""Whoever has one address of such a network has all of them (RFC 6177)."""


@dataclass(slots=True)
class _Tried:
    since: float
    wrong: int = 0
    locked_until: float = 0.0


class Lockout:
    """Counts wrong tokens by address. ``clock`` gives seconds that only go forward."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tried: OrderedDict[str, _Tried] = OrderedDict()

    def left_s(self, address: str) -> int:
        """For how many seconds the address is locked out still, at least 1; 0 = it is not."""
        tried = self._tried.get(_network(address))
        return max(0, math.ceil(tried.locked_until - self._clock())) if tried is not None else 0

    def count(self, address: str) -> None:
        """A wrong token came from there."""
        network, now = _network(address), self._clock()
        tried = self._tried.get(network)
        if tried is None or now - tried.since >= WITHIN_S:
            tried = self._tried[network] = _Tried(now)
        self._tried.move_to_end(network)
        if len(self._tried) > MOST_ADDRESSES:
            self._tried.popitem(last=False)
        tried.wrong += 1
        if tried.wrong >= MOST_WRONG:
            self._tried[network] = _Tried(now, locked_until=now + LOCKED_S)
            log.warning("%d wrong tokens from %s: none is looked at for %d s", MOST_WRONG, network, LOCKED_S)


def _network(address: str) -> str:
    """What counts as one address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, IPV6_PREFIX), strict=False))
    return str(found)
