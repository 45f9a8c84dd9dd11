"""``tollgate changes``: what operators have changed at run time, newest first, from the store that a config names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gateway.cli.config import config_option
from gateway.cli.desk import EXITS, decide
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, json_option, option
from gateway.cli.output import Column, print_json, table

MAX_LINES = 10_000
COLUMNS = (
    Column("at", whole=True),
    Column("by"),
    Column("action", whole=True),
    Column("target"),
    Column("what"),
    Column("reason"),
)
HIDDEN = frozenset(
    (
        "by",
        "at",
        "reason",
        "name",
        "version",
        "replaces",
        "hash",
        "mark",
        "created_at",
        "created_by",
        "revoked_by",
        "ends_at",
    )
)
"""What other columns say, and what says nothing to people."""


@click.command(
    cls=Command,
    examples=(
        ("The newest.", "tollgate changes --limit 10"),
        ("Each with what was before and after.", "tollgate changes --json | jq '.changes[0]'"),
    ),
    exits=EXITS,
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)
@option("--limit", type=click.IntRange(1, MAX_LINES), default=50, help="At most so many. Default: 50.")
@json_option
@config_option
def changes(config: Path | None, as_json: bool, limit: int) -> None:
    """Show what operators have changed: keys, budgets, annotations, reloads of the config; when, who and why."""
    from gateway.desk.log import LogDesk

    (rows, _), _ = decide(config, lambda desk: LogDesk(desk).rows(limit))
    if as_json:
        print_json({"changes": rows})
    elif rows:
        table(
            COLUMNS,
            [[row["at"], row["by"], row["action"], _target(row), _what(row), row["reason"] or "-"] for row in rows],
        )
    else:
        click.echo("Nothing has been changed at run time.")


def _target(row: Mapping[str, Any]) -> str:
    """Keys by their names: ids say nothing to people."""
    named = (row["after"] or row["before"] or {}).get("name")
    return f"{named} ({row['target']})" if named and row["action"].startswith("key.") else str(row["target"])


def _what(row: Mapping[str, Any]) -> str:
    """The fields that differ, with what they are now."""
    before, after = row["before"] or {}, row["after"]
    if after is None:
        return "-"
    differing = [
        name
        for name in after
        if name not in HIDDEN and after[name] != before.get(name) and after[name] not in ("", [], None)
    ]
    return ", ".join(f"{name}={after[name]}" for name in differing) or "-"
