"""Sockets that several processes accept from: opened before any of them is there, open as long as one is to come back.

Each worker has a socket of its own on the front's port (SO_REUSEPORT: Linux spreads connections over them). The supervisor keeps
all of them open. What the kernel has queued on the socket of a worker that ends waits for the one that takes its place: a
listener that is closed would reset it (measured: docs/decisions/0011-workers.md).
"""

from __future__ import annotations

import socket

BACKLOG = 2048


def open_listeners(host: str, port: int, count: int) -> list[tuple[socket.socket, ...]]:
    """``count`` times a socket for each address of ``host``, all on one port (0 takes a free one). OSError when it cannot be had."""
    addresses = _addresses(host, port)
    _refuse_taken(addresses)
    found: list[tuple[socket.socket, ...]] = []
    for _ in range(count):
        row = []
        for family, address in addresses:
            bound = (address[0], port, *address[2:])
            row.append(_listen(family, bound, shared=True))
            port = port or row[0].getsockname()[1]
        found.append(tuple(row))
    return found


def port_of(listeners: list[tuple[socket.socket, ...]]) -> int:
    """The port that all of them listen on."""
    port: int = listeners[0][0].getsockname()[1]
    return port


def _addresses(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))  # type: ignore[misc]  # (host, port, ...)


def _refuse_taken(addresses: list[tuple[int, tuple[str, int]]]) -> None:
    """SO_REUSEPORT alone would share the port with another gateway of the same user, half of the calls each, without a word."""
    for family, address in addresses:
        if address[1]:
            _listen(family, address, shared=False).close()


def _listen(family: int, address: tuple[str, int], *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise OSError(error.errno, f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from None
    return made
