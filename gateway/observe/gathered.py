"""The metrics of several processes as one: counts are added up, of dead processes too; gauges by the rule of each (``names``).

Each process leaves what it has counted in a file of a folder that they share: whenever somebody scrapes, and at its end. So what
was told once is never taken back, whatever dies. What a killed process counted after the last scrape is lost here (not in the
books). Files of processes that are gone are added up into one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from gateway.observe.names import LEAST, OVER_WORKERS, SUM
from gateway.observe.series import Exemplar, Family, Histogram, Number

COUNTS = ".counts"
GONE = "gone"
SLICE_SERIES = 64
Families = Iterable[Family[Number] | Family[Histogram]]


async def leave(families: Families, folder: Path, name: str, first: Any = None) -> None:
    """Write everything down, in place of what was written before. Calls go on in between. OSError when the disk does not take it."""
    lines = [orjson.dumps(first)]
    for line in _lines(families):
        lines.append(line)
        await asyncio.sleep(0)
    await asyncio.to_thread(_replace, folder / f"{name}{COUNTS}", b"\n".join(lines))


async def gathered(
    templates: Families, folder: Path, fresh: Collection[str], own: str
) -> list[Family[Number] | Family[Histogram]]:
    """The families of ``templates`` over all processes that have left something. ``fresh`` are those that have left it just now: only
    their gauges count, and of what all have in common that of ``own``.
    """
    found = {family.name: family.like() for family in templates}
    gone = await _first(folder / f"{GONE}{COUNTS}")
    for name in await asyncio.to_thread(_names, folder):
        if name in (gone or ()):
            continue  # added up already
        async for family, kind, rows in _read(folder / f"{name}{COUNTS}"):
            into = found.get(family)
            if into is not None:
                is_own = OVER_WORKERS.get(family) is not None or name == own
                if kind != "gauge" or (name in fresh and is_own):
                    _add(into, rows)
    return list(found.values())


async def bury(templates: Families, folder: Path, present: Collection[str]) -> None:
    """Add up what processes have left that are not there any more, so that files do not become ever more."""
    names = [name for name in await asyncio.to_thread(_names, folder) if name not in (GONE, *present)]
    if not names:
        return
    before = set(await _first(folder / f"{GONE}{COUNTS}") or ()) & set(names)  # whose files were not removed in time
    found = {family.name: family.like() for family in templates if family.kind != "gauge"}
    for name in [GONE, *(name for name in names if name not in before)]:
        async for family, _, rows in _read(folder / f"{name}{COUNTS}"):
            if family in found:
                _add(found[family], rows)
    await leave(found.values(), folder, GONE, names)
    await asyncio.to_thread(_remove, [folder / f"{name}{COUNTS}" for name in names])


def _lines(families: Families) -> Iterator[bytes]:
    for family in families:
        rows: list[Any] = []
        for values, series in family:
            if isinstance(series, Number):
                rows.append((values, series.value, _plain(series.exemplar)))
            else:
                exemplars = [(place, _plain(each)) for place, each in (series.exemplars or {}).items()]
                rows.append((values, series.counts, series.total, exemplars))
            if len(rows) >= SLICE_SERIES:
                yield orjson.dumps((family.name, family.kind, rows))
                rows = []
        if rows:
            yield orjson.dumps((family.name, family.kind, rows))


async def _read(path: Path) -> AsyncIterator[tuple[str, str, list[Any]]]:
    """(family, kind, rows), a slice at a time. Nothing where there is no such file."""
    try:
        text = await asyncio.to_thread(path.read_bytes)
    except FileNotFoundError:
        return
    for line in text.split(b"\n")[1:]:
        family, kind, rows = orjson.loads(line)
        yield family, kind, rows
        await asyncio.sleep(0)


async def _first(path: Path) -> Any:
    try:
        text = await asyncio.to_thread(path.read_bytes)
    except FileNotFoundError:
        return None
    return orjson.loads(text.partition(b"\n")[0])


def _add(family: Family[Number] | Family[Histogram], rows: list[Any]) -> None:
    for values, *told in rows:
        is_new = tuple(values) not in family
        series = family.labels(*values)
        if isinstance(series, Number):
            series.value = told[0] if is_new else _both(family, series.value, told[0])
            series.exemplar = _newer(series.exemplar, told[1])
            continue
        counts, total, exemplars = told
        series.counts = [one + other for one, other in zip(series.counts, counts, strict=True)]
        series.total += total
        for place, exemplar in exemplars:
            series.exemplars = series.exemplars or {}
            newest = _newer(series.exemplars.get(place), exemplar)
            if newest is not None:
                series.exemplars[place] = newest


def _both(family: Family[Any], one: float, other: float) -> float:
    rule = OVER_WORKERS.get(family.name, SUM)
    return one + other if rule == SUM else min(one, other) if rule == LEAST else max(one, other)


def _plain(exemplar: Exemplar | None) -> tuple[str, float, float] | None:
    return (exemplar.trace_id, exemplar.value, exemplar.at) if exemplar is not None else None


def _newer(known: Exemplar | None, told: list[Any] | None) -> Exemplar | None:
    if told is None:
        return known
    exemplar = Exemplar(*told)
    return exemplar if known is None or exemplar.at > known.at else known


def _names(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(COUNTS) for path in folder.glob(f"*{COUNTS}"))


def _replace(path: Path, text: bytes) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(text)
    other.replace(path)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
