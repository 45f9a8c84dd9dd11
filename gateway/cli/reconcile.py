"""``tollgate reconcile``: the provider's own figures beside ours."""

from __future__ import annotations

import json
import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.config import config_option, read_config, reading
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, json_option, option
from gateway.cli.output import DONE, NO, Column, fail, print_json, progress, styled, table

if TYPE_CHECKING:
    from gateway.reconcile import Export, Row

FIGURES = (("calls", "calls"), ("input_tokens", "input"), ("output_tokens", "output"), ("cost_nanousd", "cost $"))


@click.command(
    cls=Command,
    examples=(
        ("OpenAI's usage and costs of some days.", "tollgate reconcile usage.json costs.json"),
        ("A tenth of a percent is a difference.", "tollgate reconcile usage.json --tolerance 0.1"),
    ),
    exits={1: "A day and model differ by more than the tolerance.", 3: "The store cannot be read."},
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@option(
    "--tolerance",
    default="1",
    metavar="PERCENT",
    help="Differences up to this share are none. Default: 1.",
    section="What counts",
)
@config_option
@json_option
def reconcile(files: tuple[Path, ...], config: Path | None, tolerance: str, as_json: bool) -> None:
    """Hold a provider's usage and cost export against the books, by UTC day and model.

    FILES are answers of OpenAI's or Anthropic's usage and cost APIs (JSON, a page or a list of pages each), grouped by model.
    """
    from gateway.reconcile import compare

    share = _share(tolerance)
    settings, _ = read_config(config)
    export = _read(files)
    first, last = export.days
    with reading(settings) as archive:
        after = (date.fromisoformat(last) + timedelta(days=1)).isoformat()
        corrected = {call: chain[-1]["call_id"] for call, chain in archive.corrections().items()}
        records = progress(archive.records(first, after), archive.count(first, after), "calls")
        rows = compare(export, records, corrected)
    if as_json:
        print_json([_document(row, share) for row in rows])
    else:
        _show(export, rows, share)
    sys.exit(NO if any(row.differs(share) for row in rows) else DONE)


def _share(tolerance: str) -> Decimal:
    try:
        share = Decimal(tolerance.rstrip("%")) / 100
    except ArithmeticError:
        share = Decimal(-1)
    if not 0 <= share <= 1:
        raise click.BadParameter("a percentage from 0 to 100 is needed.", param_hint="--tolerance")
    return share


def _read(files: tuple[Path, ...]) -> Export:
    from gateway.reconcile import read

    documents = []
    for path in files:
        try:
            documents.append(json.loads(path.read_bytes(), parse_float=Decimal))
        except ValueError:
            fail(f"{path}: is no JSON", "It must be an answer of the provider's usage or cost API, as it came.")
    try:
        return read(documents)
    except ValueError as error:
        fail(f"{', '.join(map(str, files))}: {error}")


def _document(row: Row, share: Decimal) -> dict[str, Any]:
    sides = {
        side: {name: getattr(sums, name) for name, _ in FIGURES}
        for side, sums in (("theirs", row.theirs), ("ours", row.ours))
    }
    return {"day": row.day, "model": row.model, **sides, "differs": row.differs(share)}


def _show(export: Export, rows: list[Row], share: Decimal) -> None:
    """Theirs and ours side by side, only what the export tells; a star where they differ."""
    told = [(name, label) for name, label in FIGURES if any(getattr(row.theirs, name) is not None for row in rows)]
    columns = [Column("day", whole=True), Column("model")]
    columns += [
        Column(f"{label} {side}", "point" if name == "cost_nanousd" else "right")
        for name, label in told
        for side in (export.provider, "ours")
    ]
    body = []
    for row in rows:
        differs = row.differs(share)
        cells = [_cell(name, getattr(sums, name)) for name, _ in told for sums in (row.theirs, row.ours)]
        marks = ", ".join(label.removesuffix(" $") for name, label in told if name in differs)
        body.append([row.day, row.model or "(all)", *cells, f"* {marks}" if marks else ""])
    table([*columns, Column("", whole=True)], body)
    wrong = sum(bool(row.differs(share)) for row in rows)
    percent = f"{share * 100:f}".rstrip("0").rstrip(".") if share % 1 else f"{share * 100:.0f}"
    verdict = f"{wrong} of {len(rows)} rows differ by more than {percent} %."
    click.echo("\n" + (styled(verdict, "red") if wrong else styled("Both sides agree.", "green")))


def _cell(name: str, value: int | None) -> str:
    from pricing.money import format_usd

    if value is None:
        return "-"
    return format_usd(value) if name == "cost_nanousd" else f"{value:,}"
