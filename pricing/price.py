"""Usage x rates -> Cost, in integers.

A Tariff is what a price row came to: femto-dollars per unit, for each service tier and each step of long context. A sum is
exact until it is rounded, once, to nano-dollars. 1.5 us a call.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pricing.money import Cost, round_femto
from pricing.usage import UNITS, Usage

STANDARD_TIERS = frozenset(("", "default", "auto", "standard", "standard_only", "scale", "on_demand"))
"""Names under which providers mean their standard rates."""
INPUT_UNITS = frozenset(("input", "cached_input", "cache_write", "cache_write_1h"))
OUTPUT_UNITS = frozenset(("output", "reasoning"))


@dataclass(frozen=True, slots=True)
class Rates:
    """Femto-dollars for one of each unit, in the order of ``UNITS``; ``above`` = more input tokens than this."""

    femto: tuple[int, ...]
    above: int = -1


@dataclass(frozen=True, slots=True)
class Tariff:
    """The rates of one model at one moment. ``steps`` holds, per service tier, the rates by rising context length."""

    row: str
    book: str
    steps: dict[str, tuple[Rates, ...]]
    source: str = ""
    checked: str = ""
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    unpriced: bool = False
    dearest_input_femto: int = field(init=False)
    dearest_output_femto: int = field(init=False)

    def __post_init__(self) -> None:
        every = [rates.femto for steps in self.steps.values() for rates in steps]
        object.__setattr__(self, "dearest_input_femto", _dearest(every, INPUT_UNITS))
        object.__setattr__(self, "dearest_output_femto", _dearest(every, OUTPUT_UNITS))

    @property
    def rows(self) -> tuple[str, ...]:
        """The price rows behind it."""
        return (self.row,)

    @property
    def likely_input_femto(self) -> int:
        """The standard rate of a token of text input."""
        return self.rate_femto("input")

    @property
    def likely_output_femto(self) -> int:
        """The standard rate of a token of text output."""
        return self.rate_femto("output")

    def rate_femto(self, unit: str) -> int:
        """The standard rate of a unit, short context."""
        return self.steps[""][0].femto[UNITS.index(unit)]

    def rates(self, input_tokens: int, service_tier: str) -> tuple[Rates, str]:
        """The rates that apply, and the mark that says which: ``""``, ``#flex``, ``#long``, ``#unknown-tier``."""
        tier = "" if service_tier in STANDARD_TIERS else service_tier
        steps = self.steps.get(tier)
        mark = f"#{tier}" if tier else ""
        if steps is None:
            # a tier that no row knows: the standard rates stand in, and the record says so
            steps, mark = self.steps[""], "#unknown-tier"
        if len(steps) == 1 or input_tokens <= steps[1].above:
            return steps[0], mark
        return [rates for rates in steps if input_tokens > rates.above][-1], mark + "#long"


def price(usage: Usage, tariff: Tariff, service_tier: str = "") -> Cost:
    """What the usage costs under the tariff."""
    rates, mark = tariff.rates(usage.input_tokens, service_tier)
    total = sum(getattr(usage, unit) * rate for unit, rate in zip(UNITS, rates.femto, strict=True))
    return Cost(round_femto(total), (tariff.row + mark,), tariff.book, tariff.unpriced)


def _dearest(every: list[tuple[int, ...]], units: frozenset[str]) -> int:
    return max(femto[index] for femto in every for index, unit in enumerate(UNITS) if unit in units)
