"""Price rows: the form that they have in a file, everything that can be wrong with one, and the rates that one comes to.

A file is ``{"rows": [...]}``. A row has

- ``id`` (stands in records), ``provider``, ``names`` (model names; one that ends in ``*`` covers what begins like it),
- ``rates``: unit of Usage -> dollars as a decimal string: for a million tokens or characters, for an hour (``seconds``), for
  one search, image or request,
- ``long``: ``[{"above": input tokens, "rates": {...}}]``, rates that hold for a whole call with more input than that,
- ``tiers``: service tier -> ``{"rates": {...}, "long": [...]}``; a unit that a tier does not name costs what it costs without,
- ``hours``: ``[{"from": "01:00", "to": "04:00", "rates": {...}}]``, rates that hold at those hours of a day, UTC,
- ``regions``: region -> percent of every rate, as a decimal string: ``{"us": "110"}``; asked for as ``TIER@us``,
- ``least_seconds``: what a shorter sound is billed as,
- ``valid_from``, ``valid_to``: dates in UTC, the second one exclusive; ``context_tokens``, ``max_output_tokens``,
- ``source``, ``source_date``: where the rates are published, and when they were seen there.

``id``, ``provider``, ``names`` and a rate for ``input`` are required. A row with ``percent`` has no rates of its own: it takes so
many percent of what its models cost by the rows behind its file (a discount, a markup). Knows no file and no look-up. Law: a unit without a rate
of its own gets one by rule; only a rate of "0" is free.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import Any

from pricing.match import MAX_CHARS
from pricing.price import STANDARD_TIERS, Rates, Tariff
from pricing.usage import UNITS
from pricing.value import value

KEYS = (
    "id", "provider", "names", "rates", "long", "tiers", "hours", "regions", "percent", "least_seconds", "valid_from", "valid_to", "context_tokens", "max_output_tokens",
    "source", "source_date",
)  # fmt: skip
FOREVER = 1 << 53
SEARCH_FEMTO = 35 * 10**12
"""$0.035: the dearest list price of one search (Google's grounding), for rows that do not name theirs."""
SOUND_TOKENS = 32
"""Of a second: what Google counts, the most of all ("Understand audio"; OpenAI counts 10). For rows that have no rate for seconds."""
SPEECH_TOKENS = 2
"""For a character, at 14 characters a second and 20.8 tokens a second (OpenAI: $0.015 a minute at $12 a million)."""
IMAGE_TOKENS = 6_240
"""Of an image in gpt-image-1's dearest quality and size (OpenAI, "Image generation"). For rows that have no rate for images."""
PER_ONE = frozenset(("searches", "images", "requests"))
ALL = 10_000
"""A hundred percent, in hundredths."""
_HOUR = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_PERCENT = re.compile(r"[0-9]{1,4}(\.[0-9]{1,2})?")
_DOLLARS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
_in_order: Callable[[Mapping[str, int]], tuple[int, ...]] = itemgetter(*UNITS)
Curve = dict[int, int]
"""One unit's rate by context: femto-dollars from more than so many input tokens; -1 is where it begins."""


@value
class Row:
    """A row that was found right. It holds from ``starts`` until before ``ends`` (Unix seconds). Where ``percent`` (hundredths
    of a percent) is not 0, its tariff has no rates.
    """

    provider: str
    names: tuple[str, ...]
    starts: int
    ends: int
    tariff: Tariff
    percent: int = 0

    def holds(self, at: int) -> bool:
        """Whether it is in force at a moment."""
        return self.starts <= at < self.ends


def make(raw: Mapping[str, Any], version: str) -> Row:
    """The row that ``raw``, in which ``problems`` finds none, describes. ``version`` is that of the book it stands in."""
    names = tuple(name.strip().lower() for name in raw["names"])
    starts, ends = _moment(raw.get("valid_from"), 0), _moment(raw.get("valid_to"), FOREVER)
    is_claude = raw["provider"] == "anthropic" or names[0].startswith("claude")
    return Row(
        raw["provider"], names, starts, ends, _tariff(raw, version, is_claude), _hundredths(raw.get("percent", "0"))
    )


def _tariff(raw: Mapping[str, Any], version: str, is_claude: bool) -> Tariff:
    standard = _curves({"rates": {"input": "0"}} if "percent" in raw else raw)
    tiers = {name.lower(): _curves(tier) for name, tier in raw.get("tiers", {}).items()}
    steps = {name: _steps({**standard, **own}, is_claude) for name, own in {"": {}, **tiers}.items()}
    for region, percent in raw.get("regions", {}).items():
        regional = {
            f"{name}@{region.lower()}": _scaled(each, _hundredths(percent))
            for name, each in steps.items()
            if "@" not in name
        }
        steps |= regional
    return Tariff(
        row=raw["id"],
        book=version,
        steps=steps,
        hours=tuple(_hour(raw, hour, version, is_claude) for hour in raw.get("hours", ())),
        source=str(raw.get("source", "")),
        source_date=str(raw.get("source_date", "")),
        least_seconds=raw.get("least_seconds", 0),
        context_tokens=raw.get("context_tokens"),
        max_output_tokens=raw.get("max_output_tokens"),
    )


def _hour(raw: Mapping[str, Any], hour: Mapping[str, Any], version: str, is_claude: bool) -> tuple[int, int, Tariff]:
    """(from, to, rates) in seconds of the day."""
    rates = {**raw["rates"], **hour["rates"]}
    own = {**raw, "id": f"{raw['id']}#{hour['from']}-{hour['to']}", "rates": rates, "hours": ()}
    return _seconds(hour["from"]), _seconds(hour["to"]), _tariff(own, version, is_claude)


def scaled(tariff: Tariff, percent: int) -> Tariff:
    """So many hundredths of a percent of every rate; a femto-dollar that is not whole is rounded up."""
    return replace(
        tariff,
        row=f"{tariff.row}*{percent / 100:g}%",
        steps={name: _scaled(steps, percent) for name, steps in tariff.steps.items()},
        hours=tuple((starts, ends, scaled(each, percent)) for starts, ends, each in tariff.hours),
    )


# -- rates ----------------------------------------------------------------------------------------------------------------


def _curves(block: Mapping[str, Any]) -> dict[str, Curve]:
    """Unit -> its rates by context, as far as the block (a row or a tier) names them."""
    curves = {unit: {-1: _femto(unit, text)} for unit, text in block["rates"].items()}
    for step in block.get("long", []):
        for unit, text in step["rates"].items():
            curves[unit][step["above"]] = _femto(unit, text)
    return curves


def _steps(curves: Mapping[str, Curve], is_claude: bool) -> tuple[Rates, ...]:
    """The curves cut at every threshold that any of them has, by rising context."""
    cuts = sorted({above for curve in curves.values() for above in curve})
    return tuple(Rates(_complete(_cut(curves, above), is_claude), above) for above in cuts)


def _cut(curves: Mapping[str, Curve], above: int) -> dict[str, int]:
    """Unit -> its rate just above a threshold."""
    return {unit: curve[max(each for each in curve if each <= above)] for unit, curve in curves.items()}


def _scaled(steps: tuple[Rates, ...], percent: int) -> tuple[Rates, ...]:
    return tuple(Rates(tuple(-(-femto * percent // ALL) for femto in step.femto), step.above) for step in steps)


def _complete(known: dict[str, int], is_claude: bool) -> tuple[int, ...]:
    """A rate for every unit. No discount is assumed: what came from a cache costs what it costs fresh, and audio and images what text of
    their side costs; sounds and images that are billed by their length or number cost what their tokens would. Anthropic asks 1.25 times the input rate for a cache write, and 2 times for one that lasts an hour.
    """
    text_in = known["input"]
    text_out = known.get("output", text_in)
    write = known.get("cache_write", -(-text_in * 125 // 100) if is_claude else text_in)
    rates = {
        "cached_input": text_in,
        "cached_audio": known.get("audio_in", known.get("cached_input", text_in)),
        "cached_image": known.get("image_in", known.get("cached_input", text_in)),
        "cache_write": write,
        "cache_write_1h": text_in * 2 if is_claude else write,
        "audio_in": text_in,
        "image_in": text_in,
        "output": text_out,
        "reasoning": text_out,
        "audio_out": text_out,
        "image_out": text_out,
        "searches": SEARCH_FEMTO,
        "requests": 0,
        **known,
    }
    rates = {
        "seconds": SOUND_TOKENS * rates["audio_in"],
        "characters": text_in + SPEECH_TOKENS * rates["audio_out"],
        "images": IMAGE_TOKENS * rates["image_out"],
        **rates,
    }
    return _in_order(rates)


@lru_cache(maxsize=4096)
def _femto(unit: str, text: str) -> int:
    """Decimal dollars to femto-dollars for one, exactly: nine places for a million tokens are whole ones. Only for seconds the
    last femto-dollar is rounded up: an hour has 3600 of them.
    """
    if not _DOLLARS.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no decimal number of dollars with at most nine places")
    if unit == "seconds":
        return -(-int(Decimal(text) * 10**15) // 3600)
    return int(Decimal(text) * (10**15 if unit in PER_ONE else 10**9))


def _seconds(hour: str) -> int:
    """Of the day."""
    return int(hour[:2]) * 3600 + int(hour[3:]) * 60


def _hundredths(percent: str) -> int:
    return int(Decimal(percent) * 100)


def _moment(day: date | str | None, otherwise: int) -> int:
    """Midnight UTC of a date, in Unix seconds."""
    if not day:
        return otherwise
    parsed = date.fromisoformat(str(day))
    return int(datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC).timestamp())


# -- what can be wrong ----------------------------------------------------------------------------------------------------


def problems(raw: Any) -> Iterator[str]:
    """Everything that is wrong with one row, in words for the person who wrote it."""
    if not isinstance(raw, dict):
        yield "is not an object"
        return
    for key in raw:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1)
            yield f"{str(key)[:40]!r} is no key of a row" + (f"; is {near[0]!r} meant?" if near else "")
    for key in ("id", "provider"):
        if not isinstance(raw.get(key), str) or not raw[key].strip():
            yield f"{key}: a name is needed"
    yield from _name_problems(raw.get("names"))
    yield from _price_problems(raw)
    yield from _date_problems(raw)
    for key, what in (("context_tokens", "tokens"), ("max_output_tokens", "tokens"), ("least_seconds", "seconds")):
        if key in raw and (type(raw[key]) is not int or raw[key] < 1):
            yield f"{key}: a number of {what} is needed"


def _price_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    if "percent" in raw:
        yield from _percent_problems(raw["percent"], "percent")
        for key in ("rates", "long", "tiers", "hours", "regions"):
            if key in raw:
                yield f"{key}: a row with percent takes those of the row behind it"
        return
    yield from _block_problems(raw, "")
    if isinstance(raw.get("rates"), dict) and "input" not in raw["rates"]:
        yield 'rates: one for input is needed ("0" if it is free)'
    yield from _tier_problems(raw.get("tiers", {}))
    yield from _hour_problems(raw.get("hours", []))
    regions = raw.get("regions", {})
    if not isinstance(regions, dict):
        yield "regions: an object of region and percent is needed"
        return
    for region, percent in regions.items():
        yield from _percent_problems(percent, f"regions.{str(region)[:40]}")


def _percent_problems(percent: Any, where: str) -> Iterator[str]:
    if not isinstance(percent, str) or not _PERCENT.fullmatch(percent) or not _hundredths(percent):
        yield f'{where}: a percentage in quotes is needed, such as "85" or "110.5"'


def _hour_problems(hours: Any) -> Iterator[str]:
    if not isinstance(hours, list):
        yield "hours: a list is needed"
        return
    for index, hour in enumerate(hours):
        where = f"hours.{index}"
        ends = [hour.get("from"), hour.get("to")] if isinstance(hour, dict) else []
        if not ends or not all(isinstance(end, str) and _HOUR.fullmatch(end) for end in ends):
            yield f'{where}: from and to are needed, such as "16:30" and "00:30", in UTC'
        else:
            yield from _rate_problems(hour.get("rates"), f"{where}.rates")


def _name_problems(names: Any) -> Iterator[str]:
    if not isinstance(names, list) or not names:
        yield "names: a list of model names is needed"
        return
    for name in names:
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_CHARS or "*" in name[:-1]:
            yield f"names: {str(name)[:40]!r} is no model name (a * may stand at its end)"


def _tier_problems(tiers: Any) -> Iterator[str]:
    if not isinstance(tiers, dict):
        yield "tiers: an object is needed"
        return
    for name, tier in tiers.items():
        if name.lower() in STANDARD_TIERS:
            yield f"tiers.{name}: is a provider's word for the standard rates"
        yield from _block_problems(tier, f"tiers.{name}.")


def _block_problems(block: Any, where: str) -> Iterator[str]:
    """``rates`` and ``long`` of a row or of a tier."""
    if not isinstance(block, dict):
        yield f"{where}rates: an object of unit and rate is needed"
        return
    rates, long = block.get("rates"), block.get("long", [])
    yield from _rate_problems(rates, f"{where}rates")
    if not isinstance(long, list):
        yield f"{where}long: a list is needed"
        return
    named = rates if isinstance(rates, dict) else {}
    for index, step in enumerate(long):
        yield from _step_problems(step, f"{where}long.{index}", named)


def _step_problems(step: Any, where: str, short: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(step, dict) or type(step.get("above")) is not int or step["above"] < 1:
        yield f"{where}.above: a number of input tokens is needed"
        return
    yield from _rate_problems(step.get("rates"), f"{where}.rates")
    for unit in step["rates"] if isinstance(step.get("rates"), dict) else ():
        if unit in UNITS and unit not in short:
            yield f"{where}.rates.{unit}: has no rate for a short context"


def _rate_problems(rates: Any, where: str) -> Iterator[str]:
    if not isinstance(rates, dict):
        yield f"{where}: an object of unit and rate is needed"
        return
    for unit, text in rates.items():
        if unit not in UNITS:
            yield f"{where}.{str(unit)[:40]}: no such unit; there are {', '.join(UNITS)}"
        elif not isinstance(text, str):
            yield f'{where}.{unit}: dollars as a decimal number in quotes are needed, such as "2.50"'
        else:
            try:
                _femto(unit, text)
            except ValueError as error:
                yield f"{where}.{unit}: {error}"


def _date_problems(raw: Mapping[str, Any]) -> Iterator[str]:
    moments = []
    for key, otherwise in (("valid_from", 0), ("valid_to", FOREVER)):
        try:
            moments.append(_moment(raw.get(key), otherwise))
        except ValueError:
            yield f"{key}: a date such as 2026-11-20 is needed"
    if len(moments) == 2 and moments[0] >= moments[1]:
        yield "valid_to: must be later than valid_from"
