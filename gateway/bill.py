"""What a recorded call was charged for, line by line: so many of a unit at a rate.

Quiet: a record and a book in, lines out. Only a bill that adds up to what was charged is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.metering.charge import tariff_again
from pricing.book import Book
from pricing.money import format_femto, round_femto
from pricing.price import Line, bill
from pricing.usage import usage_of


def bill_of(record: Mapping[str, Any], book: Book) -> dict[str, Any] | None:
    """``lines``: unit, count, rate_usd for ``per`` of it, amount_usd; and whose price list it was. None where the book is not the
    one that the call was charged by, or where it was charged otherwise: by its hold, by what its provider asked for, not at all.
    """
    if not record["usage_source"] or record["pricebook"] != book.version or record.get("corrects"):
        return None
    tariff = tariff_again(book, record)
    lines = bill(usage_of(record["usage"]), tariff, record["service_tier"], record.get("largest_input", 0))
    if round_femto(sum(line.femto for line in lines)) != record["cost_nanousd"]:
        return None
    return {"lines": [_told(line) for line in lines], "source": tariff.source, "source_date": tariff.source_date}


def _told(line: Line) -> dict[str, Any]:
    return {
        "unit": line.unit,
        "count": line.count,
        "rate_usd": format_femto(line.rate_femto * line.per),
        "per": line.per,
        "amount_usd": format_femto(line.femto),
    }
