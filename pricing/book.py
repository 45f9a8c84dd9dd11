"""The price book: dated rows, their hash, and the tariff of a model at a moment.

Rows are data files in the package (``data/*.json``, one row a line); an operator's overrides are a file of the same form
that goes before them. Nothing is fetched. The version is the hash of the rows' canonical form, so that a record that
names it can be priced again.

A row: ``id``, ``provider``, ``names`` (exact model names, lower case), ``rates`` (unit -> decimal dollars: per million for
tokens, each for searches), optional ``long`` (list of ``{above, rates}``: input tokens from which other rates apply to the
whole call), ``tiers`` (service tier -> ``{rates, long}``), ``valid_from`` and ``valid_to`` (dates, UTC, the last exclusive),
``context_tokens``, ``max_output_tokens``, ``source`` and ``checked``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path
from typing import Any

from pricing.match import candidates
from pricing.price import Rates, Tariff
from pricing.usage import UNITS

ALIASES = {"gemini": "google", "azure": "openai", "vertex": "google"}
"""Providers that bill by another one's list."""
FALLBACKS = {
    "cached_input": ("input", 100),
    "cache_write": ("input", 125),
    "cache_write_1h": ("input", 200),
    "audio_in": ("input", 100),
    "image_in": ("input", 100),
    "reasoning": ("output", 100),
    "audio_out": ("output", 100),
    "image_out": ("output", 100),
}
"""Unit without a rate of its own -> (unit, per cent). Writing a cache costs 1.25 and 2 times the input rate at Anthropic,
the only provider that bills it apart from the rows that say so; a discount is never assumed."""
SPECIAL = (
    "pro",
    "audio",
    "realtime",
    "image",
    "tts",
    "transcribe",
    "search",
    "research",
    "embedding",
    "live",
    "dall",
    "32k",
)
"""Words in names of models that no unknown chat model should be taken for: the dearest of these is ten times the rest."""
REMEMBERED = 4096


class Book:
    """Rows by (provider, name). Look-ups are remembered; names come from callers, so the memory is bounded."""

    def __init__(self, rows: Iterable[Mapping[str, Any]], version: str) -> None:
        self.version = version
        self._rows: dict[tuple[str, str], list[tuple[int, int, Tariff]]] = {}
        self._every: list[tuple[int, int, str, Tariff]] = []
        for row in rows:
            self._add(row)
        self._found: dict[tuple[str, str], tuple[int, int, Tariff | None]] = {}
        self._dearest: dict[tuple[str, int], Tariff] = {}

    @classmethod
    def load(cls, overrides: Path | None = None) -> Book:
        """The book of the package, with an overlay. ValueError lists every problem of the overlay, by row."""
        rows = _builtin()
        version = _hash(rows)
        if overrides is not None:
            own = read_rows(overrides.read_text(encoding="utf-8"))
            rows, version = [*own, *rows], f"{version}+{_hash(own)}"
        return cls(rows, version)

    def tariff(self, provider: str, model: str, at: int) -> Tariff | None:
        """The rates of a model at a moment (Unix seconds); None when the book does not know it."""
        key = (provider, model)
        found = self._found.get(key)
        if found is None or not found[0] <= at < found[1]:
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            found = self._found[key] = self._look_up(provider, model, at)
        return found[2]

    def dearest(self, provider: str, at: int) -> Tariff:
        """Stands in for a model without a price: unit by unit the dearest rate among the provider's general models, or
        among everybody's where the provider has none. Marked as unpriced, never zero.
        """
        day = at // 86400
        key = (ALIASES.get(provider, provider), day)
        if key not in self._dearest:
            if len(self._dearest) >= REMEMBERED:
                self._dearest.clear()
            self._dearest[key] = self._make_dearest(key[0], at)
        return self._dearest[key]

    def near(self, model: str, provider: str = "") -> list[str]:
        """Names that look like it, for a person."""
        names = {name for owner, name in self._rows if not provider or owner == provider}
        return difflib.get_close_matches(model.lower(), sorted(names), n=5, cutoff=0.5)

    def _add(self, row: Mapping[str, Any]) -> None:
        start, end = _moment(row.get("valid_from"), 0), _moment(row.get("valid_to"), 1 << 53)
        tariff = _tariff(row, self.version)
        self._every.append((start, end, row["provider"], tariff))
        for name in row["names"]:
            self._rows.setdefault((row["provider"], name), []).append((start, end, tariff))

    def _look_up(self, provider: str, model: str, at: int) -> tuple[int, int, Tariff | None]:
        owner = ALIASES.get(provider, provider)
        for prefix, name in candidates(model):
            for each in dict.fromkeys((provider, owner) if not prefix else (ALIASES.get(prefix, prefix),)):
                for start, end, tariff in self._rows.get((each, name), ()):
                    if start <= at < end:
                        return start, end, tariff
        return at, at + 86400, None

    def _make_dearest(self, provider: str, at: int) -> Tariff:
        valid = [(owner, tariff) for start, end, owner, tariff in self._every if start <= at < end]
        general = [(owner, tariff) for owner, tariff in valid if not any(word in tariff.row for word in SPECIAL)]
        family = [tariff for owner, tariff in general if owner == provider] or [tariff for _, tariff in general]
        rates = [tariff.steps[""][-1].femto for tariff in family]
        femto = tuple(max(column) for column in zip(*rates, strict=True))
        return Tariff(f"{provider or 'any'}/unpriced", self.version, {"": (Rates(femto),)}, unpriced=True)


def read_rows(text: str) -> list[dict[str, Any]]:
    """Rows from a file of the form described above. ValueError lists every problem."""
    try:
        rows = json.loads(text)["rows"]
    except (ValueError, TypeError, KeyError):
        raise ValueError('a price file is JSON of the form {"rows": [...]}') from None
    problems = [f"row {index + 1}: {problem}" for index, row in enumerate(rows) for problem in _problems(row)]
    if problems:
        raise ValueError("\n".join(problems))
    return [{**row, "names": [name.lower() for name in row["names"]]} for row in rows]


def _problems(row: Any) -> list[str]:
    if not isinstance(row, dict):
        return ["is no object"]
    found = [f"{name} is missing" for name in ("id", "provider", "names", "rates") if not row.get(name)]
    if found:
        return found
    try:
        _tariff(row, "")
        _moment(row.get("valid_from"), 0)
        _moment(row.get("valid_to"), 0)
    except (ValueError, TypeError, AttributeError, KeyError, InvalidOperation) as error:
        found.append(str(error) if isinstance(error, ValueError) else "is not of the form that the documentation shows")
    return found


def _builtin() -> list[dict[str, Any]]:
    folder = resources.files("pricing") / "data"
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".json")), key=lambda each: each.name)
    return [row for each in files for row in json.loads(each.read_text(encoding="utf-8"))["rows"]]


def _hash(rows: list[dict[str, Any]]) -> str:
    """The content hash: 16 hex digits over the canonical form."""
    return hashlib.sha256(json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def _moment(day: str | None, otherwise: int) -> int:
    if not day:
        return otherwise
    parsed = date.fromisoformat(day)
    return int(datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC).timestamp())


def _tariff(row: Mapping[str, Any], version: str) -> Tariff:
    tiers = {"": row, **row.get("tiers", {})}
    steps = {name: _steps(tier, row["rates"], row.get("long", [])) for name, tier in tiers.items()}
    return Tariff(
        row=row["id"],
        book=version,
        steps=steps,
        source=row.get("source", ""),
        checked=row.get("checked", ""),
        context_tokens=row.get("context_tokens"),
        max_output_tokens=row.get("max_output_tokens"),
    )


def _steps(tier: Mapping[str, Any], standard: Mapping[str, str], long: list[dict[str, Any]]) -> tuple[Rates, ...]:
    """The rates of one tier by rising context. What a tier does not name costs what it costs without the tier."""
    base = {**standard, **tier["rates"]}
    inherited = {step["above"]: step["rates"] for step in long}
    own = {step["above"]: step["rates"] for step in tier.get("long", [])}
    flat = tier["rates"] is not standard and not own
    found = [Rates(_femto(base))]
    for above in sorted({} if flat else {**inherited, **own}):
        found.append(Rates(_femto({**base, **inherited.get(above, {}), **own.get(above, {})}), above))
    return tuple(found)


def _femto(rates: Mapping[str, str]) -> tuple[int, ...]:
    """A rate for every unit; one that is not given follows from its fallback. Only a row that says "0" is free."""
    unknown = set(rates) - set(UNITS)
    if unknown:
        raise ValueError(f"unknown units: {', '.join(sorted(unknown))}")
    known = {unit: _rate(unit, text) for unit, text in rates.items()}
    if "input" not in known:
        raise ValueError("a rate for input is needed")
    known.setdefault("output", known["input"])
    known.setdefault("searches", 0)
    for unit, (other, per_cent) in FALLBACKS.items():
        known.setdefault(unit, -(-known[other] * per_cent // 100))
    return tuple(known[unit] for unit in UNITS)


def _rate(unit: str, text: str) -> int:
    """Decimal dollars (per million tokens; per search) to femto-dollars for one, exactly."""
    if not isinstance(text, str):
        raise ValueError(f"{unit}: a rate is a decimal number in quotes")  # noqa: TRY004 - one kind of error for a file
    femto = Decimal(text) * (10**15 if unit == "searches" else 10**9)
    if not femto.is_finite() or femto < 0 or femto != femto.to_integral_value():
        raise ValueError(f"{unit}: not a whole number of femto-dollars")
    return int(femto)
