"""Ports for servers that a test starts: free ones, and no two for tests that run at the same time."""

from __future__ import annotations

import itertools
import os
import random
import socket

FIRST, COUNT = 20_000, 10_000
"""Below what the kernel hands out by itself (32768 and above), so that no outgoing connection sits on one."""
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0)
_WORKERS = max(1, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
_OWN = range(FIRST + COUNT * _WORKER // _WORKERS, FIRST + COUNT * (_WORKER + 1) // _WORKERS)
_next = itertools.cycle(_OWN)
for _ in range(random.SystemRandom().randrange(len(_OWN))):  # another run on this machine begins elsewhere
    next(_next)


def free_port() -> int:
    """A port that nobody listens on, and that was not given to anybody for a long time."""
    while True:
        port = next(_next)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
