"""Work that an answer tells of and that has a bill of its own, and records that correct earlier ones.

Quiet: facts in, Records out. A piece of work is booked under the provider's own name for it, so that it is billed once
however often it is told of. What had been charged by estimate before is corrected by the difference: a record is never
rewritten. Source of the rule for batches: their price is that of the ``batch`` tier, whoever fetches them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway.call import CORRECTED, Record
from gateway.metering.charge import charge

if TYPE_CHECKING:
    from gateway.call import Metered
    from gateway.dialects import Work
    from pricing.book import Book


def work_id(provider: str, work: Work) -> str:
    """The call id under which it is booked: the same whoever tells of it."""
    return f"{provider}:{work.key}"


def record_of_work(teller: Record, work: Work, metered: Metered, book: Book, at: int) -> Record:
    """The record of work that nobody has been charged for: whoever was told of it first pays."""
    cost = charge(book, teller.provider, metered, work.model, at)
    return replace(
        teller,
        call_id=work_id(teller.provider, work),
        told_by=teller.call_id,
        operation=work.operation,
        model_requested=work.model,
        model_served=work.model,
        stream=False,
        attempts=0,
        usage=metered.usage.counts(),
        usage_source=metered.source,
        usage_method=metered.method,
        usage_raw=metered.raw,
        cost_nanousd=cost.nanousd,
        price_rows=cost.rows,
        pricebook=cost.book,
        unpriced=cost.unpriced,
        service_tier=metered.service_tier,
        held_nanousd=0,
        latency_ms=0.0,
        ttft_ms=None,
        overhead_ms=0.0,
        read_ms=0.0,
        reserve_ms=0.0,
        sent_ms=None,
        waited_ms=0,
        provider_key="",
        request_bytes=0,
        response_bytes=0,
        outcome="completed",
        touched=(),
        priced_as="",
        own_count={},
        awaits="",
        largest_input=metered.largest_input,
    )


def correction(original: dict[str, Any], final: Record) -> Record:
    """What is to be booked so that ``original`` and this together come to what ``final`` says: on the accounts and in the
    name of the original call.
    """
    charged = int(original["cost_nanousd"]) + int(original.get("corrected_nanousd", 0))
    kept = (
        "correlation_id",
        "trace_id",
        "team",
        "user",
        "agent",
        "call_type",
        "tags",
        "key_name",
    )
    return replace(
        final,
        **{name: original[name] for name in kept},
        accounts=tuple(original["accounts"]),
        budgets=tuple(original["budgets"]),
        cost_nanousd=final.cost_nanousd - charged,
        corrects=str(original["call_id"]),
        corrected_nanousd=charged,
        corrected_usage=original["usage"],
        outcome=CORRECTED,
    )
