"""``tollgate price``: what one usage costs, line by line, with the rates' source and the version of the price book."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from gateway.cli.config import config_option, open_archive, read_config
from gateway.errors import Failure
from gateway.loading import load_book
from pricing.book import Book
from pricing.money import Cost, format_usd
from pricing.price import Line, Tariff, bill
from pricing.price import price as price_usage
from pricing.usage import UNITS, Usage, usage_of

MAKERS = ("openai", "anthropic", "google")
"""Whose price is meant first where nobody is named and several sell a model."""

UNIT_HELP = f"Any other unit: {', '.join(name for name in UNITS if name not in ('input', 'output', 'searches'))}."
PER = {"searches": (1, "1"), "images": (1, "1"), "requests": (1, "1"), "seconds": (1, "1 s")}
"""How rates are shown: for how many of a unit. Others for a million."""


@click.command()
@click.argument("model", required=False)
@click.option("--call", "call_id", default="", metavar="ID", help="Explain what this recorded call cost instead.")
@config_option
@click.option("--input", "input_", type=click.IntRange(0), default=0, metavar="N", help="Input tokens, all of them.")
@click.option("--cached", type=click.IntRange(0), default=0, metavar="N", help="How many of them came from a cache.")
@click.option("--cache-write", type=click.IntRange(0), default=0, metavar="N", help="How many were written to one.")
@click.option("--output", type=click.IntRange(0), default=0, metavar="N", help="Output tokens, reasoning included.")
@click.option("--searches", type=click.IntRange(0), default=0, metavar="N", help="Web searches.")
@click.option("--unit", "units", type=(str, click.IntRange(0)), multiple=True, metavar="NAME N", help=UNIT_HELP)
@click.option("--provider", default="", help="Who bills. Default: whoever makes or sells the model.")
@click.option(
    "--at", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"]), metavar="TIME", help="Of the call, UTC. Default: now."
)
@click.option("--tier", default="", help="Service tier, and region: batch, flex, priority, ...; standard@us.")
@click.option(
    "--overrides", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Price rows that go first."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def price(
    model: str | None, call_id: str, config: Path | None, provider: str, at: datetime | None, tier: str,
    overrides: Path | None, as_json: bool, units: Sequence[tuple[str, int]], **counts: int,
) -> None:  # fmt: skip
    """Price one usage of MODEL and show how, or explain the price of a recorded call (--call, with the --config of its gateway).

    Exit status 1 when the price book does not know the model, or the store does not know the call.
    """
    if call_id:
        _explain(call_id, config, as_json)
        return
    if model is None:
        raise click.UsageError("a MODEL is needed, or --call ID")
    usage = replace(_usage(**counts), **_units(units))
    book = _book(overrides)
    moment = at.replace(tzinfo=UTC) if at else datetime.now(UTC)
    sellers = _sellers(book, model, provider, int(moment.timestamp()))
    if not sellers:
        _unknown(book, model, provider, moment, as_json)
        sys.exit(1)
    seller, tariff = sellers[0]
    cost, lines = price_usage(usage, tariff, tier), bill(usage, tariff, tier)
    if as_json:
        click.echo(json.dumps(_document(model, seller, moment, tariff, cost, lines), indent=2))
        return
    click.echo(f"{model}: ${format_usd(cost.nanousd)} at {seller} on {moment:%Y-%m-%d}\n")
    click.echo(_table(lines, cost))
    click.echo(_notes(tariff, cost, [name for name, _ in sellers[1:]]))


def _explain(call_id: str, config: Path | None, as_json: bool) -> None:
    """A record's usage, line by line, with the book that was in force."""
    settings, _ = read_config(config)
    try:
        with open_archive(settings) as archive:
            record = archive.record(call_id)
            packed = archive.book(str(record["pricebook"])) if record is not None else None
    except Failure as failure:
        raise click.ClickException(f"{settings.store.url}: {failure.message}") from None
    if record is None:
        raise click.ClickException(f"The store has no call {call_id}.")
    if not record["usage_source"] or packed is None:
        why = "Nobody metered it" if not record["usage_source"] else "Its price book was not kept"
        raise click.ClickException(f"{why}: ${format_usd(record['cost_nanousd'])} ({record['outcome']}).")
    book, moment = Book.unpack(packed), datetime.fromisoformat(record["started_at"])
    asked = record.get("priced_as") or record["model_requested"]
    usage = usage_of(record["usage"])
    tariff = book.charge(record["provider"], record["model_served"], asked, int(moment.timestamp()))
    how = (record["service_tier"], record.get("largest_input", 0))
    cost, lines = price_usage(usage, tariff, *how), bill(usage, tariff, *how)
    if as_json:
        document = _document(asked, record["provider"], moment, tariff, cost, lines)
        click.echo(json.dumps(document | {"call": record}, indent=2))
        return
    recorded = format_usd(record["cost_nanousd"])
    click.echo(
        f"{call_id}: ${recorded} for {record['model_served'] or asked} at {record['provider']} on {moment:%Y-%m-%d %H:%M}\n"
    )
    click.echo(_table(lines, cost))
    click.echo(_notes(tariff, cost, ()))
    click.echo(
        f"usage   {record['usage_source']} ({record['usage_method']})"
        + (", no price: estimated" if cost.unpriced else "")
    )
    if record["price_rows"] != list(cost.rows):
        click.echo(f"note    charged by {', '.join(record['price_rows'])}, not by this table")
    if record.get("corrects"):
        click.echo(f"note    corrects {record['corrects']}, which had cost ${format_usd(record['corrected_nanousd'])}")


def _usage(input_: int, cached: int, cache_write: int, output: int, searches: int) -> Usage:
    """Fields that do not overlap, from counts that do."""
    fresh = input_ - cached - cache_write
    if fresh < 0:
        raise click.UsageError("--cached and --cache-write are parts of --input and cannot be more")
    return Usage(input=fresh, cached_input=cached, cache_write=cache_write, output=output, searches=searches)


def _units(units: Sequence[tuple[str, int]]) -> dict[str, int]:
    for name, _ in units:
        if name not in UNITS:
            near = difflib.get_close_matches(name, UNITS, n=1)
            raise click.UsageError(f"there is no unit {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return dict(units)


def _book(overrides: Path | None) -> Book:
    try:
        return load_book(str(overrides or ""))
    except ValueError as problems:
        click.echo(f"{overrides}:\n{problems}", err=True)
        sys.exit(2)


def _sellers(book: Book, model: str, provider: str, at: int) -> list[tuple[str, Tariff]]:
    """(provider, tariff) of the one that was named, or of everybody who has the model, makers first."""
    names = [provider] if provider else [*MAKERS, *(name for name in book.providers if name not in MAKERS)]
    found = ((name, book.tariff(name, model, at)) for name in names)
    return [(name, tariff) for name, tariff in found if tariff is not None]


def _unknown(book: Book, model: str, provider: str, moment: datetime, as_json: bool) -> None:
    near = book.near(model, provider)
    if as_json:
        click.echo(json.dumps({"model": model, "provider": provider, "error": "no price", "near": near}, indent=2))
        return
    where = f" at {provider}" if provider else ""
    click.echo(f"The price book has no price for {model!r}{where} on {moment:%Y-%m-%d}.", err=True)
    if near:
        click.echo(f"Names that look like it: {', '.join(near)}", err=True)


# -- shown ----------------------------------------------------------------------------------------------------------------


def _dollars(femto: int) -> str:
    """Femto-dollars as dollars, exactly, at least two places."""
    whole, part = divmod(femto, 10**15)
    return f"{whole}.{f'{part:015d}'.rstrip('0'):0<2}"


def _rate(line: Line) -> tuple[str, str]:
    """(dollars, for how much)."""
    number, name = PER.get(line.unit, (10**6, "1M"))
    return _dollars(line.rate_femto * number), name


def _table(lines: Sequence[Line], cost: Cost) -> str:
    """Columns that line up, amounts at the decimal point."""
    head = ("unit", "count", "$ per", "", "$")
    body = [(line.unit, f"{line.count:,}", *_rate(line), _dollars(line.femto)) for line in lines]
    foot = ("total", "", "", "", format_usd(cost.nanousd))
    places = max(len(row[4].partition(".")[2]) for row in [*body, foot])
    amounts = [row[4] + " " * (places - len(row[4].partition(".")[2])) for row in [*body, foot]]
    rows = [(*row[:4], amount) for row, amount in zip([*body, foot], amounts, strict=True)]
    width = [max(len(row[column]) for row in [head, *rows]) for column in range(5)]
    text = [
        f"  {row[0]:<{width[0]}}  {row[1]:>{width[1]}}  {row[2]:>{width[2]}} {row[3]:<{width[3]}}  {row[4]:>{width[4]}}".rstrip()
        for row in [head, *rows]
    ]
    rule = "  " + "-" * (sum(width) + 7)
    return "\n".join([text[0], rule, *text[1:-1], *([rule] if body else []), text[-1]])


def _notes(tariff: Tariff, cost: Cost, others: Sequence[str]) -> str:
    """Where the rates come from, and what the marks behind a row mean."""
    lines = ["", f"row     {', '.join(cost.rows)}", f"source  {tariff.source or 'not named'}"]
    lines[-1] += f", seen {tariff.source_date}" if tariff.source_date else ""
    lines.append(f"book    {cost.book}")
    marks = cost.rows[0].split("#")[1:]
    if "unknown-tier" in marks:
        lines.append("note    the row has no rates for this service tier; these are the standard ones")
    if "long" in marks:
        lines.append("note    long context: its rates hold for the whole call")
    if others:
        lines.append(f"note    also sold by {', '.join(others)}; --provider chooses")
    return "\n".join(lines)


def _document(
    model: str, provider: str, moment: datetime, tariff: Tariff, cost: Cost, lines: Sequence[Line]
) -> dict[str, Any]:
    """The same for a script. Dollars are decimal strings; ``per`` says for how many of the unit a rate is."""
    shown = [
        {"unit": line.unit, "count": line.count, "rate_usd": rate, "per": per, "usd": _dollars(line.femto)}
        for line, (rate, per) in ((line, _rate(line)) for line in lines)
    ]
    return {
        "model": model,
        "provider": provider,
        "at": moment.isoformat(timespec="seconds"),
        "cost_usd": format_usd(cost.nanousd),
        "cost_nanousd": cost.nanousd,
        "lines": shown,
        "rows": cost.rows,
        "source": tariff.source,
        "source_date": tariff.source_date,
        "pricebook": cost.book,
    }
