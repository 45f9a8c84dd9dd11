"""FOCUS: the rows add up to the report, whatever was spent and corrected, and obey the rules of the specification on nulls."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.focus import COLUMNS, Charges
from gateway.report import COST, Question, Tally
from gateway.store.rollups import spend_of

TODAY = date(2026, 11, 21)
FIRST = date(2026, 10, 1)
BY = ("team", "user", "model", "provider")
ASKED = Question(BY, "day", FIRST, TODAY + timedelta(days=1))
NOT_NULL = (
    "BilledCost", "BillingAccountId", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory",
    "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName",
    "ListCost", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName", "ServiceSubcategory",
)  # fmt: skip
"""Columns of which version 1.2 says that they must not be null, in whatever row."""
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT00:00:00Z")
names = st.sampled_from(["", "search", "ads", "équipe"])
record = st.fixed_dictionaries(
    {
        "day": st.integers(0, (TODAY - FIRST).days),
        "team": names,
        "user": names,
        "model_served": st.sampled_from(["gpt-5", "claude", "=model"]),
        "provider": st.sampled_from(["openai", "anthropic", "ours"]),
        "usage": st.fixed_dictionaries({"input": st.integers(0, 10**6), "output": st.integers(0, 10**6)}),
        "cost_nanousd": st.integers(0, 10**12),
        "more": st.none() | st.integers(-(10**9), 10**9),
        "by": st.sampled_from([BY, ("team", "model", "provider"), ("model", "provider")]),
    }
)


def records_of(drawn: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], tuple[str, ...]]]:
    """Records as they are booked, with what sums were told apart by when they were: calls, and corrections of some."""
    found = []
    for number, each in enumerate(drawn):
        day = FIRST + timedelta(days=each["day"])
        told = {
            **each,
            "call_id": str(number),
            "started_at": f"{day}T{number % 24:02d}:00:00.000Z",
            "outcome": "completed",
        }
        found.append((told, each["by"]))
        if each["more"] is not None:
            correction = {"call_id": f"{number}+1", "corrects": str(number), "corrected_usage": each["usage"]}
            found.append((told | correction | {"cost_nanousd": each["more"], "outcome": "corrected"}, each["by"]))
    return found


@settings(deadline=None)
@given(st.lists(record, max_size=30))
def test_the_rows_are_the_report_to_the_nano_dollar(drawn: list[dict[str, Any]]) -> None:
    """In each of the four costs, in tokens and in calls; corrections stand apart, and only those of past months are of that class."""
    booked = records_of(drawn)
    sums = [spend_of(told, by) for told, by in booked]
    tally, charges = Tally(ASKED), Charges(ASKED, TODAY)
    tally.add(sums)
    charges.add(sums)
    corrections = [told for told, _ in booked if told["outcome"] == "corrected"]
    charges.correct(corrections)
    rows, total = charges.rows(), tally.total()
    for column in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
        assert sum((Decimal(row[column] or "") for row in rows), Decimal(0)) * 10**9 == total[COST]
    assert sum(int(row["x_CostNanoUsd"] or 0) for row in rows) == total[COST]
    assert sum(int(row["ConsumedQuantity"] or 0) for row in rows) == total[3] + total[5]
    assert sum(int(row["x_Calls"] or 0) for row in rows) <= total[0]
    taken_apart = sum(
        Decimal(row["BilledCost"] or 0) for row in rows if "Correction" in (row["ChargeDescription"] or "")
    )
    assert taken_apart * 10**9 == sum(told["cost_nanousd"] for told in corrections)
    for row in rows:
        obeys(row)


def obeys(row: dict[str, str | None]) -> None:
    """The rules of FOCUS 1.2 that can be seen in one row."""
    assert tuple(row) == COLUMNS
    assert all(row[name] for name in NOT_NULL)
    assert all(value != "" for value in row.values())
    assert row["ServiceCategory"] == "AI and Machine Learning"
    assert (row["SubAccountId"] is None) == (row["SubAccountName"] is None)
    assert (row["PricingQuantity"] is None) == (row["PricingUnit"] is None)
    assert (row["SkuId"] is None) == (row["SkuMeter"] is None)
    begin, end, first, after = (
        row[f"{kind}Period{side}"] or "" for kind in ("Charge", "Billing") for side in ("Start", "End")
    )
    assert all(MOMENT.fullmatch(each) for each in (begin, end, first, after))
    assert first <= begin < end <= after
    assert first[8:10] == after[8:10] == "01"
    is_correction = (row["ChargeDescription"] or "").startswith("Correction")
    assert row["ChargeClass"] == ("Correction" if is_correction and first < "2026-11" else None)
    if not is_correction:
        assert int(row["ConsumedQuantity"] or -1) >= 0
    if row["Tags"] is not None:
        assert set(json.loads(row["Tags"])) <= {"user", "agent", "call_type", "key_name"}
        assert all(json.loads(row["Tags"]).values())


def test_the_columns_are_in_order_and_ours_last() -> None:
    """As the specification lists them."""
    own = [name for name in COLUMNS if name.startswith("x_")]
    assert list(COLUMNS[: -len(own)]) == sorted(COLUMNS[: -len(own)])
    assert list(COLUMNS[-len(own) :]) == own
