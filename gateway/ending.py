"""How a call ended: by whose doing, with which status, and when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gateway.call import Ending
from gateway.errors import MEANINGS, Kind, Whose

if TYPE_CHECKING:
    from gateway.call import Call
    from gateway.errors import Refusal
    from gateway.wire.arrival import Arrival
    from gateway.wire.attempts import Sent

OUTCOMES = {Whose.FRONT: "client_disconnected", Whose.UPSTREAM: "upstream_error", Whose.OURS: "cut"}
"""Of calls that broke, by whose doing it was."""


def ending_of(arrival: Arrival, call: Call, sent: Sent) -> Ending:
    """Of a call that went out."""
    relay, failure, request = sent.relay, sent.failure, call.request
    outcome, error_type = "completed", ""
    if failure is not None:
        outcome = OUTCOMES[failure.whose]
        has_left = failure.whose is Whose.FRONT and failure.kind is Kind.UPSTREAM_RESET
        error_type = (
            "client_disconnected" if has_left else failure.kind.value
        )  # it may also have sent what cannot be taken
    elif relay is not None and relay.front_gone:
        outcome, error_type = "client_disconnected", "client_disconnected"
    elif relay is not None and relay.status >= 400:
        outcome, error_type = "upstream_error", str(relay.status)
    status = arrival.reply.status or (MEANINGS[failure.kind].status if failure and not arrival.gone else 0)
    upstream, now_ns = request.upstream if request is not None else "", time.monotonic_ns()
    if relay is None:
        return Ending(
            outcome, status, error_type, upstream, sent.attempts, ended_ns=now_ns, provider_key=sent.provider_key
        )
    return Ending(
        outcome,
        status,
        error_type,
        upstream,
        sent.attempts,
        relay.sent_ns,
        relay.first_byte_ns,
        now_ns,
        sent.request_bytes,
        relay.response_bytes,
        sent.provider_key,
    )


def ending_refused(call: Call, refusal: Refusal, status: int, *, gone: bool) -> Ending:
    """Of one that the gateway answered."""
    return Ending(
        outcome="client_disconnected" if gone else "refused",
        status=status,
        error_type=refusal.kind.value,
        upstream=call.request.upstream if call.request is not None else "",
        ended_ns=time.monotonic_ns(),
        request_bytes=len(call.request.body or b"") if call.request is not None else 0,
    )
