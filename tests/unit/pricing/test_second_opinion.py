"""Against genai-prices' own calculation, on 10,000 random usages over all its models: no difference that is not explained here.

Explained, and therefore not compared:

- units that only one of the two has a rate for (pages, videos, citations; what the book charges where nothing is told);
- tiers before the day on which their rates were verified: the book takes them to hold as long as the standard rates beside them;
- hours of the day before the last change of a model's rates: genai-prices applies today's peak rates to every day that was;
- a request's own fee (Perplexity): it is not part of a usage there.

And a rate that is finer than nine places of a dollar for a million (a third of a cent), or that 3600 seconds do not divide, is
rounded up in the book: the bill may then be above theirs, by less than a nano-dollar for a million tokens or seconds and one
for the rounding.
"""

import json
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from random import Random

import pytest

import pricing
from pricing.book import Book
from pricing.price import price
from pricing.usage import UNITS, Usage

genai_prices = pytest.importorskip("genai_prices", reason="genai-prices is not installed")
from genai_prices.data_snapshot import get_snapshot  # noqa: E402

BOOK = Book.load()
USAGES = 10_000
PER_MILLION = {
    "input_mtok": "input", "cache_read_mtok": "cached_input", "cache_audio_read_mtok": "cached_audio",
    "cache_image_read_mtok": "cached_image", "cache_write_mtok": "cache_write", "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_in", "input_image_mtok": "image_in", "output_mtok": "output", "output_reasoning_mtok": "reasoning",
    "output_audio_mtok": "audio_out", "output_image_mtok": "image_out",
}  # fmt: skip
KEYS = PER_MILLION | {
    "web_searches_kcount": "searches", "input_mchars": "characters", "input_audio_hours": "seconds", "audio_hours": "seconds"
}  # fmt: skip
CONTEXTS = [
    ("", {}),
    ("flex", {"service_tier": "flex"}),
    ("priority", {"service_tier": "priority"}),
    ("batch", {"processing": "batch"}),
]
FIRST, VERIFIED = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
MODELS = [(provider, model) for provider in get_snapshot().providers for model in provider.models]
LEFT_OUT = {"tiers", "hours"}


def theirs(usage):
    """One count of ours is in exactly one field; one of theirs may be in several."""
    kept = usage.cached_input + usage.cached_audio + usage.cached_image
    return genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=kept,
        cache_write_tokens=usage.cache_write + usage.cache_write_1h,
        cache_write_1h_tokens=usage.cache_write_1h,
        input_audio_tokens=usage.audio_in + usage.cached_audio,
        input_image_tokens=usage.image_in + usage.cached_image,
        output_audio_tokens=usage.audio_out,
        output_image_tokens=usage.image_out,
        output_reasoning_tokens=usage.reasoning,
        web_searches=usage.searches,
        input_characters=usage.characters,
        audio_seconds=usage.seconds,
        input_audio_seconds=usage.seconds,
        cache_audio_read_tokens=usage.cached_audio,
        cache_image_read_tokens=usage.cached_image,
    )


def draw(random, prices):
    """A usage in the units that both have a rate for; reasoning is output unless it has a rate of its own."""
    units = {ours for key, ours in KEYS.items() if getattr(prices, key, None) is not None}
    units |= {"reasoning"} if "output" in units else set()
    units -= {"cached_audio"} if "audio_in" not in units else set()
    units -= {"cached_image"} if "image_in" not in units else set()
    scale = random.choice([10, 3_000, 90_000, 400_000])
    return Usage(**{unit: random.randrange(scale if unit != "searches" else 20) for unit in UNITS if unit in units})


def has_hours(model):
    return isinstance(model.prices, list) and any(
        type(each.constraint).__name__ == "TimeOfDateConstraint" for each in model.prices
    )


def is_fine(prices):
    """Whether a rate has more places than a row can hold."""
    every = [value for key in KEYS if (value := getattr(prices, key, None)) is not None]
    return any(Decimal(getattr(each, "base", each)).as_tuple().exponent < -9 for each in every)


def test_no_bill_differs():
    """To the nano-dollar, at random moments, in every tier, at every length."""
    random = Random(7)
    compared, rounds = 0, 0
    while compared < USAGES:
        rounds += 1
        for provider, model in MODELS:
            tier, context = random.choice(CONTEXTS)
            start, minutes = (VERIFIED, 500_000) if context or has_hours(model) else (FIRST, 1_900_000)
            at = start + timedelta(minutes=random.randrange(minutes))
            prices = model.get_prices(at, context)
            tariff = BOOK.tariff(provider.id, model.id.rstrip("-"), int(at.timestamp()))
            if tariff is None or tariff.per_request:
                continue
            if provider.id == "google" and tier in ("flex", "priority"):
                continue  # the other list has them, this one does not
            usage = draw(random, prices)
            told = model.calc_price(theirs(usage), provider, genai_request_timestamp=at, price_context=context)
            exact = told.total_price * 10**9
            nano = price(usage, tariff, tier).nanousd
            if is_fine(prices) or usage.seconds:
                assert -1 < nano - exact <= 2, (provider.id, model.id)
            else:
                assert nano == int(exact.quantize(Decimal(1), ROUND_HALF_UP)), (provider.id, model.id, at, tier, usage)
            compared += 1
    assert rounds <= 6  # most models are compared in each round


def test_every_model_that_has_a_rate_is_in_the_book():
    """What is missing has none that Usage has a unit for."""
    at = datetime(2026, 11, 20, tzinfo=UTC)
    missing = [
        (provider.id, model.id)
        for provider, model in MODELS
        if BOOK.tariff(provider.id, model.id.rstrip("-"), int(at.timestamp())) is None
        and any(getattr(model.get_prices(at), key, None) is not None for key in KEYS)
    ]
    assert missing == []


def test_a_peak_hour_is_a_peak_hour():
    """DeepSeek, 01:00 to 04:00 and 06:00 to 10:00 UTC."""
    usage = Usage(input=1_000_000, output=1_000_000)
    day = int(datetime(2026, 11, 18, tzinfo=UTC).timestamp())
    found = {hour: BOOK.tariff("deepseek", "deepseek-v4-pro", day + hour * 3600) for hour in range(24)}
    peaks = [hour for hour, tariff in found.items() if "#" in tariff.row]
    assert peaks == [1, 2, 3, 6, 7, 8, 9]
    assert {price(usage, found[hour]).nanousd for hour in peaks} == {(1_320 + 3_960) * 10**6}
    assert {price(usage, found[hour]).nanousd for hour in found if hour not in peaks} == {(660 + 1_980) * 10**6}
    assert found[1].row == "deepseek/deepseek-v4-pro@2026-08-17#01:00-04:00"


def test_the_package_does_not_read_it():
    """It is a second opinion, not a part."""
    folder = Path(pricing.__file__).parent
    assert not [path for path in folder.rglob("*.py") if "genai_prices" in path.read_text()]
    assert all("collected" in json.loads(path.read_text()) for path in (folder / "data").glob("*.json"))
