"""How a connection to an upstream comes about: its name, its addresses, the proxy on the way, TLS; and what a caller may know of one
that did not.

Each connection looks the name up anew, so that a change of DNS is followed. Knows sockets; does not know what a connection is for.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from aiohappyeyeballs import start_connection

from gateway.errors import Failure, Kind, Whose

if TYPE_CHECKING:
    from gateway.wire.endpoint import Endpoint
    from gateway.wire.proxies import Proxy

HAPPY_EYEBALLS_S = 0.25
"""After so long without an answer the next address is tried beside the first (RFC 8305 section 5)."""
MAX_ANSWER_BYTES = 64 * 1024
"""Longest head with which a proxy answers a CONNECT."""
UPSTREAM, PROXY = "upstream", "proxy on the way to the upstream"
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])(?: [^\r\n]*)?\r\n")
Made = TypeVar("Made", bound=asyncio.Protocol)


class Connector:
    """Makes connections to one endpoint, whatever stands on the way."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        proxy = endpoint.proxy
        self._tls = _Tls(endpoint.ca_file, verify=endpoint.verify_tls) if endpoint.tls else None
        self._proxy_tls = _Tls() if proxy is not None and proxy.tls else None

    async def connect(self, make: Callable[[], Made], *, tunnel: bool) -> Made:
        """A protocol of ``make`` with a connection, or a Failure that says what went wrong and names no address. ``tunnel``: where there
        is a proxy it joins the two ends byte for byte, in place of reading each request.
        """
        endpoint, proxy = self._endpoint, self._endpoint.proxy
        try:
            async with asyncio.timeout(endpoint.connect_s or None):
                if proxy is None:
                    return await _open(make, endpoint.host, endpoint.port, self._tls)
                if tunnel:
                    return await self._inside(make, await self._agreed(proxy))
                return await self._to(proxy, make)
        except TimeoutError:
            raise Failure(
                Kind.UPSTREAM_TIMEOUT, Whose.UPSTREAM, "Connecting to the upstream took too long.", may_retry=True
            ) from None
        except (OSError, UnicodeError) as error:
            raise _unreachable(_why(error, UPSTREAM)) from None

    async def _to(self, proxy: Proxy, make: Callable[[], Made]) -> Made:
        try:
            return await _open(make, proxy.host, proxy.port, self._proxy_tls)
        except (OSError, UnicodeError) as error:
            raise _unreachable(_why(error, PROXY)) from None

    async def _agreed(self, proxy: Proxy) -> _Asking:
        """A connection to the proxy that has agreed to join it to the upstream."""
        head = proxy.connect_head(self._endpoint.host, self._endpoint.port)
        asking = await self._to(proxy, lambda: _Asking(head))
        try:
            await asking.agreed
        except BaseException:
            asking.transport.abort()
            raise
        return asking

    async def _inside(self, make: Callable[[], Made], asking: _Asking) -> Made:
        """The tunnel becomes the connection, behind the upstream's own TLS if it has that."""
        transport = asking.transport
        try:
            if self._tls is not None:
                loop, host, tls = asyncio.get_running_loop(), self._endpoint.host, await self._tls.context()
                inner = await loop.start_tls(transport, asking, tls, server_hostname=host)
                transport = cast("asyncio.Transport", inner)
            if asking.is_spoiled or transport.is_closing():
                raise ConnectionResetError
            made = make()
            transport.set_protocol(made)
            made.connection_made(transport)
        except BaseException:
            asking.transport.abort()
            raise
        return made


async def _open(make: Callable[[], Made], host: str, port: int, tls: _Tls | None) -> Made:
    loop = asyncio.get_running_loop()
    context = await tls.context() if tls is not None else None
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    reached = await start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_S)
    _, made = await loop.create_connection(make, sock=reached, ssl=context, server_hostname=host if tls else None)
    return made


class _Tls:
    """Whom a side trusts: who is in ``ca_file``, else whom the system trusts, whose list takes 20 ms to read. That is done when it is
    first needed, and off the loop; a file of one's own is read at once, so that a load says what is wrong with it.
    """

    def __init__(self, ca_file: str = "", *, verify: bool = True) -> None:
        self._verify = verify
        self._context = self._made(ca_file) if ca_file else None

    async def context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = await asyncio.to_thread(self._made)
        return self._context

    def _made(self, ca_file: str = "") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=ca_file or None)
        context.set_alpn_protocols(["http/1.1"])
        if not self._verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class _Asking(asyncio.Protocol):
    """Asks a proxy for a tunnel (CONNECT, RFC 9110 9.3.6). ``agreed`` is done at a 2xx, or has the Failure of everything else, whose
    text is never the proxy's own. ``is_spoiled``: bytes came that nobody asked for, or the connection was lost.
    """

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._answer = b""
        self.agreed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_spoiled = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        if self.agreed.done():
            self.is_spoiled = True
            return
        self._answer += data
        status = None
        while status is None or status[1].startswith(b"1"):  # an interim answer: more is to come (RFC 9110 15.2)
            head, ended, rest = self._answer.partition(b"\r\n\r\n")
            if not ended and len(head) <= MAX_ANSWER_BYTES:
                return
            status = _STATUS_LINE.match(head + b"\r\n") if ended else None
            if status is None:
                break
            self._answer = rest
        if status is None or (rest and status[1].startswith(b"2")):
            self._refuse("sent something that is no answer to CONNECT")
        elif status[1].startswith(b"2"):
            self.agreed.set_result(None)
        else:
            self._refuse(f"refused the connection (HTTP {int(status[1])})")

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_spoiled = True
        self._refuse("closed the connection")

    def _refuse(self, what: str) -> None:
        if not self.agreed.done():
            self.agreed.set_exception(_unreachable(f"The {PROXY} {what}."))
            self.agreed.exception()  # seen: whoever asked may be gone


def _unreachable(message: str) -> Failure:
    return Failure(Kind.UPSTREAM_UNREACHABLE, Whose.UPSTREAM, message, may_retry=True)


def _why(error: Exception, whom: str) -> str:
    """What a caller may know of a connection that did not come about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The TLS certificate of the {whom} could not be verified."
    if isinstance(error, ssl.SSLError):
        return f"The TLS handshake with the {whom} failed."
    if isinstance(error, socket.gaierror):
        return f"The host name of the {whom} could not be resolved."
    if isinstance(error, ConnectionRefusedError):
        return f"The {whom} refused the connection."
    return f"The {whom} could not be reached."
