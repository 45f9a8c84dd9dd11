"""Spend by the hour: what one call adds to the sums that reports are made of.

Owns what each count means and how the dimensions of a row are written. Quiet: a record in, a ``Spend`` out; how sums are kept is
each store's own affair. Law: the sums are the sum of ``spend_of`` of the records, always.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import orjson

from gateway.call import Record
from gateway.store import SPEND_COUNTS, Spend
from gateway.value import value

DIMENSIONS = (
    "team",
    "user",
    "agent",
    "call_type",
    "key_name",
    "upstream",
    "provider",
    "model",
    "operation",
    "outcome",
)
"""What sums can be told apart by; ``model`` is the one that answered, else the one that was asked for."""
USUAL = ("team", "user", "agent", "model", "provider")
FAILED = frozenset(("upstream_error", "cut", "client_disconnected", "lost"))
READ = frozenset(
    ("input", "cached_input", "cached_audio", "cached_image", "cache_write", "cache_write_1h", "audio_in", "image_in")
)
READ_AGAIN = frozenset(("cached_input", "cached_audio", "cached_image"))
WRITTEN = frozenset(("output", "reasoning", "audio_out", "image_out"))
"""The units of ``Usage`` that are input, cached input and output tokens."""
MAX_REMEMBERED = 4096
"""Combinations of values whose text is kept: orjson and a dict cost 1 us a call, looking one up 0.2 (measured)."""
_BLANK: dict[str, Any] = {
    **dict.fromkeys(
        (*DIMENSIONS, "started_at", "model_requested", "model_served", "corrects", "told_by", "usage_source"), ""
    ),
    "unpriced": False,
    "usage": {},
    "corrected_usage": {},
    "cost_nanousd": 0,
}


@value
class Rollups:
    """How a store keeps sums: by these dimensions, by the hour for so many seconds, then by the day for so many."""

    by: tuple[str, ...] = USUAL
    hours_s: float = 14 * 86400.0
    days_s: float = 800 * 86400.0


def spend_of(record: Record | Mapping[str, Any], dimensions: Sequence[str]) -> Spend:
    """What a record adds to the sums of its hour. A correction adds the difference that it makes, which may be negative, and no
    call; neither is work a call that the answer of another one told of. Estimated and unpriced are calls as they were first booked.
    """
    told: Any = record if isinstance(record, Record) else SimpleNamespace(**(_BLANK | dict(record)))
    names = tuple(dimensions)
    values = _reader(names, "model_served" if told.model_served else "model_requested")(told)
    read, again, written = _tokens(told.usage)
    if told.corrected_usage:
        before = _tokens(told.corrected_usage)
        read, again, written = read - before[0], again - before[1], written - before[2]
    outcome, is_call = told.outcome, not (told.corrects or told.told_by)
    return Spend(
        told.started_at[:13],
        _dims(names, values),
        (
            1 if is_call else 0,
            1 if outcome in FAILED else 0,
            1 if outcome == "refused" else 0,
            read,
            again,
            written,
            told.cost_nanousd,
            1 if is_call and told.usage_source == "estimated" else 0,
            1 if is_call and told.unpriced else 0,
        ),
    )


def _tokens(usage: Mapping[str, int]) -> tuple[int, int, int]:
    """(input, cached input, output), as in ``Usage.input_tokens`` and ``output_tokens``."""
    read = again = written = 0
    for unit, count in usage.items():
        if unit in READ:
            read += count
            if unit in READ_AGAIN:
                again += count
        elif unit in WRITTEN:
            written += count
    return read, again, written


@lru_cache(maxsize=64)
def _reader(names: tuple[str, ...], model: str) -> Callable[[Any], tuple[str, ...]]:
    fields = [model if name == "model" else name for name in names]
    if len(fields) > 1:
        return attrgetter(*fields)
    return lambda told: tuple([getattr(told, field) for field in fields])


@lru_cache(maxsize=MAX_REMEMBERED)
def _dims(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return orjson.dumps(dict(zip(names, values, strict=True))).decode()


def beyond_records(
    sums: Iterable[Spend], records: Iterable[Mapping[str, Any]], period_of: Callable[[str], str]
) -> list[Spend]:
    """What sums have beyond the records behind them, by ``period_of`` an hour; nothing where they agree."""
    kept = [(period_of(each.hour), orjson.loads(each.dims), each.counts) for each in sums]
    names: dict[str, list[str]] = {}
    for period, dims, _ in kept:  # what all rows of a period are told apart by: that may have changed within it
        names[period] = [name for name in names.get(period, dims) if name in dims]
    beyond: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(SPEND_COUNTS))
    known: dict[tuple[str, str], int] = {}
    for period, dims, counts in kept:
        key = period, orjson.dumps({name: dims[name] for name in names[period]}).decode()
        known[key] = min(known.get(key, len(SPEND_COUNTS)), len(counts))
        _add(beyond[key], counts, 1)
    for record in records:
        period = period_of(record.get("started_at", "")[:13])
        each = spend_of(record, names.get(period, ()))
        _add(beyond[period, each.dims], each.counts, -1)
    for key, count in known.items():
        beyond[key][count:] = [0] * (len(SPEND_COUNTS) - count)
    return [Spend(period, dims, tuple(counts)) for (period, dims), counts in sorted(beyond.items()) if any(counts)]


def _add(counts: list[int], more: Sequence[int], times: int) -> None:
    for at, count in enumerate(more):
        counts[at] += times * count
