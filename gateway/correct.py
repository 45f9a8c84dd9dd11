"""Correcting what calls were charged: the same usage, at the prices of another book, booked as the difference.

Quiet: records and a book in, records out. History is never rewritten: a correction is a record of its own that names the call,
what it had been charged so far and what was wrong about it, on the accounts of that call.
"""

from __future__ import annotations

from typing import Any

from gateway.call import CORRECTED
from gateway.metering.charge import charge_again
from pricing.book import Book
from pricing.usage import usage_of


def correction_of(chain: list[dict[str, Any]], book: Book) -> dict[str, Any] | None:
    """What is to be booked for a call so that it has cost what it costs by ``book``; None when it is right, or was charged by
    its hold. ``chain``: its record, then its corrections, oldest first; the last one knows best what was used.
    """
    original, last = chain[0], chain[-1]
    if not last["usage_source"] or last["usage_method"] == "hold":
        return None
    charged = sum(int(each["cost_nanousd"]) for each in chain)
    usage = usage_of(last["usage"])
    cost = charge_again(book, last, usage)
    if cost.nanousd == charged:
        return None
    return {
        **last,
        "call_id": f"{original['call_id']}+{len(chain)}",
        "corrects": original["call_id"],
        "corrected_nanousd": charged,
        "corrected_usage": last["usage"],
        "cost_nanousd": cost.nanousd - charged,
        "price_rows": list(cost.rows),
        "pricebook": cost.book,
        "unpriced": cost.unpriced,
        "outcome": CORRECTED,
        "accounts": original["accounts"],
        "held_nanousd": 0,
        "told_by": "",
        "awaits": "",
    }
