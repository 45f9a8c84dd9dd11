"""``tollgate report``: what was spent, by day, week or month, and by whom. Reads sums, never the records of calls."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from gateway.cli.config import config_option, open_archive, read_config
from gateway.errors import Failure, Kind
from gateway.report import COST, NAMES, PERIODS, Question, Row, Tally, document, question
from pricing.money import format_usd

WIDEST = 40
"""Characters of a name in a table: a model's name is whatever a caller sent."""
NOBODY, UNKNOWN = "-", "?"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for a formula at the beginning of a cell (OWASP, CSV injection)."""


@click.command()
@config_option
@click.option("--by", metavar="NAMES", help="What to tell apart: some of spend.by, with commas. Default: team.")
@click.option(
    "--period", type=click.Choice(PERIODS), default="day", help="UTC days, ISO weeks or months. Default: day."
)
@click.option("--since", default="", metavar="DATE", help="From this day on, UTC. Default: the last seven periods.")
@click.option("--until", default="", metavar="DATE", help="Before this day, UTC. Default: up to now.")
@click.option("--format", "form", type=click.Choice(("table", "json", "csv")), default="table", help="Default: table.")
def report(config: Path | None, by: str | None, period: str, since: str, until: str, form: str) -> None:
    """Show what was spent: dollars to the nano-dollar, tokens, calls.

    From sums that are kept beside the records and outlive them (retention.spend_days). Can be run while the gateway serves.
    """
    settings, _ = read_config(config)
    try:
        asked = question(by, period, since, until, settings.spend.by, datetime.now(UTC).date())
        with open_archive(settings) as archive:
            tally = Tally(asked)
            for day in asked.days():
                tally.add(archive.spend(*day))
            rows, span = tally.rows(), archive.spend_span()
    except Failure as failure:
        if failure.kind is Kind.MALFORMED_REQUEST:
            raise click.UsageError(failure.message) from None
        raise click.ClickException(f"{settings.store.url}: {failure.message}") from None
    if form == "json":
        click.echo(json.dumps(document(asked, tally), indent=2, ensure_ascii=False))
    elif form == "csv":
        click.echo(_csv(asked, rows), nl=False)
    else:
        click.echo(_table(asked, rows, tally.total()) if rows else _nothing(asked, span))


def _nothing(asked: Question, span: tuple[str, str] | None) -> str:
    """What to do next."""
    if span is None:
        return (
            "Nothing has been spent yet. Point an app's base URL at the gateway (tollgate serve) and make a call,"
            " or see one with pretend traffic: tollgate demo."
        )
    first, last = span[0][:10], span[1][:10]
    return (
        f"Nothing was spent from {asked.since} to before {asked.until}. There is spend from {first} to {last}:"
        f" tollgate report --since {first} shows it."
    )


def _table(asked: Question, rows: Sequence[Row], total: Sequence[int]) -> str:
    left = 1 + len(asked.by)
    head = [asked.period, *asked.by, "calls", "failed", "refused", "input", "cached", "output", "cost $", "share"]
    lines = [[row.period, *map(_shown, row.values), *_figures(row.counts, total[COST])] for row in rows]
    lines.append(["all", *[""] * len(asked.by), *_figures(total, total[COST])])
    width = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(size) if at < left else cell.rjust(size) for at, (cell, size) in enumerate(zip(line, width, strict=True))
        ).rstrip()
        for line in (head, *lines)
    )  # fmt: skip


def _shown(name: str | None) -> str:
    """A name in a terminal: a line, without anything that would steer it."""
    if name is None:
        return UNKNOWN
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in name) or NOBODY
    return clean if len(clean) <= WIDEST else clean[: WIDEST - 1] + "\u2026"


def _figures(counts: Sequence[int], whole_nanousd: int) -> list[str]:
    cells = [f"{count:,}" for count in counts[:COST]]
    return [*cells, format_usd(counts[COST]), _share(counts[COST], whole_nanousd)]


def _share(nanousd: int, whole_nanousd: int) -> str:
    """In percent, rounded half up to a tenth; of nothing nothing is a share."""
    if whole_nanousd <= 0:
        return "-"
    tenths = (2000 * nanousd + whole_nanousd) // (2 * whole_nanousd)
    return f"{'-' if tenths < 0 else ''}{abs(tenths) // 10}.{abs(tenths) % 10} %"


def _csv(asked: Question, rows: Sequence[Row]) -> str:
    """RFC 4180. Dollars and counts are numbers; whatever else a spreadsheet could take for a formula is made a text."""
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(["period", *asked.by, *NAMES, "cost_usd"])
    for row in rows:
        names = [_text(UNKNOWN if value is None else value) for value in row.values]
        writer.writerow([row.period, *names, *row.counts, format_usd(row.counts[COST])])
    return lines.getvalue()


def _text(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell
