"""Bills of recorded calls: every line, and nothing where the lines would not add up."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bill import bill_of
from pricing.book import Book
from pricing.price import price
from pricing.usage import usage_of

BOOK = Book.load()
AT = 1_784_500_000
UNITS = st.fixed_dictionaries(
    {unit: st.integers(0, 3_000_000) for unit in ("input", "cached_input", "output", "reasoning")}
)
MODELS = st.sampled_from(
    [("openai", "gpt-4o-mini"), ("openai", "gpt-4o"), ("anthropic", "claude-haiku-4-5"), ("openai", "nobody-knows")]
)


def record(provider: str, model: str, counts: dict[str, int], **more: Any) -> dict[str, Any]:
    cost = price(usage_of(counts), BOOK.charge(provider, "", model, AT))
    return {
        "usage_source": "provider", "pricebook": BOOK.version, "started_at": "2026-07-19T22:26:40.000Z", "model_requested": model,
        "model_served": "", "provider": provider, "service_tier": "", "usage": counts, "cost_nanousd": cost.nanousd,
    } | more  # fmt: skip


@given(MODELS, UNITS)
def test_the_lines_add_up_to_what_was_charged(sold: tuple[str, str], counts: dict[str, int]) -> None:
    """Exactly, before the one rounding; each line is its count times its rate."""
    charged = record(*sold, counts)
    bill = bill_of(charged, BOOK)
    assert bill is not None
    assert {line["unit"]: line["count"] for line in bill["lines"]} == {
        unit: count for unit, count in counts.items() if count
    }
    for line in bill["lines"]:
        assert Decimal(line["amount_usd"]) == Decimal(line["rate_usd"]) * line["count"] / line["per"]
    total = sum((Decimal(line["amount_usd"]) for line in bill["lines"]), Decimal(0))
    assert abs(total * 10**9 - charged["cost_nanousd"]) <= Decimal("0.5")


@pytest.mark.parametrize(
    "more",
    [{"usage_source": ""}, {"pricebook": "of another day"}, {"cost_nanousd": 1}, {"corrects": "another call"}],
    ids=["nothing was metered", "another book", "charged otherwise", "a correction"],
)
def test_a_bill_that_would_not_explain_the_charge_is_not_told(more: dict[str, Any]) -> None:
    """Rather no lines than wrong ones."""
    assert bill_of(record("openai", "gpt-4o-mini", {"input": 1000, "output": 10}), BOOK) is not None
    assert bill_of(record("openai", "gpt-4o-mini", {"input": 1000, "output": 10}, **more), BOOK) is None
