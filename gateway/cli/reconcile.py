"""``tollgate reconcile``: the provider's own figures beside ours."""

from __future__ import annotations

import json
import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from gateway.cli.config import config_option, open_archive, read_config
from gateway.errors import Failure
from gateway.reconcile import Export, Row, compare, read
from pricing.money import format_usd

FIGURES = (("calls", "calls"), ("input_tokens", "input"), ("output_tokens", "output"), ("cost_nanousd", "cost $"))


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@config_option
@click.option("--tolerance", default="1", metavar="PERCENT", help="Differences up to this share are none. Default: 1.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def reconcile(files: tuple[Path, ...], config: Path | None, tolerance: str, as_json: bool) -> None:
    """Hold a provider's usage and cost export against the books, by UTC day and model.

    FILES are answers of OpenAI's or Anthropic's usage and cost APIs (JSON, a page or a list of pages each), grouped by model.
    Exit status 1 when anything differs by more than the tolerance.
    """
    share = _share(tolerance)
    settings, _ = read_config(config)
    export = _read(files)
    first, last = export.days
    try:
        with open_archive(settings) as archive:
            after = (date.fromisoformat(last) + timedelta(days=1)).isoformat()
            corrected = {call: chain[-1]["call_id"] for call, chain in archive.corrections().items()}
            rows = compare(export, archive.records(first, after), corrected)
    except Failure as failure:
        raise click.ClickException(f"{settings.store.url}: {failure.message}") from None
    if as_json:
        click.echo(json.dumps([_document(row, share) for row in rows], indent=2))
    else:
        click.echo(_text(export, rows, share))
    sys.exit(1 if any(row.differs(share) for row in rows) else 0)


def _share(tolerance: str) -> Decimal:
    try:
        share = Decimal(tolerance.rstrip("%")) / 100
    except ArithmeticError:
        share = Decimal(-1)
    if not 0 <= share <= 1:
        raise click.BadParameter("a percentage from 0 to 100 is needed", param_hint="--tolerance")
    return share


def _read(files: tuple[Path, ...]) -> Export:
    documents = []
    for path in files:
        try:
            documents.append(json.loads(path.read_bytes(), parse_float=Decimal))
        except ValueError:
            raise click.ClickException(f"{path}: is no JSON") from None
    try:
        return read(documents)
    except ValueError as error:
        raise click.ClickException(f"{', '.join(map(str, files))}: {error}") from None


def _document(row: Row, share: Decimal) -> dict[str, Any]:
    sides = {
        side: {name: getattr(sums, name) for name, _ in FIGURES}
        for side, sums in (("theirs", row.theirs), ("ours", row.ours))
    }
    return {"day": row.day, "model": row.model, **sides, "differs": row.differs(share)}


def _text(export: Export, rows: list[Row], share: Decimal) -> str:
    """Theirs and ours side by side, only what the export tells; a star where they differ."""
    told = [(name, label) for name, label in FIGURES if any(getattr(row.theirs, name) is not None for row in rows)]
    head = ["day", "model", *(f"{label} {side}" for _, label in told for side in (export.provider, "ours")), ""]
    body = []
    for row in rows:
        differs = row.differs(share)
        cells = [_cell(name, getattr(sums, name)) for name, _ in told for sums in (row.theirs, row.ours)]
        marks = ", ".join(label.removesuffix(" $") for name, label in told if name in differs)
        body.append([row.day, row.model or "(all)", *cells, f"* {marks}" if marks else ""])
    width = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(size) if at < 2 else cell.rjust(size) for at, (cell, size) in enumerate(zip(line, width, strict=True))).rstrip()
        for line in (head, *body)
    ]  # fmt: skip
    wrong = sum(bool(row.differs(share)) for row in rows)
    percent = f"{share * 100:f}".rstrip("0").rstrip(".") if share % 1 else f"{share * 100:.0f}"
    verdict = f"{wrong} of {len(rows)} rows differ by more than {percent} %."
    return "\n".join([*lines, "", verdict if wrong else "Both sides agree."])


def _cell(name: str, value: int | None) -> str:
    if value is None:
        return "-"
    return format_usd(value) if name == "cost_nanousd" else f"{value:,}"
