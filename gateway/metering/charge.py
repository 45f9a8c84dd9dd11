"""What a metered usage costs: at the prices of the book, or what the provider itself says that it charged.

Quiet. OpenRouter tells the charge of each call in dollars (``usage.cost``; with a key of the caller's own, its fee there and
the maker's charge in ``cost_details``). That is the bill, whatever a book says. Source: openrouter.ai/docs, "Usage accounting".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from gateway.call import Metered
from pricing.money import NANO, Cost
from pricing.price import price

if TYPE_CHECKING:
    from pricing.book import Book
    from pricing.price import Tariff
    from pricing.usage import Usage

TELLS_ITS_CHARGE = frozenset(("openrouter",))
MOST_USD = Decimal(1_000_000)
"""More than this is not taken for the charge of one call."""


def charge(book: Book, provider: str, metered: Metered, asked: str, at: int) -> Cost:
    """The cost of a usage that is billed; ``asked`` is the model of the request, ``at`` Unix seconds."""
    if provider in TELLS_ITS_CHARGE and metered.source == "provider":
        told = told_nanousd(metered.raw or {})
        if told is not None:
            return Cost(told, (f"{provider}/usage.cost",), book.version)
    tariff = book.charge(provider, metered.model_served, asked, at)
    return price(metered.usage, tariff, metered.service_tier, metered.largest_input)


def tariff_again(book: Book, record: Mapping[str, Any]) -> Tariff:
    """The rates of a book for a call, as its record says what was asked for, who served it, and when."""
    return book.charge(record["provider"], record["model_served"], *_asked(record))


def charge_again(book: Book, record: Mapping[str, Any], usage: Usage) -> Cost:
    """The cost of a usage by another book, or by the same again: as the record of its call says that it was charged."""
    metered = Metered(
        usage,
        record["usage_source"],
        "",
        record["model_served"],
        record["service_tier"],
        record["usage_raw"],
        record.get("largest_input", 0),
    )
    return charge(book, record["provider"], metered, *_asked(record))


def _asked(record: Mapping[str, Any]) -> tuple[str, int]:
    """The model that is charged for, and the Unix second of the call."""
    asked = record.get("priced_as") or record["model_requested"]
    return asked, int(datetime.fromisoformat(record["started_at"]).timestamp())


def told_nanousd(raw: dict[str, Any]) -> int | None:
    """Nano-dollars of ``cost``, rounded once; None where it is not told."""
    usd = _dollars(raw.get("cost"))
    if usd is None:
        return None
    if raw.get("is_byok") is True:
        details = raw.get("cost_details")
        usd += (_dollars(details.get("upstream_inference_cost")) if type(details) is dict else None) or 0
    return int((usd * NANO).quantize(Decimal(1), ROUND_HALF_UP))


def _dollars(value: object) -> Decimal | None:
    """The decimal that was written: a float's shortest form is the provider's own digits."""
    if type(value) not in (int, float):
        return None
    usd = Decimal(repr(value))
    return usd if usd.is_finite() and 0 <= usd <= MOST_USD else None
