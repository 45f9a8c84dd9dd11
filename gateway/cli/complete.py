"""What the shell is told where TAB is pressed: names of models and providers, dimensions of spend, calls.

Each is asked in a process of its own that prints nothing else; one that cannot be answered says nothing.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gateway.settings import Settings

MOST_CALLS = 20


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Models with a price, of the provider that is named, if one is."""
    from pricing.book import Book

    names = Book.load().names(ctx.params.get("provider") or "")
    return [name for name in names if name.startswith(incomplete.lower())]


def providers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Those who bill."""
    from pricing.book import Book

    return [name for name in Book.load().providers if name.startswith(incomplete)]


def dimensions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """What spend is told apart by: the last of a list with commas, none twice."""
    settings = _settings(ctx.params)
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    known = settings.spend.by if settings is not None else ()
    return [f"{before}{comma}{name}" for name in known if name.startswith(last) and name not in taken]


def calls(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The newest calls that begin so."""
    from gateway.cli.config import open_archive

    settings = _settings(ctx.params)
    if settings is None:
        return []
    with contextlib.suppress(Exception), open_archive(settings) as archive:
        found = (record["call_id"] for record in archive.newest())
        return [
            call_id
            for _, call_id in zip(
                range(MOST_CALLS), filter(lambda each: each.startswith(incomplete), found), strict=False
            )
        ]
    return []


def _settings(given: dict[str, Any]) -> Settings | None:
    from gateway.cli.config import find
    from gateway.loading import Problems, load

    try:
        option = given.get("config")
        return load(find(Path(option) if option else None), os.environ)
    except Problems:
        return None
