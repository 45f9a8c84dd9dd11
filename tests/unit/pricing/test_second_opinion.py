"""Against genai-prices' own calculation, on random usages over all its models: no unexplained difference.

Not compared, because the two mean different things: units that only one of them has a rate for; tiers before the day on which
their rates were verified (the book takes them to hold as long as the standard rates beside them); cached audio and images
(Usage has one field for what came from a cache).
"""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from random import Random

import pytest

from pricing.book import Book
from pricing.price import price
from pricing.usage import UNITS, Usage

genai_prices = pytest.importorskip("genai_prices", reason="genai-prices is not installed")
from genai_prices.data_snapshot import get_snapshot  # noqa: E402

BOOK = Book.load()
KEYS = {
    "input_mtok": "input", "cache_read_mtok": "cached_input", "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h", "input_audio_mtok": "audio_in", "input_image_mtok": "image_in",
    "output_mtok": "output", "output_audio_mtok": "audio_out", "output_image_mtok": "image_out", "web_searches_kcount": "searches",
}  # fmt: skip
CONTEXTS = [
    ("", {}),
    ("flex", {"service_tier": "flex"}),
    ("priority", {"service_tier": "priority"}),
    ("batch", {"processing": "batch"}),
]
FIRST, VERIFIED = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)


def theirs(usage):
    """One count of ours is in exactly one field; one of theirs may be in several."""
    return genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_input,
        cache_write_tokens=usage.cache_write + usage.cache_write_1h,
        cache_write_1h_tokens=usage.cache_write_1h,
        input_audio_tokens=usage.audio_in,
        input_image_tokens=usage.image_in,
        output_audio_tokens=usage.audio_out,
        output_image_tokens=usage.image_out,
        web_searches=usage.searches,
        cache_audio_read_tokens=0,
        cache_image_read_tokens=0,
    )


def draw(random, prices):
    """A usage in the units that have a rate, and reasoning, which is output there."""
    units = {ours for key, ours in KEYS.items() if getattr(prices, key) is not None}
    units |= {"reasoning"} if "output" in units else set()
    scale = random.choice([10, 3_000, 90_000, 400_000])
    return Usage(**{unit: random.randrange(scale if unit != "searches" else 20) for unit in UNITS if unit in units})


@pytest.mark.parametrize("name", ["anthropic", "google", "groq", "openai", "x-ai"])
def test_no_bill_differs(name):
    """To the nano-dollar, at random moments, in every tier, at every length."""
    random = Random(name)
    provider = next(each for each in get_snapshot().providers if each.id == name)
    compared = 0
    for model in provider.models:
        for tier, context in CONTEXTS * 4:
            at = (VERIFIED if context else FIRST) + timedelta(
                minutes=random.randrange(500_000 if context else 1_900_000)
            )
            prices = model.get_prices(at, context)
            tariff = BOOK.tariff(name, model.id.rstrip("-"), int(at.timestamp()))
            if tariff is None:
                assert prices.input_mtok is None, model.id
                continue
            usage = draw(random, prices)
            exact = model.calc_price(
                theirs(usage), provider, genai_request_timestamp=at, price_context=context
            ).total_price
            nano = int((exact * 10**9).quantize(Decimal(1), ROUND_HALF_UP))
            assert price(usage, tariff, tier).nanousd == nano, (model.id, at, tier, usage)
            compared += 1
    assert compared > 200
