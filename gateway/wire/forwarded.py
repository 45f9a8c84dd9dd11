"""Where a call comes from that came through proxies: what they wrote into ``X-Forwarded-For`` or ``Forwarded`` (RFC 7239).

Anybody can write these fields, so they count only when the connection itself comes from a proxy that the config trusts, and then
from the right, where that proxy wrote: the right-most address that is no trusted proxy's is the caller's. What stands to the left
of it is the caller's own word. Law: what cannot be read is no address, and where the two fields say different things there is
none either: a proxy writes one of them and passes the other on as it came. Only a gateway key with networks asks; the fields
themselves go on to the upstream as they came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gateway.addresses import Network, read_address

if TYPE_CHECKING:
    from gateway.call import Headers

X_FORWARDED_FOR, FORWARDED = b"x-forwarded-for", b"forwarded"
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_TEXT = r'"(?:[^"\\]|\\.)*+"'
_PAIR = rf"{_WORD}=(?:{_WORD}|{_TEXT})"
_ELEMENT = re.compile(rf"[ \t]*+({_PAIR}(?:[ \t]*+;[ \t]*+{_PAIR})*+)?[ \t]*+(?:,|\Z)")
_PARAMETER = re.compile(rf"({_WORD})=({_WORD}|{_TEXT})")
_QUOTED = re.compile(r"\\(.)")
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[0-9A-Za-z._~-]+)?)\]|([0-9.]+))(?::[0-9]{1,5})?")
"""An address as proxies write it with a port: IPv6 in brackets. A bare IPv6 address has none."""
MOST_BYTES = 4096
"""A hundred hops. To read the 32 KB that may be sent took 66 ms; what is longer is one hop that is no address."""


class Proxies:
    """The networks of the proxies that are trusted."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)

    def caller(self, peer: str, headers: Headers) -> str:
        """The caller's address, given that of the other end of the connection; "" where nobody can tell."""
        if not self._networks or not self._trusts(peer):
            return peer
        told = {self._right_most(found) for found in (_listed(headers), _forwarded(headers)) if found}
        if len(told) > 1:
            return ""
        return told.pop() if told else peer

    def _trusts(self, text: str) -> bool:
        address = read_address(text)
        return address is not None and any(address in network for network in self._networks)

    def _right_most(self, hops: list[str]) -> str:
        """The first from the right that is not trusted; the left-most where all are: a call of the proxies' own network."""
        for hop in reversed(hops):
            if not self._trusts(hop):
                address = read_address(hop)
                return str(address) if address is not None else ""
        return str(read_address(hops[0]))


def _listed(headers: Headers) -> list[str]:
    """The hops of ``X-Forwarded-For``, "" for one that is no address. Several fields are one (RFC 9110 5.3)."""
    return [_bare(hop.strip(" \t")) for value in _values(headers, X_FORWARDED_FOR) for hop in value.split(",")]


def _forwarded(headers: Headers) -> list[str]:
    """The same of ``Forwarded``: the ``for`` of each element. A field that breaks its grammar is one hop that is no address."""
    hops: list[str] = []
    for value in _values(headers, FORWARDED):
        at = 0
        while at < len(value):
            element = _ELEMENT.match(value, at)
            if element is None:
                hops.append("")
                break
            at = element.end()
            named = [said for name, said in _PARAMETER.findall(element[1] or "") if name.lower() == "for"]
            hops.append(_bare(_unquoted(named[0])) if len(named) == 1 else "")
    return hops


def _values(headers: Headers, wanted: bytes) -> Iterator[str]:
    found = [value for name, value in headers if len(name) == len(wanted) and name.lower() == wanted]
    if sum(map(len, found)) > MOST_BYTES:
        found = [b"-"]
    for value in found:
        yield value.decode("latin-1")


def _unquoted(text: str) -> str:
    return _QUOTED.sub(r"\1", text[1:-1]) if text.startswith('"') else text


def _bare(text: str) -> str:
    """The address without its port; "" for what is no address (``unknown``, ``_hidden``)."""
    match = _WITH_PORT.fullmatch(text)
    bare = (match[1] or match[2]) if match is not None else text
    return bare if read_address(bare) is not None else ""
