"""Usage x rates -> Cost: the sum is the bill, rounded once."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.book import Book
from pricing.money import FEMTO_PER_NANO
from pricing.price import STANDARD_TIERS, Rates, Tariff, bill, price
from pricing.rows import make
from pricing.usage import UNITS, Usage, usage_of

BOOK = Book.load()
AT = 1795000000  # 2026-11-18
MODELS = [("openai", "gpt-6-sol"), ("openai", "gpt-4o"), ("anthropic", "claude-haiku-5-5"), ("google", "gemini-2.5-pro"), ("xai", "grok-4.7")]  # fmt: skip
TARIFFS = [*(BOOK.tariff(provider, model, AT) for provider, model in MODELS), BOOK.dearest("openai", AT)]
tariffs = st.sampled_from(TARIFFS)
COUNTS = st.integers(0, 400_000)
usages = st.builds(Usage, **dict.fromkeys(UNITS, COUNTS)) | st.dictionaries(
    st.sampled_from(UNITS), COUNTS, max_size=4
).map(usage_of)
service_tiers = st.sampled_from(["", "default", "flex", "priority", "batch", "fast", "unheard-of"])
ROW = {
    "id": "acme/one",
    "provider": "acme",
    "names": ["one"],
    "rates": {"input": "1", "cached_input": "0.1", "output": "5"},
    "long": [{"above": 1000, "rates": {"input": "2", "output": "10"}}],
    "tiers": {"flex": {"rates": {"input": "0.5", "output": "2.5"}}},
}
ACME = make(ROW, "book").tariff


@given(usages, tariffs, service_tiers)
def test_the_sum_over_the_fields_is_the_bill(usage, tariff, tier):
    """Exactly, in rational numbers; only the whole is rounded."""
    rates, _ = tariff.rates(usage.input_tokens, tier)
    exact = sum(
        Fraction(getattr(usage, unit) * rate, FEMTO_PER_NANO) for unit, rate in zip(UNITS, rates.femto, strict=True)
    )
    cost = price(usage, tariff, tier).nanousd
    assert cost == int(exact + Fraction(1, 2))
    assert sum(Fraction(line.femto, FEMTO_PER_NANO) for line in bill(usage, tariff, tier)) == exact


@given(usages, tariffs, service_tiers, st.sampled_from(UNITS), st.integers(0, 400_000))
def test_more_usage_never_costs_less(usage, tariff, tier, unit, more):
    """Also across the step to a long context."""
    counts = {each: getattr(usage, each) for each in UNITS}
    larger = Usage(**counts | {unit: counts[unit] + more})
    assert price(larger, tariff, tier).nanousd >= price(usage, tariff, tier).nanousd


@given(usages, tariffs, service_tiers)
def test_pricing_again_gives_the_same(usage, tariff, tier):
    """A record can be recomputed from its usage, its tier and the book that it names."""
    again = Book.load()
    assert again.version == BOOK.version
    provider, _, model = tariff.row.partition("/")
    same = again.dearest(provider, AT) if tariff.unpriced else again.tariff(provider, model.partition("@")[0], AT)
    assert price(usage, same, tier) == price(usage, tariff, tier)


OTHERS = ("audio_in", "image_in", "searches", "seconds", "characters", "images", "requests")
text = st.builds(Usage, **{unit: st.integers(0, 400_000) for unit in UNITS if unit not in OTHERS})


@given(text, tariffs, service_tiers)
def test_the_dearest_rates_bound_every_call(usage, tariff, tier):
    """Whatever tier, length, cache or modality of output it turns out to have."""
    most = usage.input_tokens * tariff.dearest_input_femto + usage.output_tokens * tariff.dearest_output_femto
    assert price(usage, tariff, tier).nanousd <= -(-most // FEMTO_PER_NANO)


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_has_its_rate(unit):
    """None is overlooked where all others are zero."""
    rates = Rates(tuple(FEMTO_PER_NANO if each == unit else 0 for each in UNITS))
    assert price(Usage(**{unit: 7}), Tariff("row", "book", {"": (rates,)})).nanousd == 7


def test_one_call_is_rounded_once():
    """Three lines of 0.4 nano-dollars each are 1.2, not 0."""
    tariff = make(
        ROW | {"rates": {"input": "0.0004", "cached_input": "0.0004", "output": "0.0004"}, "long": [], "tiers": {}}, ""
    ).tariff
    assert price(Usage(input=1, cached_input=1, output=1), tariff).nanousd == 1


def test_half_a_nano_dollar_is_rounded_up():
    """Half up, not to even."""
    tariff = make(ROW | {"rates": {"input": "0.0005"}, "long": [], "tiers": {}}, "").tariff
    assert [price(Usage(input=count), tariff).nanousd for count in (1, 3, 5)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("usage", "nanousd", "mark"),
    [
        (Usage(input=1000), 1_000_000, ""),
        (Usage(input=1001), 2_002_000, "#long"),
        (Usage(input=1, cached_input=1000, output=1), 2_000 + 100_000 + 10_000, "#long"),
        (Usage(input=999, cached_input=1, output=1000), 999_000 + 100 + 5_000_000, ""),
    ],
)
def test_a_long_context_is_told_by_all_input(usage, nanousd, mark):
    """Cached tokens count; its rates hold for the whole call, and the record says so."""
    cost = price(usage, ACME)
    assert (cost.nanousd, cost.rows, cost.book) == (nanousd, (f"acme/one{mark}",), "book")


@pytest.mark.parametrize("tier", [*sorted(STANDARD_TIERS), "DEFAULT", "Standard"])
def test_a_providers_word_for_standard_is_standard(tier):
    """And leaves no mark."""
    assert price(Usage(input=10), ACME, tier) == price(Usage(input=10), ACME)


def test_a_tier_has_its_own_rates_and_leaves_its_mark():
    """However the provider spells it."""
    assert price(Usage(input=10), ACME, "FLEX").rows == ("acme/one#flex",)
    assert price(Usage(input=10), ACME, "flex").nanousd == 5_000
    assert price(Usage(input=2000), ACME, "flex").rows == ("acme/one#flex",), "the tier names no step"


def test_an_unknown_tier_costs_the_standard_rate_and_says_so():
    """Whether it would be dearer nobody knows; the mark lets it be found."""
    cost = price(Usage(input=10), ACME, "turbo\n<script>")
    assert (cost.nanousd, cost.rows) == (10_000, ("acme/one#unknown-tier",))


def test_nothing_used_costs_nothing():
    """And shows no lines."""
    assert price(Usage(), ACME).nanousd == 0
    assert bill(Usage(), ACME) == ()


def test_a_tariff_knows_its_limits_and_likely_rates():
    """What a hold is made from."""
    tariff = BOOK.tariff("openai", "gpt-6-sol", AT)
    assert (tariff.rows, tariff.unpriced) == (("openai/gpt-6-sol",), False)
    assert (tariff.max_output_tokens, tariff.context_tokens) == (128_000, 1_050_000)
    assert (tariff.likely_input_femto, tariff.likely_output_femto) == (2 * 10**9, 10 * 10**9)
    assert (tariff.dearest_input_femto, tariff.dearest_output_femto) == (10 * 10**9, 30 * 10**9), (
        "priority, long, cache write"
    )
    assert tariff.rate_femto("reasoning") == tariff.rate_femto("output")
    with pytest.raises(ValueError):
        tariff.rate_femto("smiles")
