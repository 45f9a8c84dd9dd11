"""What a recorded call was charged for, line by line: so many of a unit at a rate.

Quiet: a record and a book in, lines out. Only a bill that adds up to what was charged is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pricing.book import Book
from pricing.money import FEMTO_PER_NANO, format_usd, round_femto
from pricing.price import Line, bill
from pricing.usage import usage_of

ONE_BY_ONE = frozenset({"searches", "images", "requests", "seconds"})
"""Units whose rates are said for one of them; others for a million."""
MILLION = 1_000_000


def bill_of(record: Mapping[str, Any], book: Book) -> dict[str, Any] | None:
    """``lines``: unit, count, rate_usd for ``per`` of it, amount_usd; and whose price list it was. None where the book is not the
    one that the call was charged by, or where it was charged otherwise: by its hold, by what its provider asked for, not at all.
    """
    if not record["usage_source"] or record["pricebook"] != book.version or record.get("corrects"):
        return None
    at = int(datetime.fromisoformat(record["started_at"]).timestamp())
    asked = record.get("priced_as") or record["model_requested"]
    tariff = book.charge(record["provider"], record["model_served"], asked, at)
    lines = bill(usage_of(record["usage"]), tariff, record["service_tier"], record.get("largest_input", 0))
    if round_femto(sum(line.femto for line in lines)) != record["cost_nanousd"]:
        return None
    return {"lines": [_told(line) for line in lines], "source": tariff.source, "source_date": tariff.source_date}


def _told(line: Line) -> dict[str, Any]:
    per = 1 if line.unit in ONE_BY_ONE else MILLION
    return {
        "unit": line.unit,
        "count": line.count,
        "rate_usd": _dollars(line.rate_femto * per),
        "per": per,
        "amount_usd": _dollars(line.femto),
    }


def _dollars(femto: int) -> str:
    """Exactly, however small."""
    nano, rest = divmod(femto, FEMTO_PER_NANO)
    if not rest:
        return format_usd(nano)
    whole, part = divmod(femto, 10**15)
    return f"{whole}.{f'{part:015d}'.rstrip('0')}"
