"""``tollgate report``: what was spent, by day, week or month, and by whom. Reads sums, never the records of calls."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.complete import dimensions
from gateway.cli.config import config_option, read_config, reading
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, Word, meant, option
from gateway.cli.output import print_json, progress

if TYPE_CHECKING:
    from gateway.comparison import Comparison
    from gateway.focus import Charges
    from gateway.report import Question, Tally
    from gateway.settings import Settings
    from gateway.store.archive import Archive
    from gateway.store.redis_archive import RedisArchive

PERIODS = ("day", "week", "month")
FORMATS = ("table", "json", "csv", "focus")
SPAN, SHOWN = "Which spend", "How it is shown"


@click.command(
    cls=Command,
    examples=(
        ("The last seven days, by team.", "tollgate report"),
        (
            "Who uses which model, by month, this year.",
            "tollgate report --by team,model --period month --since 2026-01-01",
        ),
        (
            "This month against the last one.",
            "tollgate report --by model --since 2026-11-01 --until 2026-12-01 --period month --compare",
        ),
        (
            "For a tool for cloud costs, into a file.",
            "tollgate report --format focus --since 2026-11-01 --output november.csv",
        ),
    ),
    exits={2: "It cannot be asked so, or the file is there already.", 3: "The store cannot be read."},
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)
@option(
    "--by",
    metavar="NAMES",
    help="What to tell apart: some of spend.by, with commas. Default: team.",
    section=SPAN,
    shell_complete=dimensions,
)
@option(
    "--period", type=Word(PERIODS), default="day", help="UTC days, ISO weeks or months. Default: day.", section=SPAN
)
@option(
    "--since", default="", metavar="DATE", help="From this day on, UTC. Default: the last seven periods.", section=SPAN
)
@option("--until", default="", metavar="DATE", help="Before this day, UTC. Default: up to now.", section=SPAN)
@option("--compare", is_flag=True, help="Beside it as much time before it, and the change.", section=SPAN)
@option(
    "--format",
    "form",
    type=Word(FORMATS),
    help="focus is the CSV of the FinOps Open Cost and Usage Specification (docs/focus.md). Default: table.",
    section=SHOWN,
)
@option("--json", "as_json", is_flag=True, help="The same as --format json.", section=SHOWN)
@option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it into a file, whole or not at all.",
    section=SHOWN,
)
@option("--force", is_flag=True, help="--output: replace a file that is there.", section=SHOWN)
@config_option
def report(
    config: Path | None, by: str | None, period: str, since: str, until: str, compare: bool, form: str | None, as_json: bool,
    output: Path | None, force: bool,
) -> None:  # fmt: skip
    """Show what was spent: dollars to the nano-dollar, tokens, calls.

    From sums that are kept beside the records and outlive them (retention.spend_days). Can be run while the gateway serves.
    """
    from gateway.cli import tables_of_spend as shown

    form = _form(form, as_json, compare, by, period)
    _check_output(output, force)
    settings, _ = read_config(config)
    now = datetime.now(UTC)
    asked = _question(by, period, since, until, settings, now)
    with shown.into(output), reading(settings) as archive:
        if form == "focus":
            shown.focus(_charges(archive, asked, settings, now))
        elif compare:
            shown.comparison(_comparison(archive, asked, now), form)
        else:
            tally = _tally(archive, asked)
            if form == "json":
                from gateway.report import document

                print_json(document(asked, tally))
            else:
                shown.report(asked, tally, form, archive.spend_span())


def _form(form: str | None, as_json: bool, compare: bool, by: str | None, period: str) -> str:
    """The format that is meant; UsageError for options that do not go together."""
    if as_json and form not in {None, "json"}:
        raise click.UsageError(f"--json and --format {form} are two formats: leave one of them out.")
    form = "json" if as_json else form or "table"
    if form == "focus" and (compare or by is not None or period != "day"):
        raise click.UsageError(
            "--format focus is by day and by all of spend.by: leave out --by, --period and --compare."
        )
    return form


def _check_output(output: Path | None, force: bool) -> None:
    """Before anything is asked of the store."""
    if output is None:
        return
    if output.exists() and not force:
        raise click.UsageError(f"{output} is there already; --force replaces it.")
    if not output.parent.is_dir():
        raise click.UsageError(f"there is no folder {output.parent}.")


def _question(by: str | None, period: str, since: str, until: str, settings: Settings, now: datetime) -> Question:
    from gateway.errors import Failure
    from gateway.report import question

    try:
        return question(by, period, since, until, settings.spend.by, now.date())
    except Failure as failure:
        unknown = [name.strip() for name in (by or "").split(",") if name.strip() not in settings.spend.by]
        guess = meant(unknown[0], settings.spend.by) if unknown and by else ""
        raise click.UsageError(failure.message + guess) from None


def _tally(archive: Archive | RedisArchive, asked: Question) -> Tally:
    from gateway.report import Tally

    tally = Tally(asked)
    for day in progress(asked.days(), (asked.until - asked.since).days, "days"):
        tally.add(archive.spend(*day))
    return tally


def _comparison(archive: Archive | RedisArchive, asked: Question, now: datetime) -> Comparison:
    from gateway.comparison import Comparison

    comparison = Comparison(asked, now)
    for day in progress(comparison.days(), (asked.until - comparison.since).days, "days"):
        comparison.add(archive.spend(*day))
    return comparison


def _charges(archive: Archive | RedisArchive, asked: Question, settings: Settings, now: datetime) -> Charges:
    from gateway.focus import NEEDED, Charges

    missing = [name for name in NEEDED if name not in settings.spend.by]
    if missing:
        raise click.UsageError(f"--format focus needs {' and '.join(missing)} in spend.by of the config.")
    charges = Charges(replace(asked, by=settings.spend.by), now.date())
    for day in progress(asked.days(), (asked.until - asked.since).days, "days"):
        charges.add(archive.spend(*day))
    for chain in archive.corrections().values():
        charges.correct(chain)
    return charges
