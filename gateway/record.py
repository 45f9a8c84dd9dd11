"""The Call, flattened into its Record: a pure function, so that whatever is told of a call is told from one place."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.accounts import Hold
from gateway.call import Ask, Call, Caller, Ending, Metered, Record, Request, own_trace_id
from pricing.money import Cost
from pricing.usage import Usage

if TYPE_CHECKING:
    from gateway.accounts import Account, Claim
    from gateway.errors import Refusal

MAX_REMEMBERED = 4096
"""Sets of accounts whose texts are kept: there is one for each user, agent and model of a day."""

_NO_REQUEST = Request("", "", (), {}, "", "", "")
_NO_ASK = Ask("", metered=False)
_NO_ONE = Caller()
_NO_ENDING = Ending("refused")
_NO_HOLD = Hold("", 0, ())
_NO_USAGE = Metered(Usage())
_NO_COST = Cost(0)
"""What a call has of a step that it did not come to."""
_MILLISECONDS = [f".{number:03d}Z" for number in range(1000)]


def record_of(call: Call) -> Record:
    """All that is known of a finished call; times in milliseconds, to the microsecond. In the order of the fields and without their
    names, which would cost 3 of 7 us; a test compares them by name.
    """
    request, ask, caller = call.request or _NO_REQUEST, call.ask or _NO_ASK, call.caller or _NO_ONE
    ending, hold = call.ending or _NO_ENDING, call.hold or _NO_HOLD
    usage, cost = call.usage or _NO_USAGE, call.cost or _NO_COST
    started_ns, received_ns, waited_ns = call.started_ns, request.received_ns, call.waited_ns
    sent_ns, first_byte_ns, ended_ns = ending.sent_ns, ending.first_byte_ns, ending.ended_ns
    return Record(
        call.call_id, caller.correlation_id or call.call_id, caller.trace_id or own_trace_id(call.call_id), timestamp(call.started_at),
        caller.team, caller.user, caller.agent, caller.call_type, dict(caller.tags), caller.key_name,
        request.upstream, request.provider, request.protocol,
        ask.operation, ask.model, usage.model_served, ask.stream,
        ending.status, ending.error_type, ending.attempts,
        usage.usage.counts(), usage.source, usage.method, usage.raw,
        cost.nanousd, cost.rows, cost.book, cost.unpriced, usage.service_tier,
        hold.amount_nanousd, _budgets(call),
        (ended_ns - started_ns) // 1000 / 1000 if ended_ns else 0.0,
        (first_byte_ns - started_ns) // 1000 / 1000 if first_byte_ns else None,
        # what the gateway itself took before the request left: all but reading the body, waiting for room, and the upstream
        max(0, sent_ns - received_ns - waited_ns) // 1000 / 1000 if sent_ns and received_ns else 0.0,
        (received_ns - started_ns) // 1000 / 1000 if received_ns else 0.0,
        call.reserve_ns // 1000 / 1000,
        (sent_ns - started_ns) // 1000 / 1000 if sent_ns else None,
        ending.request_bytes, ending.response_bytes, call.config_version, ending.outcome,
        _texts(tuple([claim.account for claim in booked(call)])),
        caller.parent_span_id, caller.sampled,
        ("stream_usage",) if request.sent_body is not None else (),
        request.priced_as, call.compared or {}, usage.awaits,
        "", "", 0, {},  # told_by, and what corrects an earlier record: no call has it
        usage.largest_input, hold.would_refuse, _refused_by(call.refusal) if call.refusal is not None else {},
        waited_ns // 1000 / 1000 if waited_ns else 0,
        ending.provider_key,
    )  # fmt: skip


def _budgets(call: Call) -> tuple[str, ...]:
    """The budgets that the call met; the one that refused it stands first."""
    met = [claim.budget for claim in call.claims or () if claim.budget]
    if call.refusal is not None and call.refusal.budget:
        refusing = call.refusal.budget
        met.sort(key=lambda budget: budget != refusing)
    return tuple(met)


def _refused_by(refusal: Refusal) -> dict[str, str]:
    excess = refusal.excess
    return {"limit": excess.limit, "scope": excess.scope, "unit": excess.unit} if excess is not None else {}


@lru_cache(maxsize=MAX_REMEMBERED)  # writing five takes twice as long as looking them up
def _texts(accounts: tuple[Account, ...]) -> tuple[str, ...]:
    return tuple(map(str, accounts))


def booked(call: Call) -> Sequence[Claim]:
    """The claims that are charged: none for a call that was refused before anything was set aside."""
    charged = call.hold is not None or (call.cost is not None and call.cost.nanousd)
    return (call.claims or ()) if charged else ()


@lru_cache(maxsize=4)
def _second(unix_second: int) -> str:
    return datetime.fromtimestamp(unix_second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def timestamp(unix_seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds."""
    second = int(unix_seconds)
    return _second(second) + _MILLISECONDS[int((unix_seconds - second) * 1000)]
