"""The price book: dated rows, their version, and the tariff of a model at a moment.

Owns the rows of the package (``data/*.json``) and of an operator's overrides, a file of the same form (``rows.py``) that is
asked first. Nothing is fetched. The version is a hash of the rows' canonical form, so that a record that names it can be
priced again. Knows no usage. Law: unknown is never free; look-ups are remembered, and the memory is bounded.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

from pricing.match import ALIASES, MAX_CHARS, candidates, owners
from pricing.price import Rates, Tariff
from pricing.rows import ALL, Row, make, problems, scaled

REMEMBERED = 4096
"""Look-ups that are kept. Names come from callers: when there are more, all are forgotten and found again (20 us each)."""
DAY = 86_400
SELF_HOSTED = "self-hosted"
"""The provider of models that cost what their operator says, and never what their maker asks."""
KNOWN_MAKERS = ("anthropic", "google", "groq", "openai", "xai")
"""Whose models stand for those of a provider that the book does not know."""
_BETWEEN = "\n\n"
_PROVIDER = re.compile(r'"provider": ?"([^"\\]*(?:\\.[^"\\]*)*)"')
OTHER_THAN_TEXT = re.compile(
    r"\b(?:audio|dall|embed\w*|image\w*|live|moderation|native|omni|orpheus|realtime|research|robotics|search|sora|transcribe"
    r"|translate|tts|veo|voice|whisper)\b"
)
"""Words in the ids of models that an unknown name is hardly one of: their units cost ten times what text does."""
OUTLIERS = re.compile(r"openai/(?:[\w.-]+-pro|gpt-4-32k|gpt-4\.5-preview)\b")
"""Text models that cost 5 to 60 times what their family does: OpenAI's ``-pro`` (many runs for one answer), and two withdrawn
ones. To hold that much for a new or misspelt name would spend a budget on a guess. (Google's ``-pro`` is an ordinary model.)"""


class _Shelf:
    """The rows of one file or folder, by provider and name. A provider's rows are made when somebody asks for them: most
    gateways need a few of two thousand.
    """

    def __init__(self, version: str, raw: Mapping[str, Sequence[str]]) -> None:
        """``raw``: provider -> its rows as JSON."""
        self._version = version
        self._raw = raw
        self._made: dict[str, _Rows] = {}

    @property
    def providers(self) -> Iterable[str]:
        """Whoever has a row."""
        return self._raw.keys()

    def of(self, provider: str) -> _Rows:
        """The rows of one provider."""
        found = self._made.get(provider)
        if found is None:
            texts = self._raw.get(provider, ())
            found = self._made[provider] = _Rows(make(json.loads(text), self._version) for text in texts)
        return found

    def find(self, provider: str, model: str, at: int, *, resold: bool) -> Row | None:
        """By name; else by the longest prefix. ``*`` alone is everybody's only in a row with ``percent``: see ``declared``."""
        tried = list(candidates(provider, model, resold=resold))
        for owner, name in tried:
            for row in self.of(owner).exact.get(name, ()):
                if row.holds(at):
                    return row
        for owner, name in tried:
            for prefix, row in self.of(owner).prefixes:
                if name.startswith(prefix) and row.holds(at) and (prefix or row.percent):
                    return row
        return None

    def declared(self, provider: str, at: int) -> Row | None:
        """What a provider's unknown models cost: a row for ``*``."""
        rows = (row for owner in owners(provider) for prefix, row in self.of(owner).prefixes if not prefix)
        return next((row for row in rows if row.holds(at) and not row.percent), None)


class _Rows:
    """Those of one provider: by name, and by prefix, the longest first."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = tuple(rows)
        self.exact: dict[str, list[Row]] = defaultdict(list)
        self.prefixes: list[tuple[str, Row]] = []
        for row in self.rows:
            for name in row.names:
                if name.endswith("*"):
                    self.prefixes.append((name[:-1], row))
                else:
                    self.exact[name].append(row)
        self.prefixes.sort(key=lambda each: -len(each[0]))


class Book:
    """All rows of one version. A later shelf is asked when the ones before it do not know a model."""

    def __init__(self, files: Sequence[str]) -> None:
        """``files``: for each shelf its rows, one a line, in JSON."""
        self._files = tuple(files)
        self.version = "+".join(_digest(file) for file in reversed(self._files))
        self._shelves = tuple(_Shelf(self.version, _by_provider(file)) for file in self._files)
        self._own_prices = frozenset((SELF_HOSTED, *self.providers))
        self._found: dict[tuple[str, str, int], Tariff | None] = {}
        self._dearest: dict[tuple[str, int], Tariff] = {}

    @classmethod
    def load(cls, overrides: Path | None = None, parse: Callable[[str], Any] = json.loads) -> Book:
        """The book of the package, behind an overlay. ``parse`` reads the overlay's text; any form that comes to the same
        document will do. ValueError lists every problem of the overlay, each with its row; OSError when it cannot be read.
        """
        files = [_builtin()]
        if overrides is not None:
            files.insert(0, _canonical(_checked(overrides.read_text(encoding="utf-8"), parse)))
        return cls(files)

    @classmethod
    def unpack(cls, packed: bytes) -> Book:
        """The book that was packed. ValueError for anything else."""
        try:
            return cls(zlib.decompress(packed).decode().split(_BETWEEN))
        except (zlib.error, KeyError, TypeError) as error:
            raise ValueError(f"not a packed price book: {type(error).__name__}") from None

    @property
    def packed(self) -> bytes:
        """All rows, as ``unpack`` takes them: what has to be kept to price a call again in a year. 30 ms."""
        return zlib.compress(_BETWEEN.join(self._files).encode(), 6)

    def prime(self, providers: Iterable[str]) -> None:
        """Make the rows of these providers now, and not when the first call waits for them."""
        for provider in providers:
            for shelf in self._shelves:
                for owner in owners(provider):
                    shelf.of(owner)

    @property
    def providers(self) -> tuple[str, ...]:
        """Whoever has a row, in order of the alphabet."""
        return tuple(sorted({provider for shelf in self._shelves for provider in shelf.providers}))

    def tariff(self, provider: str, model: str, at: int) -> Tariff | None:
        """The rates of a model at a moment (Unix seconds); None when the book does not know it. 0.2 us when remembered."""
        key = (provider, model, at // DAY)  # rows change at midnight UTC
        try:
            found = self._found[key]
        except KeyError:
            found = self._look_up(key)
        return found.during(at % DAY) if found is not None and found.hours else found

    def charge(self, provider: str, served: str, asked: str, at: int) -> Tariff:
        """The rates of a finished call: those of the model that was served; where the book does not know its name, of the one
        that was asked for; else the dearest of the provider's family.
        """
        found = self.tariff(provider, served, at) if served else None
        return found or self.tariff(provider, asked, at) or self.dearest(provider, at)

    def dearest(self, provider: str, at: int) -> Tariff:
        """What stands in for a model without a row: unit by unit the dearest standard rate, long context included, of the
        text models of that provider, or of everybody where it has none. Marked as unpriced.
        """
        key = (ALIASES.get(provider, provider), at // DAY)
        tariff = self._dearest.get(key)
        if tariff is None:
            if len(self._dearest) >= REMEMBERED:
                self._dearest.clear()
            tariff = self._dearest[key] = self._make_dearest(key[0], at)
        return tariff

    def near(self, model: str, provider: str = "") -> list[str]:
        """Up to five names that look like it, best first, for a person."""
        return difflib.get_close_matches(model[:MAX_CHARS].lower(), self.names(provider), n=5, cutoff=0.5)

    def names(self, provider: str = "") -> list[str]:
        """Every model that has a row of its own, of one provider or of all; patterns are not among them."""
        asked = [ALIASES.get(provider, provider)] if provider else self.providers
        return sorted({name for shelf in self._shelves for each in asked for name in shelf.of(each).exact})

    def _look_up(self, key: tuple[str, str, int]) -> Tariff | None:
        provider, model, day = key
        if len(model) > MAX_CHARS:
            return None
        resold = self._own_prices.isdisjoint(owners(provider))
        tariff, percent = None, ALL
        for shelf in self._shelves:
            row = shelf.find(provider, model, day * DAY, resold=resold)
            if row is not None and not row.percent:
                tariff = row.tariff if percent == ALL else scaled(row.tariff, percent)
                break
            if row is not None:
                percent = row.percent
        if tariff is None:
            declared = (shelf.declared(provider, day * DAY) for shelf in self._shelves)
            tariff = next((row.tariff for row in declared if row is not None), None)
        if len(self._found) >= REMEMBERED:
            self._found.clear()
        self._found[key] = tariff
        return tariff

    def _make_dearest(self, provider: str, at: int) -> Tariff:
        known = [provider] if provider in self.providers else KNOWN_MAKERS
        rows = [row for shelf in self._shelves for each in known for row in shelf.of(each).rows]
        family = [row.tariff for row in rows if row.holds(at) and not row.percent]
        text = [each for each in family if not OTHER_THAN_TEXT.search(each.row) and not OUTLIERS.match(each.row)]
        every = [hour for each in text or family for hour in (each, *(tariff for *_, tariff in each.hours))]
        rates = Rates(tuple(map(max, zip(*(rates.femto for each in every for rates in each.steps[""]), strict=True))))
        return Tariff(f"{provider or 'any'}/unpriced", self.version, {"": (rates,)}, unpriced=True)


def _builtin() -> str:
    """The lines of the package's files that are rows."""
    folder = resources.files("pricing") / "data"
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".json")), key=lambda each: each.name)
    texts = (each.read_text(encoding="utf-8") for each in files)
    return "\n".join(line.rstrip(",") for text in texts for line in text.split("\n") if line.startswith('{"id"'))


def _by_provider(file: str) -> dict[str, list[str]]:
    """Provider -> its lines. The provider is found without parsing a line: each is JSON with that key, and ids hold no quotes."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in file.split("\n"):
        match = _PROVIDER.search(line)
        if match is not None:
            found[match[1]].append(line)
        elif line:
            raise KeyError("provider")
    return dict(found)


def _checked(text: str, parse: Callable[[str], Any]) -> list[dict[str, Any]]:
    """The rows of an operator's file. ValueError lists everything that is wrong with them."""
    try:
        rows = parse(text)["rows"]
    except Exception:  # whatever the parser raises on a text that is none of its form
        rows = None
    if not isinstance(rows, list):
        raise ValueError('not a price file: {"rows": [...]} is needed')  # noqa: TRY004 - one kind of error for a file
    found = [f"row {number} ({_label(raw)}): {each}" for number, raw in enumerate(rows, 1) for each in problems(raw)]
    found = found or list(_clashes(rows))
    if found:
        raise ValueError("\n".join(found))
    return rows


def _clashes(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Rows between which a look-up could not decide."""
    seen: dict[tuple[str, str], list[tuple[int, Row]]] = defaultdict(list)
    for number, raw in enumerate(rows, 1):
        row = make(raw, "")
        for name in row.names:
            for other, before in seen[row.provider, name]:
                if before.starts < row.ends and row.starts < before.ends:
                    yield f"row {number} ({_label(raw)}): names: {name!r} has a price in row {other} at the same time"
            seen[row.provider, name].append((number, row))


def _label(raw: Any) -> str:
    return str(raw.get("id", "without id"))[:80] if isinstance(raw, dict) else "without id"


def _canonical(rows: list[dict[str, Any]]) -> str:
    """One row a line, the same for rows that say the same."""
    return "\n".join(json.dumps(row, sort_keys=True, separators=(",", ":"), default=date.isoformat) for row in rows)


def _digest(canonical: str) -> str:
    """The first 16 hex digits of its hash."""
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
