"""``tollgate annotate``: say what happened, so that it stands beside the curves that it explains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from gateway.cli.config import config_option
from gateway.cli.desk import EXITS, asked, decide
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, json_option, option
from gateway.cli.output import print_json


@click.command(
    cls=Command,
    examples=(
        ("From a pipeline, after a deployment.", 'tollgate annotate "search 2.14 is out" --tag deploy'),
        ("For a span of time that is over.", 'tollgate annotate "migration" --at 2026-11-21T10:00:00Z --until 2026-11-21T11:30:00Z'),
    ),
    exits=EXITS,
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)  # fmt: skip
@click.argument("text")
@option("--tag", "tags", multiple=True, metavar="TAG", help="A word to find it by: deploy. May stand several times.")
@option("--at", default="", metavar="TIME", help="When it happened. Default: now.")
@option("--until", default="", metavar="TIME", help="When it was over. Default: a moment.")
@json_option
@config_option
def annotate(config: Path | None, as_json: bool, text: str, tags: Sequence[str], at: str, until: str) -> None:
    """Say what happened: TEXT. It is kept in the store that the config names, and gateways tell it to dashboards."""
    from gateway.desk.annotations import AnnotationDesk

    wanted = {"text": text, "tags": list(tags), "at": at, "until": until}
    row, _ = decide(config, lambda desk: AnnotationDesk(desk).add(asked(""), wanted))
    if as_json:
        print_json(row)
    else:
        click.echo(f"{row['id']}: {row['text']} at {row['at']}")
