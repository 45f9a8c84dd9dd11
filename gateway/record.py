"""The Call, flattened into its Record: a pure function, so that whatever is told of a call is told from one place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.call import Call, Metered, Record, own_trace_id
from pricing.money import Cost
from pricing.usage import Usage

if TYPE_CHECKING:
    from gateway.accounts import Claim


def record_of(call: Call) -> Record:
    """All that is known of a finished call."""
    request, ask, caller, ending = call.request, call.ask, call.caller, call.ending
    usage = call.usage or Metered(Usage())
    cost = call.cost or Cost(0)
    ended_ns = ending.ended_ns if ending is not None else call.started_ns
    first_ns = ending.first_byte_ns if ending is not None else 0
    return Record(
        call_id=call.call_id,
        correlation_id=caller.correlation_id if caller else call.call_id,
        trace_id=(caller.trace_id if caller else "") or own_trace_id(call.call_id),
        started_at=timestamp(call.started_at),
        team=caller.team if caller else "",
        user=caller.user if caller else "",
        agent=caller.agent if caller else "",
        call_type=caller.call_type if caller else "",
        tags=dict(caller.tags) if caller else {},
        key_name=caller.key_name if caller else "",
        upstream=request.upstream if request else "",
        provider=request.provider if request else "",
        protocol=request.protocol if request else "",
        operation=ask.operation if ask else "",
        model_requested=ask.model if ask else "",
        model_served=usage.model_served,
        stream=ask.stream if ask else False,
        status=ending.status if ending else 0,
        error_type=ending.error_type if ending else "",
        attempts=ending.attempts if ending else 0,
        usage=usage.usage.counts(),
        usage_source=usage.source,
        usage_method=usage.method,
        usage_raw=usage.raw,
        cost_nanousd=cost.nanousd,
        price_rows=cost.rows,
        pricebook=cost.book,
        unpriced=cost.unpriced,
        service_tier=usage.service_tier,
        held_nanousd=call.hold.amount_nanousd if call.hold else 0,
        budgets=_budgets(call),
        latency_ms=_ms(ended_ns - call.started_ns),
        ttft_ms=_ms(first_ns - call.started_ns) if first_ns else None,
        overhead_ms=_overhead_ms(call),
        read_ms=_ms(request.received_ns - call.started_ns) if request and request.received_ns else 0.0,
        reserve_ms=_ms(call.reserve_ns),
        sent_ms=_ms(ending.sent_ns - call.started_ns) if ending is not None and ending.sent_ns else None,
        request_bytes=ending.request_bytes if ending else 0,
        response_bytes=ending.response_bytes if ending else 0,
        config_version=call.config_version,
        outcome=ending.outcome if ending else "refused",
        accounts=tuple(str(claim.account) for claim in booked(call)),
        touched=("stream_usage",) if request is not None and request.sent_body is not None else (),
        priced_as=request.priced_as if request else "",
        own_count=call.compared or {},
        awaits=usage.awaits,
        largest_input=usage.largest_input,
        would_refuse=call.hold.would_refuse if call.hold else (),
        refused_by=_refused_by(call),
        waited_ms=_ms(call.waited_ns) if call.waited_ns else 0,
        provider_key=ending.provider_key if ending else "",
        parent_span_id=caller.parent_span_id if caller else "",
        sampled=caller.sampled if caller else "",
    )


def _budgets(call: Call) -> tuple[str, ...]:
    """The budgets that the call met; the one that refused it stands first."""
    met = [claim.budget for claim in call.claims or () if claim.budget]
    refusing = call.refusal.budget if call.refusal is not None else ""
    return tuple(sorted(met, key=lambda budget: budget != refusing)) if refusing else tuple(met)


def _refused_by(call: Call) -> dict[str, str]:
    excess = call.refusal.excess if call.refusal is not None else None
    return {"limit": excess.limit, "scope": excess.scope, "unit": excess.unit} if excess is not None else {}


def booked(call: Call) -> Sequence[Claim]:
    """The claims that are charged: none for a call that was refused before anything was set aside."""
    charged = call.hold is not None or (call.cost is not None and call.cost.nanousd)
    return (call.claims or ()) if charged else ()


def _overhead_ms(call: Call) -> float:
    """What the gateway itself took before the request left: everything but reading the body and the upstream's own time."""
    if call.ending is None or call.request is None or not call.ending.sent_ns:
        return 0.0
    return _ms(max(0, call.ending.sent_ns - call.request.received_ns - call.waited_ns))


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)


@lru_cache(maxsize=4)
def _second(unix_second: int) -> str:
    return datetime.fromtimestamp(unix_second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def timestamp(unix_seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    second = int(unix_seconds)
    return f"{_second(second)}.{int((unix_seconds - second) * 1000):03d}Z"
