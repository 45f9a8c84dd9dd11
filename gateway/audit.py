"""The audit: what is recorded of a call is worked out again from what the provider said and the prices of that day.

Quiet: a record and a price book in, differences out. What cannot be worked out again is said to be so, and is never taken
for right: a call that was lost stands with its hold, one whose price book was not kept cannot be checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gateway.dialects.table import by_operation
from gateway.metering.charge import charge_again
from gateway.value import value
from pricing.book import Book
from pricing.money import format_usd
from pricing.usage import UNITS, Usage, usage_of

FindBook = Callable[[str], Book | None]
"""Version -> the book, or None when it was not kept."""


@value
class Verdict:
    """What became of one record. ``state`` is same, different, held (charged by its hold) or unknown (its book is gone)."""

    call_id: str
    state: str
    differences: tuple[str, ...] = ()
    recorded_nanousd: int = 0
    recomputed_nanousd: int = 0


def verdict(record: dict[str, Any], book_of: FindBook) -> Verdict:
    """Work one record out again."""
    call_id, recorded = str(record["call_id"]), int(record["cost_nanousd"])
    if record["usage_method"] == "hold":
        held = int(record["held_nanousd"])
        wrong = () if held == recorded else (f"cost: recorded {recorded}, but its hold was {held} nano-dollars",)
        return Verdict(call_id, "different" if wrong else "held", wrong, recorded, held)
    if not record["usage_source"]:
        wrong = () if recorded == 0 else (f"cost: recorded {recorded} nano-dollars for a call that nobody metered",)
        return Verdict(call_id, "different" if wrong else "same", wrong, recorded, 0)
    book = book_of(str(record["pricebook"]))
    if book is None:
        return Verdict(call_id, "unknown", recorded_nanousd=recorded, recomputed_nanousd=recorded)
    found: list[str] = []
    usage = _usage(record, found)
    cost = charge_again(book, record, usage)
    _compare(found, "rows", list(record["price_rows"]), list(cost.rows))
    _compare(found, "unpriced", record["unpriced"], cost.unpriced)
    again = cost.nanousd - int(record.get("corrected_nanousd", 0))
    if again != recorded:
        found.append(f"cost: recorded ${format_usd(recorded)}, worked out again ${format_usd(again)}")
    return Verdict(call_id, "different" if found else "same", tuple(found), recorded, again)


def _usage(record: dict[str, Any], found: list[str]) -> Usage:
    """What the provider said, read again; what was counted or estimated stands as it was recorded."""
    recorded = usage_of(record["usage"])
    if set(record["usage"]) - set(UNITS):
        found.append("usage: has units that are not known")
    if record["usage_source"] != "provider":
        return recorded
    dialect = by_operation(record["protocol"], record["operation"])
    raw = record["usage_raw"]
    usage = dialect.usage(raw) if dialect is not None and isinstance(raw, dict) else None
    if usage is None:
        found.append("usage: what the provider said of it cannot be read")
        return recorded
    usage = replace(usage, searches=max(usage.searches, recorded.searches))  # some are seen in answers only
    _compare(found, "usage", recorded.counts(), usage.counts())
    return usage


def _compare(found: list[str], name: str, recorded: Any, again: Any) -> None:
    if recorded != again:
        found.append(f"{name}: recorded {recorded}, worked out again {again}")
