"""Money as integers: nano-dollars in the books, femto-dollars in a sum, one rounding per call."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from pricing.value import value

NANO = 10**9
"""Nano-dollars in a dollar."""
NANO_PER_CENT = 10**7
FEMTO_PER_NANO = 10**6
"""Femto-dollars in a nano-dollar. Rates are whole femto-dollars per unit, so that a sum is exact until it is rounded."""


@value
class Cost:
    """What a call cost. ``rows`` are the price rows used, ``book`` the version (content hash) of the price book."""

    nanousd: int
    rows: tuple[str, ...] = ()
    book: str = ""
    unpriced: bool = False
    """True when no row of the book matched and a declared estimate was charged instead."""


def parse_usd(text: str) -> int:
    """Decimal dollars to nano-dollars, exactly; ValueError on anything that is no finite decimal or finer than a nano."""
    try:
        amount = Decimal(text.strip()) * NANO
    except InvalidOperation:
        raise ValueError(f"not an amount of dollars: {text[:40]!r}") from None
    if not amount.is_finite() or amount != amount.to_integral_value():
        raise ValueError(f"not a whole number of nano-dollars: {text[:40]!r}")
    return int(amount)


def format_usd(nanousd: int) -> str:
    """Nano-dollars as decimal dollars without trailing zeros, at least two places: 12_500_000 -> ``0.0125``."""
    if nanousd < 0:
        return "-" + format_usd(-nanousd)
    whole, part = nanousd // NANO, nanousd % NANO
    if part % NANO_PER_CENT:
        return f"{whole}.{str(part).zfill(9)}".rstrip("0")
    return f"{whole}.{part // NANO_PER_CENT:02}"


def format_femto(femtousd: int) -> str:
    """Femto-dollars as decimal dollars, exactly, at least two places: what stands in a bill before the one rounding."""
    whole, part = divmod(femtousd, NANO * FEMTO_PER_NANO)
    return f"{whole}.{f'{part:015d}'.rstrip('0'):0<2}"


def round_femto(femtousd: int) -> int:
    """Femto-dollars to nano-dollars, half up: the one rounding of a call."""
    return (femtousd + FEMTO_PER_NANO // 2) // FEMTO_PER_NANO
