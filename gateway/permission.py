"""Whether a gateway key allows what a call asks for: by its own words, and by whatever else its provider might serve for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.admission.models import forbid_further, named_twice
from gateway.wire.routes import times_in_query

if TYPE_CHECKING:
    from gateway.admission.keys import Key
    from gateway.call import Ask, Request
    from gateway.errors import Refusal

MODEL_IN_QUERY = frozenset(("model", "deployment"))
"""Parameters by which a WebSocket names its model."""
LARGE_BODY_BYTES = 64 * 1024
"""A body so large may take half a millisecond to be looked through."""


async def forbid(key: Key, ask: Ask, request: Request, *, may_spend: bool, upgrade: bool) -> Refusal | None:
    """Why what is asked may not be had with the key. Models that stand beside the one that is asked for are looked for only
    where the key limits them; in a thread where that takes long.
    """
    refusal = key.forbid(ask, request.upstream, may_spend=may_spend)
    if refusal is not None or key.models is None or not may_spend:
        return refusal
    if upgrade and times_in_query(request.target, MODEL_IN_QUERY) > 1:
        return named_twice(key)
    body = request.body or b""
    if len(body) <= LARGE_BODY_BYTES:
        return forbid_further(key, body, request.headers)
    return await asyncio.to_thread(forbid_further, key, body, request.headers)
