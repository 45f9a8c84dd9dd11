"""Spend as FOCUS has it, the FinOps Open Cost and Usage Specification, version 1.2: what tools for cloud costs read.

Quiet: sums in, rows out. Source: focus.finops.org/focus-specification/v1-2, whose rules on nulls decide what is left empty. A row
is what one combination of names spent in one day. Corrections stand in rows of their own; the sum of all rows is that of the
report, to the nano-dollar. docs/focus.md says where each column comes from.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from gateway.report import Question, period_of
from gateway.store import FIRST_COUNTS, SPEND_COUNTS, Spend
from gateway.store.rollups import spend_of
from pricing.money import format_usd

NEEDED = ("provider", "model")
"""Without these no row says what was bought, and from whom: ``spend.by`` has to have them."""
TAGS = ("user", "agent", "call_type", "key_name")
"""What callers say of their calls, beside the team."""
OWN = {"operation": "x_Operation", "outcome": "x_Outcome", "upstream": "x_Upstream"}
NAMES = {
    "anthropic": "Anthropic",
    "aws": "AWS",
    "azure": "Microsoft",
    "deepseek": "DeepSeek",
    "google": "Google",
    "groq": "Groq",
    "mistral": "Mistral AI",
    "openai": "OpenAI",
    "openrouter": "OpenRouter",
    "xai": "xAI",
}
"""How those who bill write themselves; others stand as in the config."""
UNKNOWN = "Unknown"
COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost",
    "PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "RegionId", "RegionName",
    "ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId",
    "SkuMeter", "SubAccountId", "SubAccountName", "Tags", "x_Calls", "x_FailedCalls", "x_RefusedCalls", "x_InputTokens",
    "x_CachedInputTokens", "x_OutputTokens", "x_CostNanoUsd", "x_Model", "x_Operation", "x_Outcome", "x_Upstream",
)  # fmt: skip
"""In the order of their names, our own last."""
_COUNTED = (
    "x_Calls",
    "x_FailedCalls",
    "x_RefusedCalls",
    "x_InputTokens",
    "x_CachedInputTokens",
    "x_OutputTokens",
    "x_CostNanoUsd",
)
_DAY = timedelta(days=1)

_Key = tuple[str, str, bool]
"""(day, dims, whether it is a correction)."""


class Charges:
    """Adds sums up, takes corrections out of them, and makes the rows."""

    def __init__(self, asked: Question, today: date) -> None:
        """Months before the one of ``today`` are taken for invoiced."""
        self._asked = asked
        self._this_month = period_of(today.isoformat(), "month")
        self._sums: dict[_Key, list[int]] = defaultdict(lambda: [0] * len(SPEND_COUNTS))
        self._shapes: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        """By day: what its rows are told apart by, which may have changed within it."""

    def add(self, sums: Iterable[Spend]) -> None:
        """Sums of the hours or days that were asked for."""
        for each in sums:
            day = each.hour[:10]
            self._shapes[day].add(tuple(json.loads(each.dims)))
            _add(self._sums[day, each.dims, False], each.counts, 1)

    def correct(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Records of corrections, after all sums: each leaves the row in which it was counted for one of its own."""
        for record in records:
            day = record["started_at"][:10]
            for names in sorted(self._shapes.get(day, ()), key=len, reverse=True):
                told = spend_of(record, names)
                if (day, told.dims, False) in self._sums:
                    _add(self._sums[day, told.dims, False], told.counts, -1)
                    _add(self._sums[day, told.dims, True], told.counts, 1)
                    break

    def rows(self) -> list[dict[str, str | None]]:
        """By day; None is a null. What neither cost nor used anything, such as a refused call, is no charge."""
        return [
            self._row(day, json.loads(dims), is_correction, counts)
            for (day, dims, is_correction), counts in sorted(self._sums.items())
            if any(counts[3:FIRST_COUNTS])
        ]

    def _row(
        self, day: str, dims: Mapping[str, str], is_correction: bool, counts: Sequence[int]
    ) -> dict[str, str | None]:
        provider, model, team = (dims.get(name) or None for name in ("provider", "model", "team"))
        month = period_of(day, "month")
        read, _, written, nanousd = counts[3:FIRST_COUNTS]
        invoiced = is_correction and month < self._this_month
        sku = f"{provider}/{model}" if provider and model else None
        seller = NAMES.get(provider or "", provider) or UNKNOWN
        what = f"{model or 'a model'} at {seller}"
        tags = {name: dims[name] for name in TAGS if dims.get(name)}
        costs = dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), format_usd(nanousd))
        amounts = dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), str(read + written))
        return {
            **dict.fromkeys(COLUMNS),
            **costs,
            **amounts,
            **_periods(day),
            "BillingAccountId": provider or UNKNOWN,
            "BillingCurrency": "USD",
            "ChargeCategory": "Usage",
            "ChargeClass": "Correction" if invoiced else None,
            "ChargeDescription": f"Correction of what {what} was charged" if is_correction else f"Tokens of {what}",
            "ChargeFrequency": "Usage-Based",
            "ConsumedUnit": "Tokens",
            "InvoiceIssuerName": seller,
            "PricingCategory": "Standard",
            "PricingUnit": "Tokens",
            "ProviderName": seller,
            "PublisherName": seller,
            "ResourceId": sku,
            "ResourceName": model,
            "ResourceType": "Model" if sku else None,
            "ServiceCategory": "AI and Machine Learning",
            "ServiceName": f"{seller} API",
            "ServiceSubcategory": "Generative AI",
            "SkuId": sku,
            "SkuMeter": "Tokens" if sku else None,
            "SubAccountId": team,
            "SubAccountName": team,
            "Tags": json.dumps(tags, ensure_ascii=False) if tags else None,
            **dict(zip(_COUNTED, map(str, counts[:FIRST_COUNTS]), strict=True)),
            "x_Model": model,
            **{column: dims.get(name) or None for name, column in OWN.items()},
        }


def _periods(day: str) -> dict[str, str | None]:
    """The day and its month, both without their end, as date/time of FOCUS."""
    begin = date.fromisoformat(day)
    first = begin.replace(day=1)
    after = (first + 31 * _DAY).replace(day=1)
    spans = {
        "ChargePeriodStart": begin,
        "ChargePeriodEnd": begin + _DAY,
        "BillingPeriodStart": first,
        "BillingPeriodEnd": after,
    }
    return {name: f"{moment}T00:00:00Z" for name, moment in spans.items()}


def _add(counts: list[int], more: Sequence[int], times: int) -> None:
    for at, count in enumerate(more):
        counts[at] += times * count
