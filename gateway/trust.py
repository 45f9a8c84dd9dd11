"""Whom our own requests trust (telemetry, webhooks): the system's list of certificates, read when the first of them is sent.

The list takes 20 ms to read and a megabyte to keep. aiohttp reads it twice as it is imported, for contexts that are used by requests
that name none: a quarter of a start. So ``tollgate serve`` imports it with ``lists_unread``, and each request names ``trusted()``; one
that forgets to is refused by its own side, as nobody is trusted then.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

LIST = "SSL_CERT_FILE"
"""OpenSSL's own variable for where the list is."""


@contextmanager
def lists_unread() -> Iterator[None]:
    """Contexts that are made within find nobody in the list. Before there are other threads: the environment is everybody's."""
    before = os.environ.get(LIST)
    os.environ[LIST] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ[LIST]
        else:
            os.environ[LIST] = before


async def trusted() -> ssl.SSLContext:
    """Whom the system trusts."""
    return await asyncio.to_thread(_system)


@cache
def _system() -> ssl.SSLContext:
    return ssl.create_default_context()
