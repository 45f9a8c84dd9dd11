"""ETags: what a GET answers is known by a hash of it, and not sent again to who has it (RFC 9110 8.8.3, 13.1.2)."""

from __future__ import annotations

import asyncio
import hashlib

from aiohttp import ETag, web

AT_ONCE_BYTES = 256 << 10
"""So much is hashed within the event loop: a third of a millisecond."""
KEPT = ("Cache-Control", "Vary")
"""What a 304 says as well: whatever a cache needs (RFC 9110 15.4.5)."""


async def unless_known(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """The answer with its ETag; 304 where If-None-Match names that. Anything but a whole 200 stays as it is."""
    if request.method not in ("GET", "HEAD") or response.status != 200 or not isinstance(response, web.Response):
        return response
    if response.etag is None:
        if response.content_type != "application/json" or not isinstance(response.body, bytes):
            return response
        response.etag = await _hash(response.body)
    known = request.if_none_match
    if known is None or not any(each.value in ("*", response.etag.value) for each in known):
        return response
    unchanged = web.Response(
        status=304, headers={name: response.headers[name] for name in KEPT if name in response.headers}
    )
    unchanged.etag = response.etag
    return unchanged


async def _hash(body: bytes) -> ETag:
    """Weak: the same bytes may be packed differently on their way."""
    digest = _digest(body) if len(body) <= AT_ONCE_BYTES else await asyncio.to_thread(_digest, body)
    return ETag(digest, is_weak=True)


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=12).hexdigest()
