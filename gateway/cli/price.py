"""``tollgate price``: what one usage costs, line by line, with the rates, their source and the book's version."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click

from pricing.book import Book
from pricing.match import candidates
from pricing.money import format_usd
from pricing.price import Tariff
from pricing.price import price as price_usage
from pricing.usage import UNITS, Usage

PROVIDERS_BY_PREFIX = (("claude", "anthropic"), ("gemini", "google"))


@click.command()
@click.argument("model")
@click.option("--input", "input_", type=click.IntRange(0), default=0, help="Input tokens, cached ones included.")
@click.option("--cached", type=click.IntRange(0), default=0, help="How many of them were read from a cache.")
@click.option("--output", type=click.IntRange(0), default=0, help="Output tokens, reasoning included.")
@click.option("--provider", default="", help="Who bills; guessed from the model's name if left out.")
@click.option(
    "--at", type=click.DateTime(["%Y-%m-%d"]), default=None, help="Prices of this day (UTC) instead of today's."
)
@click.option("--tier", default="", help="Service tier: batch, flex, priority, ...")
@click.option("--overrides", type=click.Path(exists=True, path_type=Path), help="A file of price rows that go first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def price(
    model: str,
    input_: int,
    cached: int,
    output: int,
    provider: str,
    at: datetime | None,
    tier: str,
    overrides: Path | None,
    as_json: bool,
) -> None:
    """Price one usage of MODEL and show where the rates come from."""
    if cached > input_:
        raise click.UsageError("--cached is a part of --input and cannot be more")
    try:
        book = Book.load(overrides)
    except ValueError as error:
        raise click.ClickException(f"{overrides}: {error}") from None
    moment = int((at.replace(tzinfo=UTC) if at else datetime.now(UTC)).timestamp())
    provider = provider or _provider(model)
    tariff = book.tariff(provider, model, moment)
    if tariff is None:
        click.echo(f"{provider} has no price for {model!r} in book {book.version}.", err=True)
        near = book.near(model)
        if near:
            click.echo(f"Near: {', '.join(near)}", err=True)
        sys.exit(1)
    usage = Usage(input=input_ - cached, cached_input=cached, output=output)
    explained = _explain(usage, tariff, tier)
    click.echo(json.dumps(explained, indent=2) if as_json else _table(model, explained))


def _provider(model: str) -> str:
    name = next(iter(candidates(model)))[1]
    return next((owner for prefix, owner in PROVIDERS_BY_PREFIX if name.startswith(prefix)), "openai")


def _explain(usage: Usage, tariff: Tariff, tier: str) -> dict[str, object]:
    rates, _ = tariff.rates(usage.input_tokens, tier)
    cost = price_usage(usage, tariff, tier)
    lines = [
        {
            "unit": unit,
            "count": count,
            "usd_per_million": format(Decimal(rate) / 10**9, "f"),
            "usd": format((Decimal(count * rate) / 10**15).normalize(), "f"),
        }
        for unit, rate in zip(UNITS, rates.femto, strict=True)
        if (count := getattr(usage, unit))
    ]
    return {
        "cost_usd": format_usd(cost.nanousd),
        "cost_nanousd": cost.nanousd,
        "lines": lines,
        "rows": list(cost.rows),
        "source": tariff.source,
        "checked": tariff.checked,
        "pricebook": cost.book,
    }


def _table(model: str, explained: dict[str, object]) -> str:
    lines = explained["lines"]
    rows = [("", "tokens", "$ per million", "$")]
    if isinstance(lines, list):
        rows += [(each["unit"], f"{each['count']:,}", each["usd_per_million"], each["usd"]) for each in lines]
    rows.append(("total", "", "", str(explained["cost_usd"])))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    text = [f"{model}: ${explained['cost_usd']}", ""]
    text += [
        "  ".join([row[0].ljust(widths[0]), *(row[column].rjust(widths[column]) for column in (1, 2, 3))]).rstrip()
        for row in rows
    ]
    checked = f", checked {explained['checked']}" if explained["checked"] else ""
    marks = explained["rows"]
    shown = ", ".join(marks) if isinstance(marks, list) else ""
    return "\n".join(
        [*text, "", f"row     {shown}", f"source  {explained['source']}{checked}", f"book    {explained['pricebook']}"]
    )
