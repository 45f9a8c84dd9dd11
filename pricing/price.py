"""Usage x rates -> Cost, in integers.

A Tariff is what a price row came to: femto-dollars for one of each unit, for each service tier and each step of long
context. Knows no row's form and no model's name. Law: a sum is exact until it is rounded, once, to nano-dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from operator import attrgetter, itemgetter, mul

from pricing.money import Cost, round_femto
from pricing.usage import UNITS, Usage
from pricing.value import value

STANDARD_TIERS = frozenset(("", "default", "auto", "standard", "standard_only", "scale", "on_demand"))
"""Names under which providers mean their standard rates. ``auto`` is only seen where an answer did not say what it became."""
TEXT_INPUT_UNITS = ("input", "cached_input", "cache_write", "cache_write_1h")
"""What a byte of text can become. Audio and images cost up to 16 times as much for a token, but bring far more than 16 bytes
for each (10 tokens for a second of speech, of which a body holds 1 kB or more), so that bytes at a text rate bound them too."""
OUTPUT_UNITS = ("output", "reasoning", "audio_out", "image_out")
"""What an output token can become: a model that speaks may spend its whole maximum on audio."""

TEXT_UNITS = ("input", "cached_input", "output", "reasoning")
"""What most calls use, and nothing else."""

_counts = attrgetter(*UNITS)
_text_rates = itemgetter(*map(UNITS.index, TEXT_UNITS))
_REQUESTS = UNITS.index("requests")


@value
class Rates:
    """Femto-dollars for one of each unit, in the order of ``UNITS``, for calls with more than ``above`` input tokens."""

    femto: tuple[int, ...]
    above: int = -1
    text: tuple[int, ...] = field(init=False, compare=False, repr=False)
    """Those of ``TEXT_UNITS``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _text_rates(self.femto))


ONE_BY_ONE = frozenset(("searches", "images", "requests", "seconds"))
"""Units whose rates are said for one of them."""


@value
class Line:
    """One line of a bill: so many of one unit at one rate."""

    unit: str
    count: int
    rate_femto: int

    @property
    def femto(self) -> int:
        """Femto-dollars, exact."""
        return self.count * self.rate_femto

    @property
    def per(self) -> int:
        """For how many of the unit its rate is said: one search, a million tokens."""
        return 1 if self.unit in ONE_BY_ONE else 1_000_000


@value
class Tariff:
    """The rates of one model at one moment. ``steps`` holds, for each service tier ("" = standard), the rates by rising
    context. ``unpriced`` marks the declared estimate that stands in for a model without a row.
    """

    row: str
    book: str
    steps: Mapping[str, tuple[Rates, ...]]
    source: str = ""
    source_date: str = ""
    hours: tuple[tuple[int, int, Tariff], ...] = ()
    """(from, to, rates): seconds of the day, UTC, at which others hold; the last one that matches."""
    least_seconds: int = 0
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    unpriced: bool = False
    dearest_input_femto: int = field(init=False)
    dearest_output_femto: int = field(init=False)
    likely_input_femto: int = field(init=False)
    """The standard rate of a token of text input; and of output."""
    likely_output_femto: int = field(init=False)
    plain: Rates | None = field(init=False)
    """The standard rates, where a long context costs what a short one does."""
    per_request: bool = field(init=False)
    """Whether a part of the price is for the request itself."""

    def __post_init__(self) -> None:
        every = [rates.femto for steps in self.steps.values() for rates in steps]
        object.__setattr__(self, "dearest_input_femto", _dearest(every, TEXT_INPUT_UNITS))
        object.__setattr__(self, "dearest_output_femto", _dearest(every, OUTPUT_UNITS))
        object.__setattr__(self, "likely_input_femto", self.rate_femto("input"))
        object.__setattr__(self, "likely_output_femto", self.rate_femto("output"))
        object.__setattr__(self, "plain", self.steps[""][0] if len(self.steps[""]) == 1 else None)
        object.__setattr__(self, "per_request", any(femto[_REQUESTS] for femto in every))

    @property
    def rows(self) -> tuple[str, ...]:
        """The ids of the price rows behind it."""
        return (self.row,)

    def rate_femto(self, unit: str) -> int:
        """The standard rate of one unit, short context. ValueError for a name that is not in ``UNITS``."""
        return self.steps[""][0].femto[UNITS.index(unit)]

    def during(self, second: int) -> Tariff:
        """The rates that hold at a second of the day, UTC."""
        found = self
        for starts, ends, tariff in self.hours:
            if starts <= second < ends or (starts > ends and not ends <= second < starts):
                found = tariff
        return found

    def rates(self, input_tokens: int, service_tier: str) -> tuple[Rates, str]:
        """The rates that apply, and the mark that says which: ``""``, ``#flex``, ``#long``, ``#flex@us#long``.

        For a tier that the row does not know the standard rates stand in, and the mark says ``#unknown-tier``. A region that
        it does not know costs what all others cost.
        """
        tier, _, region = service_tier.lower().partition("@")
        name, mark = ("", "") if tier in STANDARD_TIERS else (tier, f"#{tier}")
        if name not in self.steps:
            name, mark = "", "#unknown-tier"
        if region and f"{name}@{region}" in self.steps:
            name, mark = f"{name}@{region}", f"{mark}@{region}"
        steps = self.steps[name]
        if len(steps) == 1 or input_tokens <= steps[1].above:
            return steps[0], mark
        return next(rates for rates in reversed(steps) if input_tokens > rates.above), f"{mark}#long"


def price(usage: Usage, tariff: Tariff, service_tier: str = "", largest_input: int = 0) -> Cost:
    """What the usage costs. A long context is told by all input tokens together, and its rates hold for the whole call; of a
    usage that is the sum of several requests, by the ``largest_input`` of one.
    """
    if tariff.per_request or usage.seconds:
        usage = _billed(usage, tariff)
    if tariff.plain is not None and service_tier in STANDARD_TIERS:
        rates, mark = tariff.plain, ""
    else:
        rates, mark = tariff.rates(largest_input or usage.input_tokens, service_tier)
    return Cost(round_femto(_femto(usage, rates)), (tariff.row + mark,), tariff.book, tariff.unpriced)


def bill(usage: Usage, tariff: Tariff, service_tier: str = "", largest_input: int = 0) -> tuple[Line, ...]:
    """The same, line by line: one for each unit that was used. Their sum, rounded once, is ``price``."""
    usage = _billed(usage, tariff)
    rates, _ = tariff.rates(largest_input or usage.input_tokens, service_tier)
    lines = zip(UNITS, _counts(usage), rates.femto, strict=True)
    return tuple(Line(unit, count, rate) for unit, count, rate in lines if count)


def _femto(usage: Usage, rates: Rates) -> int:
    """The sum of all products; four of them where nothing else was used, as with most calls."""
    if (
        usage.cached_audio or usage.cached_image or usage.cache_write or usage.cache_write_1h
        or usage.audio_in or usage.image_in or usage.audio_out or usage.image_out
        or usage.searches or usage.seconds or usage.characters or usage.images or usage.requests
    ):  # fmt: skip
        return sum(map(mul, _counts(usage), rates.femto))
    read, cached, written, reasoning = rates.text
    return usage.input * read + usage.cached_input * cached + usage.output * written + usage.reasoning * reasoning


def _billed(usage: Usage, tariff: Tariff) -> Usage:
    """A call is one request, where that has a price of its own; short sounds can cost what longer ones do."""
    if tariff.per_request and not usage.requests:
        usage = replace(usage, requests=1)
    if usage.seconds and usage.seconds < tariff.least_seconds:
        usage = replace(usage, seconds=tariff.least_seconds)
    return usage


def _dearest(every: list[tuple[int, ...]], units: tuple[str, ...]) -> int:
    return max(femto[UNITS.index(unit)] for femto in every for unit in units)
