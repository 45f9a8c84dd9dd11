"""What commands print: tables, JSON, progress, and how they end. One form for all of them.

A table has colour and lines where a terminal is there, and is aligned text where not (a pipe, ``NO_COLOR``, ``TERM=dumb``). One that
is wider than the terminal has its names shortened, never its figures; one that cannot fit at all is shown row by row. What
callers sent never steers a terminal: each cell is cleaned, and none is markup. rich is imported by the first table that needs
it (25 ms and 3.4 MB on top of 30 ms, measured), by nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import click

T = TypeVar("T")

DONE, NO, WRONG_USE, UNREACHABLE, BUG, INTERRUPTED, NO_READER = 0, 1, 2, 3, 70, 130, 141
EXITS = {
    DONE: "Done.",
    NO: "The answer is no: something differs, is refused, is not there, or is not ready.",
    WRONG_USE: "Wrong use, or a wrong config: what was typed or written has to change.",
    UNREACHABLE: "The store or the gateway cannot be reached, or does not answer.",
    BUG: "A bug of Tollgate's own (sysexits.h: EX_SOFTWARE). TOLLGATE_TRACEBACK=1 shows where.",
    INTERRUPTED: "Interrupted by Ctrl-C (128 + SIGINT).",
    NO_READER: "Whoever read the output went away, as `head` does (128 + SIGPIPE).",
}
"""Every exit status there is, for all commands."""

WIDEST = 40
"""Characters of a name in a table that is read by no terminal: a model's name is whatever a caller sent."""
LEAST = 10
"""To so many a name is shortened before a table is shown row by row instead."""
GAP = "  "
SHOW_AFTER_S, REDRAW_S = 1.0, 0.1


@dataclass(frozen=True, slots=True)
class Column:
    """``align`` is left, right, or point (right, with the decimal points below each other). A column that is not ``whole`` may be
    shortened. ``styles`` paints cells that say just this: {"failed": "red"}. Where there is no room, ``spare`` columns are left out, the
    highest first, and the reader is told.
    """

    title: str
    align: str = "left"
    whole: bool = False
    styles: Mapping[str, str] = field(default_factory=dict)
    spare: int = 0

    @property
    def keeps(self) -> bool:
        """Whether all of a cell is shown, whatever the width: a figure that is cut is a wrong figure."""
        return self.whole or self.align != "left"


# -- cells ----------------------------------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """One line, without anything that would steer a terminal."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in text)


def width_of(text: str) -> int:
    """Cells of a terminal: wide letters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def shorten(text: str, room: int) -> str:
    """At most so many cells, an ellipsis where something is missing."""
    if width_of(text) <= room:
        return text
    while text and width_of(text) > room - 1:
        text = text[:-1]
    return text + "\u2026"


def _padded(text: str, room: int, align: str) -> str:
    blank = " " * (room - width_of(text))
    return text + blank if align == "left" else blank + text


def _pointed(cells: Sequence[str]) -> list[str]:
    """With blanks behind, so that decimal points are below each other. Cells without a number in them are left alone."""
    places = [
        len(cell.partition(".")[2]) + ("." in cell) if cell[-1:].isdigit() or cell[-1:] == "*" else -1 for cell in cells
    ]
    most = max(places, default=0)
    return [cell + " " * (most - count) if count >= 0 else cell for cell, count in zip(cells, places, strict=True)]


# -- tables ---------------------------------------------------------------------------------------------------------------


def is_terminal() -> bool:
    """Whether a person reads the output."""
    return sys.stdout.isatty()


def is_colourful() -> bool:
    """Whether that person wants colours and lines (no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in {"", "dumb"}


def room() -> int | None:
    """Cells of a line of the terminal; None = there is none, and lines may be as long as they like."""
    return shutil.get_terminal_size().columns if is_terminal() else None


def table(
    columns: Sequence[Column | str], rows: Sequence[Sequence[object]], foot: Sequence[object] | None = None
) -> None:
    """Prints rows, and a last one that sums them up."""
    shape = [Column(each) if isinstance(each, str) else each for each in columns]
    lines = [[clean(str(cell)) for cell in row] for row in (*rows, *([foot] if foot is not None else []))]
    for at, column in enumerate(shape):
        if column.align == "point":
            for line, cell in zip(lines, _pointed([line[at] for line in lines]), strict=True):
                line[at] = cell
    cells = room()
    kept = _with_room(shape, lines, cells)
    if kept is None:
        click.echo(_row_by_row(shape, lines, cells or 0))
        return
    left_out = [column.title for at, column in enumerate(shape) if at not in kept]
    shape, lines = [shape[at] for at in kept], [[line[at] for at in kept] for line in lines]
    widths = _widths(shape, lines, cells) or []
    if is_colourful():
        _painted(shape, lines, widths, has_foot=foot is not None)
    else:
        click.echo(_aligned(shape, lines, widths))
    if left_out:
        click.echo(styled(f"Left out for want of room: {', '.join(left_out)}.", "dim"))


def _with_room(columns: Sequence[Column], lines: Sequence[Sequence[str]], cells: int | None) -> list[int] | None:
    """Which columns are shown; None when even without the spare ones there is no room."""
    kept = list(range(len(columns)))
    while _widths([columns[at] for at in kept], [[line[at] for at in kept] for line in lines], cells) is None:
        spare = max(kept, key=lambda at: columns[at].spare)
        if not columns[spare].spare:
            return None
        kept.remove(spare)
    return kept


def pairs(told: Mapping[str, str], margin: int = 0) -> None:
    """A line for each name and what is so of it; names without a value are left out."""
    told = {name: value for name, value in told.items() if value}
    margin = max(margin, *(width_of(name) for name in told), 0) if told else 0
    for name, value in told.items():
        click.echo(f"{styled(_padded(name, margin, 'left'), 'dim')}{GAP}{clean(value)}")


def row(widths: Sequence[tuple[str, int]], cells: Sequence[str]) -> str:
    """One line of a table that never ends: (align, width) of each column; figures that are wider push the rest aside."""
    return GAP.join(
        _padded(
            shorten(clean(cell), width) if align == "left" else cell,
            max(width, width_of(cell)) if align != "left" else width,
            align,
        )
        for (align, width), cell in zip(widths, cells, strict=True)
    ).rstrip()


def _widths(columns: Sequence[Column], lines: Sequence[Sequence[str]], cells: int | None) -> list[int] | None:
    """Of each column; None when even with short names they do not fit."""
    widths = [
        max(width_of(column.title), *(width_of(line[at]) for line in lines), 0) for at, column in enumerate(columns)
    ]
    if cells is None:
        return [
            width if column.keeps else min(width, max(WIDEST, width_of(column.title)))
            for column, width in zip(columns, widths, strict=True)
        ]
    least = [
        width if column.keeps else min(width, max(LEAST, width_of(column.title)))
        for column, width in zip(columns, widths, strict=True)
    ]
    free = cells - len(GAP) * (len(columns) - 1)
    if sum(least) > free:
        return None
    while sum(widths) > free:
        widest = max((at for at in range(len(widths)) if widths[at] > least[at]), key=lambda at: widths[at])
        widths[widest] -= 1
    return widths


def _fitted(cell: str, width: int, column: Column) -> str:
    """Exactly so wide. Not left to rich, which would strip the blanks that keep decimal points below each other."""
    return _padded(shorten(cell, width), width, column.align)


def _aligned(columns: Sequence[Column], lines: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    titles = [column.title for column in columns]
    return "\n".join(
        GAP.join(
            _fitted(cell, width, column) for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in (titles, *lines)
    )


def _row_by_row(columns: Sequence[Column], lines: Sequence[Sequence[str]], cells: int) -> str:
    """A terminal that is too narrow for the table: a line for each cell that says something."""
    margin = max(width_of(column.title) for column in columns)
    return "\n\n".join(
        "\n".join(
            f"{_padded(column.title, margin, 'left')}{GAP}"
            + (cell.strip() if column.keeps else shorten(cell, max(LEAST, cells - margin - len(GAP))))
            for column, cell in zip(columns, line, strict=True)
            if cell.strip()
        )
        for line in lines
    )


def _painted(
    columns: Sequence[Column], lines: Sequence[Sequence[str]], widths: Sequence[int], *, has_foot: bool
) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), show_footer=has_foot)
    last = lines[-1] if has_foot else [""] * len(columns)
    for column, width, cell in zip(columns, widths, last, strict=True):
        titles = (Text(_fitted(each, width, column)) for each in (column.title, cell))
        grid.add_column(*titles, header_style="bold", footer_style="bold", width=width, no_wrap=True)
    for line in lines[:-1] if has_foot else lines:
        grid.add_row(
            *(
                Text(_fitted(cell, width, column), style=column.styles.get(cell, ""))
                for cell, width, column in zip(line, widths, columns, strict=True)
            )
        )
    Console(file=sys.stdout, width=max(sum(widths) + len(GAP) * len(widths), 1), highlight=False).print(grid)


# -- everything else ------------------------------------------------------------------------------------------------------


def styled(text: str, style: str) -> str:
    """Painted where there is colour: bold, dim, red, green or yellow."""
    if not is_colourful():
        return text
    if style in {"bold", "dim"}:
        return click.style(text, bold=style == "bold" or None, dim=style == "dim" or None)
    return click.style(text, fg=style)


def print_json(document: object) -> None:
    """For a script, and for a terminal on which a script is tried out: what would steer it is escaped."""
    click.echo(_unsteered(json.dumps(document, indent=2, ensure_ascii=False)))


def print_json_line(document: object) -> None:
    """The same in one line."""
    click.echo(_unsteered(json.dumps(document, ensure_ascii=False)))


def _unsteered(text: str) -> str:
    """Letters that may steer stand in JSON only within texts, where they can be escaped."""
    if text.isascii():
        return text.replace("\x7f", "\\u007f")
    return "".join(each if each == "\n" or each.isprintable() else json.dumps(each)[1:-1] for each in text)


def progress(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Hands the items through. After a second of it a bar shows on standard error, if that is a terminal, and is gone at the end."""
    if not sys.stderr.isatty() or os.environ.get("TERM", "") in {"", "dumb"}:
        yield from items
        return
    began = drawn = time.monotonic()
    bar: Any = None
    try:
        for count, item in enumerate(items):
            now = time.monotonic()
            if now - began >= SHOW_AFTER_S and now - drawn >= REDRAW_S:
                bar = bar or _bar(label, total)
                bar.update(bar.task_ids[0], completed=count, refresh=True)
                drawn = now
            yield item
    finally:
        if bar is not None:
            bar.stop()


def _bar(label: str, total: int) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
    bar.start()
    bar.add_task(label, total=total)
    return bar


class Problem(click.ClickException):
    """Why a command ends early: what is wrong, what to do next, and the exit status."""

    def __init__(self, message: str, hint: str = "", status: int = WRONG_USE) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status


def fail(message: str, hint: str = "", status: int = WRONG_USE) -> NoReturn:
    """End the command. ``message`` says what is wrong in one sentence, ``hint`` what to do next."""
    raise Problem(message, hint, status)


def complain(message: str, hint: str = "") -> None:
    """The one form of an error, on standard error."""
    text = f"tollgate: error: {message}" + (f"\n{hint}" if hint else "")
    click.echo("\n".join(clean(line) for line in text.splitlines()), err=True)
