"""Which proxy stands between the gateway and an upstream: what the environment says, and what a proxy's address means.

Reads ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` as curl does (lower case first), and keeps loopback out of
it as Go's ``net/http`` does. Everything is worked out when a config is loaded. Knows addresses; opens nothing.
"""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import field
from urllib.parse import unquote, urlsplit

from gateway.value import value

PORTS = {"http": 80, "https": 443}
NO_ADDRESS = (
    "must be http://HOST:PORT or https://HOST:PORT, with USER:PASSWORD@ before it where the proxy asks for that"
)


@value
class Proxy:
    """A forward proxy. ``tls``: it is spoken to over TLS. ``authorization`` is what it is shown, b"" = nothing."""

    host: str
    port: int
    tls: bool = False
    authorization: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        """Its address, for people: without credentials."""
        return f"{'https' if self.tls else 'http'}://{authority(self.host, self.port).decode('ascii', 'replace')}"

    @property
    def fields(self) -> bytes:
        """What a request to it carries for it alone: lines of a head, or nothing."""
        return b"Proxy-Authorization: %b\r\n" % self.authorization if self.authorization else b""

    def connect_head(self, host: str, port: int) -> bytes:
        """What asks it for a tunnel (RFC 9110 9.3.6)."""
        place = authority(host, port)
        return b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (place, place, self.fields)

    def absolute(self, head: bytes, origin: bytes) -> bytes:
        """A request head for an upstream without TLS as a proxy is to see it: the whole URL in the first line (RFC 9112 3.2.2).

        ``origin`` is ``http://HOST:PORT`` of the upstream.
        """
        line, _, rest = head.partition(b"\r\n")
        method, _, target = line.partition(b" ")
        return b"%b %b%b\r\n%b%b" % (method, origin, target, self.fields, rest)


def authority(host: str, port: int) -> bytes:
    """``HOST:PORT`` as it stands in a request; a name of other letters in its ASCII form, an IPv6 address in brackets."""
    if ":" in host:
        return b"[%b]:%d" % (host.encode("ascii"), port)
    return b"%b:%d" % (host.encode("ascii" if host.isascii() else "idna"), port)


def parse(url: str) -> Proxy:
    """The proxy of an address. One without a scheme is ``http://``, as in curl. ValueError says what it must be, and not what it is."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname or "", parts.port
        if parts.scheme not in PORTS or not host or port == 0 or not url.isprintable() or " " in url:
            raise ValueError
        authority(host, 1)
    except ValueError:
        raise ValueError(NO_ADDRESS) from None
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("takes no path, query or fragment")
    return Proxy(host, port or PORTS[parts.scheme], parts.scheme == "https", _basic(parts.username, parts.password))


def _basic(user: str | None, password: str | None) -> bytes:
    """RFC 7617; in a URL both are percent-encoded."""
    if user is None:
        return b""
    return b"Basic " + b64encode(f"{unquote(user)}:{unquote(password or '')}".encode())


def masked(url: str) -> str:
    """The address with three stars in place of user and password."""
    hidden, has_user, place = url.rpartition("@")
    scheme, mark, _ = hidden.partition("://")
    return f"{f'{scheme}://' if mark else ''}***@{place}" if has_user else url


def of_environment(environ: Mapping[str, str], *, host: str, port: int, tls: bool) -> Proxy | None:
    """The proxy that the environment names for an upstream. ValueError, naming the variable, when it is none that can be used."""
    if is_loopback(host) or is_exempt(_value(environ, "no_proxy")[1], host, port):
        return None
    for variable in ("https_proxy" if tls else "http_proxy", "all_proxy"):
        name, value = _value(environ, variable)
        if value:
            try:
                return parse(value)
            except ValueError as error:
                raise ValueError(f"the proxy that {name} names {error}") from None
    return None


def _value(environ: Mapping[str, str], variable: str) -> tuple[str, str]:
    """The name under which a variable is set, and its value; an empty one is as good as none."""
    for name in (variable, variable.upper()):
        if value := environ.get(name, "").strip():
            return name, value
    return variable, ""


def is_loopback(host: str) -> bool:
    """Whether it is this machine: a proxy elsewhere would look for the upstream on its own."""
    host = host.rstrip(".").lower()
    address = _address(host)
    return address.is_loopback if address is not None else host == "localhost" or host.endswith(".localhost")


def is_exempt(no_proxy: str, host: str, port: int) -> bool:
    """Whether ``NO_PROXY`` names it: ``*``, a host (with all that is below it), ``.suffix``, an address or a network in CIDR, each
    with or without a port, separated by commas or spaces. Names are not looked up, so that networks are held against addresses only.
    """
    name = host.rstrip(".").lower()
    address = _address(name)
    return any(_names(entry.lower(), name, address, port) for entry in no_proxy.replace(",", " ").split())


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _names(entry: str, host: str, address: Address | None, port: int) -> bool:
    if entry == "*":
        return True
    place, only = _split_port(entry)
    if only not in (0, port):
        return False
    if address is not None:
        network = _network(place)
        return network is not None and address in network
    suffix = place.removeprefix("*").strip(".")
    return bool(suffix) and (host == suffix or host.endswith(f".{suffix}"))


def _split_port(entry: str) -> tuple[str, int]:
    """An entry and the port that it is limited to; 0 = any, -1 = none that there is."""
    if entry.startswith("["):
        place, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    elif entry.count(":") == 1:
        place, _, port = entry.partition(":")
    else:
        return entry, 0
    return place, int(port) if port.isascii() and port.isdecimal() else -1 if port else 0


def _address(host: str) -> Address | None:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
