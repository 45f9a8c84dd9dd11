"""``tollgate price``: what one usage costs, line by line, with the rates' source and the version of the price book."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.complete import models, providers
from gateway.cli.config import config_option, read_config, reading
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, json_option, meant, option
from gateway.cli.output import NO, WRONG_USE, Column, clean, complain, fail, print_json, styled, table
from pricing.usage import UNITS, Usage, usage_of

if TYPE_CHECKING:
    from pricing.book import Book
    from pricing.money import Cost
    from pricing.price import Line, Tariff

MAKERS = ("openai", "anthropic", "google")
"""Whose price is meant first where nobody is named and several sell a model."""

UNIT_HELP = f"Any other unit: {', '.join(name for name in UNITS if name not in ('input', 'output', 'searches'))}."
PER_ONE = {"seconds": "1 s"}
"""How one of a unit is written where that is more than a figure."""
USED, PRICED = "What was used", "Which price"


@click.command(
    cls=Command,
    examples=(
        ("What a call costs, and by which rates.", "tollgate price gpt-4o-mini --input 1000 --cached 400 --output 200"),
        (
            "At another provider, as a batch, on another day.",
            "tollgate price claude-opus-4-5 --provider google --tier batch --at 2026-01-31",
        ),
        ("Billed by something else than tokens.", "tollgate price whisper-1 --unit seconds 90"),
        ("Why a recorded call cost what it did.", "tollgate price --call 01JD... --config tollgate.yaml"),
    ),
    exits={
        1: "The price book does not know the model, or the store not the call.",
        3: "--call: the store cannot be read.",
    },
    variables=CONFIG_VARIABLES,
    files={**CONFIG_FILES, "--overrides": "Price rows that go before the book: docs/prices.md."},
)
@click.argument("model", required=False, shell_complete=models)
@option(
    "--input", "input_", type=click.IntRange(0), default=0, metavar="N", help="Input tokens, all of them.", section=USED
)
@option(
    "--cached", type=click.IntRange(0), default=0, metavar="N", help="How many of them came from a cache.", section=USED
)
@option(
    "--cache-write", type=click.IntRange(0), default=0, metavar="N", help="How many were written to one.", section=USED
)
@option(
    "--output", type=click.IntRange(0), default=0, metavar="N", help="Output tokens, reasoning included.", section=USED
)
@option("--searches", type=click.IntRange(0), default=0, metavar="N", help="Web searches.", section=USED)
@option("--unit", "units", type=(str, click.IntRange(0)), multiple=True, metavar="NAME N", help=UNIT_HELP, section=USED)
@option(
    "--call", "call_id", default="", metavar="ID", help="Explain what this recorded call cost instead.", section=USED
)
@option(
    "--provider",
    default="",
    help="Who bills. Default: whoever makes or sells the model.",
    section=PRICED,
    shell_complete=providers,
)
@option(
    "--at",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M"]),
    metavar="TIME",
    help="Of the call, UTC. Default: now.",
    section=PRICED,
)
@option("--tier", default="", help="Service tier, and region: batch, flex, priority, ...; standard@us.", section=PRICED)
@option(
    "--overrides",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Price rows that go first.",
    section=PRICED,
)
@config_option
@json_option
def price(
    model: str | None, call_id: str, config: Path | None, provider: str, at: datetime | None, tier: str,
    overrides: Path | None, as_json: bool, units: Sequence[tuple[str, int]], **counts: int,
) -> None:  # fmt: skip
    """Price one usage of MODEL and show how, or explain the price of a recorded call (--call, with the --config of its gateway)."""
    from pricing.money import format_usd
    from pricing.price import bill
    from pricing.price import price as price_usage

    if call_id:
        _explain(call_id, config, as_json)
        return
    if model is None:
        raise click.UsageError("a MODEL is needed, or --call ID.")
    usage = replace(_usage(**counts), **_units(units))
    book = _book(overrides)
    moment = at.replace(tzinfo=UTC) if at else datetime.now(UTC)
    sellers = _sellers(book, model, provider, int(moment.timestamp()))
    if not sellers:
        _unknown(book, model, provider, moment, as_json)
        sys.exit(NO)
    seller, tariff = sellers[0]
    cost, lines = price_usage(usage, tariff, tier), bill(usage, tariff, tier)
    if as_json:
        print_json(_document(model, seller, moment, tariff, cost, lines))
        return
    click.echo(f"{clean(model)}: {_money(cost.nanousd)} at {seller} on {moment:%Y-%m-%d}\n")
    show_lines(lines, format_usd(cost.nanousd))
    click.echo(_notes(tariff, cost, [name for name, _ in sellers[1:]]))


@dataclass(frozen=True, slots=True)
class Explained:
    """A recorded cost, worked out again."""

    asked: str
    moment: datetime
    tariff: Tariff
    cost: Cost
    lines: Sequence[Line]


def _explain(call_id: str, config: Path | None, as_json: bool) -> None:
    """A record's usage, line by line, with the book that was in force."""
    from pricing.money import format_usd

    settings, _ = read_config(config)
    with reading(settings) as archive:
        record = archive.record(call_id)
        packed = archive.book(str(record["pricebook"])) if record is not None else None
    if record is None:
        fail(f"the store has no call {call_id}.", "tollgate calls lists the newest ones.", NO)
    if not record["usage_source"] or packed is None:
        why = "nobody metered it" if not record["usage_source"] else "its price book was not kept"
        fail(
            f"{why}: ${format_usd(record['cost_nanousd'])} ({record['outcome']}).",
            f"All of it: tollgate calls {call_id}",
            NO,
        )
    explained = explain(record, packed)
    asked, cost, lines = explained.asked, explained.cost, explained.lines
    if as_json:
        document = _document(asked, record["provider"], explained.moment, explained.tariff, cost, lines)
        print_json(document | {"call": record})
        return
    served = clean(record["model_served"] or asked)
    click.echo(
        f"{clean(call_id)}: {_money(record['cost_nanousd'])} for {served} at {record['provider']}"
        f" on {explained.moment:%Y-%m-%d %H:%M}\n"
    )
    show_lines(lines, format_usd(cost.nanousd))
    click.echo(_notes(explained.tariff, cost, ()))
    click.echo(_of_the_record(record, cost))


def explain(record: dict[str, Any], packed: bytes) -> Explained:
    """What a record was charged by: its usage at the rates of the book of its day, which comes packed."""
    from gateway.metering.charge import tariff_again
    from pricing.book import Book
    from pricing.price import bill
    from pricing.price import price as price_usage

    moment = datetime.fromisoformat(record["started_at"])
    asked = record.get("priced_as") or record["model_requested"]
    usage = usage_of(record["usage"])
    tariff = tariff_again(Book.unpack(packed), record)
    how = (record["service_tier"], record.get("largest_input", 0))
    return Explained(asked, moment, tariff, price_usage(usage, tariff, *how), bill(usage, tariff, *how))


def _of_the_record(record: dict[str, Any], cost: Cost) -> str:
    """Who counted, and what the table does not say."""
    from pricing.money import format_usd

    by = f"{record['usage_source']} ({record['usage_method']})"
    notes = [f"usage   {by}{', no price: estimated' if cost.unpriced else ''}"]
    if record["price_rows"] != list(cost.rows):
        notes.append(f"note    charged by {', '.join(record['price_rows'])}, not by this table")
    if record.get("corrects"):
        notes.append(
            f"note    corrects {record['corrects']}, which had cost ${format_usd(record['corrected_nanousd'])}"
        )
    return "\n".join(clean(note) for note in notes)


def _usage(input_: int, cached: int, cache_write: int, output: int, searches: int) -> Usage:
    """Fields that do not overlap, from counts that do."""
    fresh = input_ - cached - cache_write
    if fresh < 0:
        raise click.UsageError("--cached and --cache-write are parts of --input and cannot be more.")
    return Usage(input=fresh, cached_input=cached, cache_write=cache_write, output=output, searches=searches)


def _units(units: Sequence[tuple[str, int]]) -> dict[str, int]:
    for name, _ in units:
        if name not in UNITS:
            raise click.BadParameter(f"there is no unit {name!r}.{meant(name, UNITS)}", param_hint="--unit")
    return dict(units)


def _book(overrides: Path | None) -> Book:
    from gateway.loading import load_book

    try:
        return load_book(str(overrides or ""))
    except ValueError as problems:
        complain(f"{overrides}:\n{problems}", "The form of a row: docs/prices.md.")
        sys.exit(WRONG_USE)


def _sellers(book: Book, model: str, provider: str, at: int) -> list[tuple[str, Tariff]]:
    """(provider, tariff) of the one that was named, or of everybody who has the model, makers first."""
    names = [provider] if provider else [*MAKERS, *(name for name in book.providers if name not in MAKERS)]
    found = ((name, book.tariff(name, model, at)) for name in names)
    return [(name, tariff) for name, tariff in found if tariff is not None]


def _unknown(book: Book, model: str, provider: str, moment: datetime, as_json: bool) -> None:
    near = book.near(model, provider)
    if as_json:
        print_json({"model": model, "provider": provider, "error": "no price", "near": near})
        return
    where = f" at {provider}" if provider else ""
    complain(
        f"the price book has no price for {model!r}{where} on {moment:%Y-%m-%d}.",
        f"Names that look like it: {', '.join(near)}" if near else "A price of your own: docs/prices.md.",
    )


# -- shown ----------------------------------------------------------------------------------------------------------------


def _money(nanousd: int) -> str:
    from pricing.money import format_usd

    return styled(f"${format_usd(nanousd)}", "bold")


def _figures(line: Line) -> tuple[str, str, str]:
    """(dollars, for how much of the unit, what it comes to)."""
    from pricing.money import format_femto

    per = "1M" if line.per > 1 else PER_ONE.get(line.unit, "1")
    return format_femto(line.rate_femto * line.per), per, format_femto(line.femto)


def show_lines(lines: Sequence[Line], total: str) -> None:
    """A bill as a table."""
    columns = (
        Column("unit", whole=True),
        Column("count", "right"),
        Column("$ per", "point"),
        Column("", whole=True),
        Column("$", "point"),
    )
    rows = [(line.unit, f"{line.count:,}", *_figures(line)) for line in lines]
    table(columns, rows, ("total", "", "", "", total))


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
    from pricing.money import format_usd

    shown = [
        {"unit": line.unit, "count": line.count, "rate_usd": rate, "per": per, "usd": amount}
        for line, (rate, per, amount) in ((line, _figures(line)) for line in lines)
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
