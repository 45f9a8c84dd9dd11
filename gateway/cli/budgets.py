"""``tollgate budgets``: what is spent of each, and what was decided of them, in the store that a config names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gateway.cli.config import config_option
from gateway.cli.desk import EXITS, asked, decide, reason_option
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, Word, json_option, option
from gateway.cli.output import Column, clean, print_json, styled, table

LIMIT = "The budget"
COLUMNS = (
    Column("budget"),
    Column("scope"),
    Column("window"),
    Column("mode"),
    Column("limit $", "point"),
    Column("spent $", "point"),
    Column("held $", "point"),
    Column("left $", "point"),
    Column("resets at", whole=True),
    Column("source"),
    Column("reason"),
)
FIELDS = ("budget", "scope", "window", "mode", "limit_usd", "spent_usd", "held_usd", "remaining_usd", "resets_at", "source", "reason")  # fmt: skip
OPTIONS = ("scope", "limit_usd", "window", "mode", "timezone", "week_start", "on_exhausted", "lost")


@click.group()
def budgets() -> None:
    """Show budgets, and set, change or reset them while gateways run.

    What is decided here stands in the store that the config names, and takes the place of the config's budget of the same name until
    it is unset. Gateways that use that store follow within a second; none has to run.
    """


@budgets.command(
    name="list",
    cls=Command,
    examples=(
        ("All of them.", "tollgate budgets list"),
        ("For a script.", "tollgate budgets list --json | jq .budgets"),
    ),
    exits=EXITS,
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)
@option("--scope", "scopes", multiple=True, metavar="SCOPE", help="Of a budget that is one for each: this account too.")
@json_option
@config_option
def list_budgets(config: Path | None, as_json: bool, scopes: Sequence[str]) -> None:
    """Show every budget with what is spent, held and left of it, when it starts again, and who set it."""
    from gateway.desk.budgets import BudgetDesk

    rows, _ = decide(config, lambda desk: BudgetDesk(desk).accounts(scopes))
    if as_json:
        print_json({"budgets": rows})
    elif rows:
        table(COLUMNS, [[_cell(row[field]) for field in FIELDS] for row in rows])
        if not scopes:
            _say_of_many([row["scope"] for row in rows])
    else:
        click.echo("There are no budgets. tollgate budgets set NAME --scope team:search --limit-usd 10 makes one.")


@budgets.command(
    name="set",
    cls=Command,
    examples=(
        ("A new one.", "tollgate budgets set search --scope team:search --limit-usd 10 --window day"),
        ("Raised, for the very next call.", "tollgate budgets set search --limit-usd 20 --reason 'the fair'"),
    ),
    exits=EXITS,
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)
@click.argument("name")
@option("--limit-usd", help="Dollars, as a decimal number.", metavar="USD", section=LIMIT)
@option("--scope", help="Whose spend: team:search, user:*, global, key:NAME and more.", section=LIMIT)
@option(
    "--window", type=Word(("hour", "day", "week", "month", "total")), help="After which it starts again.", section=LIMIT
)
@option(
    "--mode", type=Word(("hard", "strict", "soft", "shadow")), help="How much is set aside for a call.", section=LIMIT
)
@option("--timezone", help="IANA time zone of the calendar.", section=LIMIT)
@option("--week-start", type=Word(("monday", "saturday", "sunday")), help="The first day of its weeks.", section=LIMIT)
@option("--notify-at", metavar="PERCENTS", help="Crossing one is told: 80,100.", section=LIMIT)
@option(
    "--on-exhausted",
    type=Word(("finish", "cut")),
    help="A stream that finds no room: let it end, or cut it.",
    section=LIMIT,
)
@option("--lost", type=Word(("hold", "estimate")), help="What a call costs whose process died.", section=LIMIT)
@reason_option
@json_option
@config_option
def set_budget(
    config: Path | None, as_json: bool, reason: str, name: str, notify_at: str | None, **given: str | None
) -> None:
    """Make the budget NAME, or change what is said of it. One of the config is copied with all it has."""
    from gateway.desk.budgets import BudgetDesk

    wanted: dict[str, Any] = {field: given[field] for field in OPTIONS if given[field] is not None}
    if notify_at is not None:
        wanted["notify_at"] = [part.strip() for part in notify_at.split(",") if part.strip()]
    (row, is_new), _ = decide(config, lambda desk: BudgetDesk(desk).set(asked(reason), name, wanted))
    if as_json:
        print_json(row)
    else:
        click.echo(
            f"{name}: ${row['limit_usd']} {_each(row['window'])} for {row['scope']}"
            + (", from now on." if is_new else ".")
        )


@budgets.command(
    cls=Command,
    examples=(("The config's budget of this name holds again.", "tollgate budgets unset search"),),
    exits=EXITS,
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)
@click.argument("name")
@reason_option
@json_option
@config_option
def unset(config: Path | None, as_json: bool, reason: str, name: str) -> None:
    """Take away what was decided of the budget NAME."""
    from gateway.desk.budgets import BudgetDesk

    row, _ = decide(config, lambda desk: BudgetDesk(desk).unset(asked(reason), name))
    if as_json:
        print_json(row if row is not None else {"budget": name, "source": None})
    elif row is None:
        click.echo(f"{name} is gone.")
    else:
        click.echo(f"{name} is the config's again: ${row['limit_usd']} {_each(row['window'])} for {row['scope']}.")


@budgets.command(
    cls=Command,
    examples=(
        (
            "What was spent so far today does not count any more.",
            "tollgate budgets reset search --reason 'a loop, fixed'",
        ),
        ("Of one team, where the budget is one for each.", "tollgate budgets reset team:*/day --scope team:search"),
    ),
    exits=EXITS,
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)
@click.argument("name")
@option("--scope", default="", help="Which account, of a budget that is one for each.")
@reason_option
@json_option
@config_option
def reset(config: Path | None, as_json: bool, reason: str, name: str, scope: str) -> None:
    """Forgive what was spent of the budget NAME in the running window. Records and reports stay as they are."""
    from gateway.desk.budgets import BudgetDesk

    row, _ = decide(config, lambda desk: BudgetDesk(desk).reset(asked(reason), name, scope))
    if as_json:
        print_json(row)
    else:
        click.echo(
            f"{row['account']}: ${row['forgiven_usd']} does not count any more; the limit is ${row['limit_usd']}."
        )


def _say_of_many(scopes: Sequence[str]) -> None:
    """Where a line has no figures since it stands for many accounts: how to see them."""
    from gateway.admission.scopes import parse_scope
    from gateway.desk.budgets import SINGLE

    read = {text: parse_scope(text) for text in scopes}
    many = [text for text, scope in read.items() if scope.is_general and not scope.kinds & SINGLE]
    if many:
        told = f"{', '.join(many)}: one account for each. --scope shows one of them, /api/v1/budgets of a gateway all."
        click.echo(styled(clean(told), "dim"))


def _each(window: str) -> str:
    return "in total" if window == "total" else f"an {window}" if window == "hour" else f"a {window}"


def _cell(value: object) -> str:
    return str(value) if value not in (None, "") else "-"
