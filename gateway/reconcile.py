"""Reconciliation: what a provider says it counted and asks for, held against the books, by UTC day and model.

Quiet: documents and records in, rows out. Reads the answers of the providers' own usage and cost APIs as they come, one page
or many (OpenAI ``/organization/usage/...`` and ``/organization/costs``; Anthropic ``/organizations/usage_report/messages`` and
``/organizations/cost_report``). What an export does not tell (no model, no tokens) is not compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from gateway.value import value
from pricing.money import NANO
from pricing.usage import usage_of

BILLED_AS = {"azure": "openai"}
CENTS = 100


@dataclass(slots=True)
class Sums:
    """What one side says of a day and model. None where it says nothing."""

    calls: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nanousd: int | None = None

    def add(self, **amounts: int | None) -> None:
        """Add what is told."""
        for name, amount in amounts.items():
            if amount is not None:
                setattr(self, name, (getattr(self, name) or 0) + amount)


@dataclass(slots=True)
class Export:
    """The provider's side: sums by (day, model); the model is "" where the export was not grouped by it."""

    provider: str = ""
    sums: dict[tuple[str, str], Sums] = field(default_factory=lambda: defaultdict(Sums))

    @property
    def days(self) -> tuple[str, str]:
        """The first and the last day that it speaks of."""
        days = [day for day, _ in self.sums]
        return min(days), max(days)


@value
class Row:
    """One day and model, both sides."""

    day: str
    model: str
    theirs: Sums
    ours: Sums

    def differs(self, tolerance: Decimal) -> list[str]:
        """The figures that differ by more than that share of the provider's."""
        found = []
        for name in ("calls", "input_tokens", "output_tokens", "cost_nanousd"):
            theirs, ours = getattr(self.theirs, name), getattr(self.ours, name) or 0
            if theirs is not None and abs(theirs - ours) > tolerance * abs(theirs):
                found.append(name)
        return found


def read(documents: Iterable[Any]) -> Export:
    """The export. ValueError for what is none, for two providers in one, and for another currency than dollars."""
    export = Export()
    for document in documents:
        for bucket in _buckets(document):
            _read_bucket(export, bucket)
    if not export.sums:
        raise ValueError("holds no usage and no costs of OpenAI or Anthropic")
    return export


def compare(
    export: Export, records: Iterable[dict[str, Any]], corrected: Mapping[str, str] = MappingProxyType({})
) -> list[Row]:
    """Rows by day and model: all of the export, and what only the books have of its days. ``corrected``: calls by id, and the
    record that corrected each last: that one says what was used.
    """
    ours: dict[tuple[str, str], Sums] = defaultdict(Sums)
    first, last = export.days
    ungrouped = all(not model for _, model in export.sums)
    for record in records:
        day = str(record["started_at"])[:10]
        provider = BILLED_AS.get(record["provider"], record["provider"])
        if not record["usage_source"] or provider != export.provider or not first <= day <= last:
            continue
        usage = usage_of(record["usage"])
        model = "" if ungrouped else record["model_served"] or record["model_requested"]
        ours[day, model].add(calls=0 if record.get("corrects") else 1, cost_nanousd=record["cost_nanousd"])
        original = record.get("corrects") or record["call_id"]
        if corrected.get(original, original) == record["call_id"]:
            ours[day, model].add(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
    told = _told(export)
    theirs = {key: export.sums.get(key) or told for key in (*export.sums, *ours)}
    return [Row(*key, theirs[key], ours[key]) for key in sorted(theirs)]


def _told(export: Export) -> Sums:
    """Zero of everything that the export tells at all: what it says of a model that it does not name."""
    sums = export.sums.values()
    zero = {name: 0 for name in Sums.__slots__ if any(getattr(each, name) is not None for each in sums)}
    return Sums(**zero)


def _buckets(document: Any) -> Iterator[dict[str, Any]]:
    """The time buckets of a page, or of a list of pages."""
    for page in document if isinstance(document, list) else [document]:
        data = page.get("data") if isinstance(page, dict) else None
        for bucket in data if isinstance(data, list) else ():
            if isinstance(bucket, dict) and isinstance(bucket.get("results"), list):
                yield bucket


def _read_bucket(export: Export, bucket: dict[str, Any]) -> None:
    is_openai = "start_time" in bucket
    provider = "openai" if is_openai else "anthropic"
    if export.provider not in ("", provider):
        raise ValueError("holds exports of two providers")
    export.provider = provider
    day = _day(bucket["start_time"] if is_openai else bucket.get("starting_at"))
    for result in bucket["results"]:
        if isinstance(result, dict):
            (_read_openai if is_openai else _read_anthropic)(export, day, result)


def _read_openai(export: Export, day: str, result: dict[str, Any]) -> None:
    """Input includes cached tokens; audio stands beside it. A line item of the costs begins with the model's name."""
    amount = result.get("amount")
    if isinstance(amount, dict):
        model = str(result.get("line_item") or "").partition(",")[0].strip()
        export.sums[day, model].add(cost_nanousd=_nanousd(amount.get("value"), amount.get("currency")))
    elif "input_tokens" in result or "num_model_requests" in result:
        export.sums[day, str(result.get("model") or "")].add(
            calls=result.get("num_model_requests"),
            input_tokens=_sum(result, "input_tokens", "input_audio_tokens"),
            output_tokens=_sum(result, "output_tokens", "output_audio_tokens"),
        )


def _read_anthropic(export: Export, day: str, result: dict[str, Any]) -> None:
    """Input comes in parts; costs come in cents, as decimal text."""
    model = str(result.get("model") or "")
    if "amount" in result:
        export.sums[day, model].add(cost_nanousd=_nanousd(result["amount"], result.get("currency"), CENTS))
    elif "uncached_input_tokens" in result:
        written = result.get("cache_creation")
        parts = _sum(result, "uncached_input_tokens", "cache_read_input_tokens")
        parts += sum(count for count in written.values() if type(count) is int) if isinstance(written, dict) else 0
        export.sums[day, model].add(input_tokens=parts, output_tokens=_sum(result, "output_tokens"))


def _sum(result: dict[str, Any], *names: str) -> int:
    return sum(count for name in names if type(count := result.get(name)) is int)


def _nanousd(amount: Any, currency: Any, parts: int = 1) -> int:
    """An amount of dollars, or of so many parts of one, as number or text; rounded half even: these are sums already."""
    if str(currency or "usd").lower() != "usd":
        raise ValueError("tells costs in another currency than dollars")
    try:
        return int((Decimal(str(amount)) * NANO / parts).to_integral_value())
    except (ArithmeticError, ValueError):
        raise ValueError("has an amount that is no number") from None


def _day(moment: Any) -> str:
    """Of Unix seconds or RFC 3339."""
    try:
        found = datetime.fromtimestamp(moment, UTC) if type(moment) is int else datetime.fromisoformat(str(moment))
    except (ValueError, OverflowError, OSError):
        raise ValueError("has a time bucket without a time") from None
    return found.astimezone(UTC).strftime("%Y-%m-%d")
