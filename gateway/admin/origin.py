"""Which requests a browser sent for somebody else: for another web site, or under a name that is not this listener's.

There are no cookies here, so that a foreign page has nothing to ride on but the loopback listener without a token. The rule for
other sites is that of Go's ``http.CrossOriginProtection``: Sec-Fetch-Site decides where a browser sends it, Origin against Host
where it does not; who sends neither is no browser.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from aiohttp import web

OWN_SITES = ("same-origin", "none")
"""``none`` is a person: the address bar, a bookmark. ``same-site`` is not ours: every port of localhost is one site."""


def is_from_elsewhere(request: web.Request) -> bool:
    """Whether another site made a browser send it. A link that a person followed is none: what it opens, the other site cannot
    read, and nothing is changed by it.
    """
    site = request.headers.get("Sec-Fetch-Site", "")
    if site:
        return site not in OWN_SITES and not _is_followed(request)
    origin = request.headers.get("Origin")
    return origin is not None and _netloc(origin) != request.host.lower()


def is_own_name(request: web.Request, own: str) -> bool:
    """Whether a request to a loopback listener names this machine. Else a page whose name was bound to 127.0.0.1 asks (DNS
    rebinding).
    """
    name = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    return name in (own, "localhost") or is_loopback(name.strip("[]"))


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_followed(request: web.Request) -> bool:
    fields = request.headers
    return (
        request.method in ("GET", "HEAD")
        and fields.get("Sec-Fetch-Mode") == "navigate"
        and fields.get("Sec-Fetch-Dest") == "document"
    )


def _netloc(origin: str) -> str:
    """``null`` has none, which is nobody's."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
