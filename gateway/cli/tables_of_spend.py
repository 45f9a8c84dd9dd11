"""A report of spend as a table, as CSV, as FOCUS; on standard output or into a file."""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import click

from gateway.cli.output import Column, print_json, styled, table
from gateway.comparison import Change, Comparison
from gateway.focus import COLUMNS, Charges
from gateway.report import COST, NAMES, Question, Tally
from pricing.money import format_usd

NOBODY, UNKNOWN = "-", "?"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for a formula at the beginning of a cell (OWASP, CSV injection)."""
FIGURES = {"calls": 0, "failed": 4, "refused": 3, "input": 1, "cached": 5, "output": 1}
"""Counts of a table, and in which order they are left out where there is no room."""


@contextmanager
def into(path: Path | None) -> Iterator[None]:
    """What is printed goes into a file, which is there whole or not at all. None: it is printed."""
    if path is None:
        yield
        return
    text = io.StringIO()
    with redirect_stdout(text):
        yield
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# -- tables ---------------------------------------------------------------------------------------------------------------


def report(asked: Question, tally: Tally, form: str, span: tuple[str, str] | None) -> None:
    """The rows of a report; ``span``: of which days there is spend at all."""
    rows, total = tally.rows(), tally.total()
    if form == "csv":
        lines = [[row.period, *map(_text, row.values), *row.counts, format_usd(row.counts[COST])] for row in rows]
        _csv(["period", *asked.by, *NAMES, "cost_usd"], lines)
        return
    if not rows:
        click.echo(_nothing(asked, span))
        return
    columns = [Column(asked.period, whole=True), *map(Column, asked.by)]
    columns += [Column(name, "right", spare=spare) for name, spare in FIGURES.items()]
    columns += [Column("cost $", "point"), Column("share", "right", spare=2)]
    lines = [[row.period, *map(_shown, row.values), *_figures(row.counts, total[COST])] for row in rows]
    table(columns, lines, ["all", *[""] * len(asked.by), *_figures(total, total[COST])])


def comparison(compared: Comparison, form: str) -> None:
    """Both spans and the change between them."""
    asked, rows = compared.asked, compared.rows()
    if form == "json":
        print_json(compared.document())
        return
    if form == "csv":
        head = [
            *asked.by,
            *NAMES,
            "cost_usd",
            *(f"previous_{name}" for name in NAMES),
            "previous_cost_usd",
            "change_usd",
        ]
        _csv(
            head,
            [
                [
                    *map(_text, row.values), *row.now, format_usd(row.now[COST]), *row.before, format_usd(row.before[COST]),
                    format_usd(row.cost_nanousd),
                ]
                for row in rows
            ],
        )  # fmt: skip
        return
    columns = [*map(Column, asked.by or ("",))]
    columns += [
        Column("calls", "right"),
        Column("before", "right"),
        Column("cost $", "point"),
        Column("before $", "point"),
    ]
    columns += [Column("change $", "point"), Column("change", "right", spare=1)]
    lines = [[*(map(_shown, row.values) if asked.by else [""]), *_changes(row)] for row in rows]
    if lines:
        table(columns, lines, ["all", *[""] * (len(asked.by) - 1), *_changes(compared.total())])
    until = compared.until.strftime("%Y-%m-%d %H:%M").removesuffix(" 00:00")
    click.echo(
        ("\n" if lines else "Nothing was spent. ")
        + styled(f"{asked.since} to before {asked.until}; before: {compared.since} to before {until}, UTC", "dim")
    )


def focus(charges: Charges) -> None:
    """CSV with the columns of FOCUS. Null is an empty cell."""
    names = ("ResourceId", "ResourceName", "SkuId", "SubAccountId", "SubAccountName", "x_Model", "ChargeDescription")
    rows = charges.rows()
    for row in rows:
        row.update({name: _text(row[name]) for name in names if row[name]})
    _csv(list(COLUMNS), [[row[name] for name in COLUMNS] for row in rows])


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


# -- cells ----------------------------------------------------------------------------------------------------------------


def _shown(name: str | None) -> str:
    return UNKNOWN if name is None else name or NOBODY


def _figures(counts: Sequence[int], whole_nanousd: int) -> list[str]:
    cells = [f"{count:,}" for count in counts[:COST]]
    return [*cells, format_usd(counts[COST]), _share(counts[COST], whole_nanousd)]


def _changes(row: Change) -> list[str]:
    more = row.cost_nanousd
    return [
        f"{row.now[0]:,}",
        f"{row.before[0]:,}",
        format_usd(row.now[COST]),
        format_usd(row.before[COST]),
        f"{'+' if more > 0 else ''}{format_usd(more)}",
        _percent(row.permille),
    ]


def _percent(permille: int | None) -> str:
    if permille is None:
        return "-"
    return f"{'-' if permille < 0 else '+'}{abs(permille) // 10:,}.{abs(permille) % 10} %"


def _share(nanousd: int, whole_nanousd: int) -> str:
    """In percent, rounded half up to a tenth; of nothing nothing is a share."""
    if whole_nanousd <= 0:
        return "-"
    tenths = (2000 * nanousd + whole_nanousd) // (2 * whole_nanousd)
    return f"{'-' if tenths < 0 else ''}{abs(tenths) // 10}.{abs(tenths) % 10} %"


# -- CSV ------------------------------------------------------------------------------------------------------------------


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """RFC 4180. Dollars and counts are numbers; whatever else a spreadsheet could take for a formula is made a text."""
    writer = csv.writer(sys.stdout)
    writer.writerow(head)
    writer.writerows(rows)


def _text(cell: str | None) -> str:
    if cell is None:
        return UNKNOWN
    return f"'{cell}" if cell.startswith(FORMULA) else cell
