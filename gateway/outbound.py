"""The proxy on the way to each upstream: its own key's, or the environment's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from gateway.settings import Settings, Upstream
from gateway.wire.proxies import Proxy, of_environment, parse

NONE = "none"
"""What ``upstreams.NAME.proxy`` says where the environment's is not meant."""


def proxy_of(upstream: Upstream, environ: Mapping[str, str]) -> Proxy | None:
    """The one that an upstream is reached by. ValueError when the environment names one that cannot be used."""
    own, url = upstream.proxy.reveal(), urlsplit(upstream.base_url)
    if own:
        return None if own == NONE else parse(own)
    tls = url.scheme == "https"
    return of_environment(environ, host=url.hostname or "", port=url.port or (443 if tls else 80), tls=tls)


def unusable(settings: Settings, environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Where the environment names none that can be used: the key, the same again, and the words, as ``agreement`` has them."""
    for name, upstream in settings.upstreams.items():
        at = f"upstreams.{name}.proxy"
        try:
            proxy_of(upstream, environ)
        except ValueError as error:
            yield at, at, str(error)
