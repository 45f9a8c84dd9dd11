"""``tollgate keys``: gateway keys in the store that a config names, for all gateways of that store; and lines for a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gateway.cli.config import config_option
from gateway.cli.desk import EXITS, asked, decide, reason_option
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, json_option, option
from gateway.cli.output import Column, fail, print_json, table

KEY = "What the key may do"
SHOWN = ("name", "team", "user", "models", "upstreams", "cidr", "expires", "state", "source", "id", "hash")
PAINT = {"active": "green", "expired": "yellow", "revoked": "red"}
WORDS = {
    "delete": "revoke",
    "remove": "revoke",
    "disable": "revoke",
    "add": "create",
    "new": "create",
    "replace": "rotate",
}
"""What one may look for here, and what it is called."""
NOT_ASKED_FOR = "No call needs a key: auth.mode is passthrough. To change that: auth: {mode: keys}."


class _Keys(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in WORDS:
            ctx.fail(f"There is no command '{args[0]}': it is tollgate keys {WORDS[args[0]]}.")
        return super().resolve_command(ctx, args)


@click.group(cls=_Keys)
def keys() -> None:
    """Make, list, replace and revoke gateway keys, in the store that the config names.

    Gateways that use that store follow within a second; none has to run. Keys count where the config says auth: {mode: keys}.
    """


@keys.command(
    cls=Command,
    examples=(
        ("A key for an app of the team search.", "tollgate keys create --name search-prod --team search"),
        ("For a person, three months, cheap models only.", 'tollgate keys create --name ann --user ann --models "gpt-*-mini" --expires 90d'),
        ("With a budget of its own.", "tollgate keys create --name ci --budget 5/day --reason 'nightly runs'"),
        ("A line for the config, in place of the store.", "tollgate keys create --name search-prod --print-config-line"),
    ),
    exits=EXITS,
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)  # fmt: skip
@option("--name", required=True, help="Its name in records and budgets (key:NAME).", section=KEY)
@option("--team", default="", help="The team of its calls. Default: what they say.", section=KEY)
@option("--user", default="", help="The user of its calls. Default: what they say.", section=KEY)
@option(
    "--models", default="", metavar="PATTERNS", help='It may ask for these: "gpt-*,o4-mini". Default: all.', section=KEY
)
@option("--upstreams", default="", metavar="NAMES", help="Its calls may go to these. Default: all.", section=KEY)
@option("--cidr", default="", metavar="NETWORKS", help="Where its calls may come from. Default: anywhere.", section=KEY)
@option(
    "--expires",
    default="",
    metavar="DATE",
    help="2027-01-01 (UTC), or so long from now: 90d. Default: never.",
    section=KEY,
)
@option(
    "--budget", default="", metavar="USD[/WINDOW]", help="A limit on its calls: 5/day, 100/month. Default: none.", section=KEY
)  # fmt: skip
@option("--print-config-line", "for_config", is_flag=True, help="Print a line for the config; change no store.")
@reason_option
@json_option
@config_option
def create(config: Path | None, as_json: bool, reason: str, for_config: bool, budget: str, **given: str) -> None:
    """Make a key and print it, once: what is kept of it is its hash."""
    wanted = _wanted(given, budget)
    if for_config:
        _print_line(wanted, as_json=as_json)
        return
    from gateway.desk.keys import KeyDesk

    row, _ = decide(config, lambda desk: KeyDesk(desk).create(asked(reason), wanted))
    _print_key(row, as_json=as_json)


@keys.command(
    name="list",
    cls=Command,
    examples=(("All of them.", "tollgate keys list"), ("Those that are good, for a script.", "tollgate keys list --json | jq '.keys[] | select(.state==\"active\")'")),
    exits=EXITS,
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)  # fmt: skip
@option("--search", default="", metavar="TEXT", help="Only those with this in their name, team, user or id.")
@json_option
@config_option
def list_keys(config: Path | None, as_json: bool, search: str) -> None:
    """Show the keys of the config and of the store: what each may do, when it expires, and how its hash begins."""
    from gateway.desk.keys import KeyDesk

    rows, settings = decide(config, lambda desk: KeyDesk(desk).rows(search))
    if as_json:
        print_json({"mode": settings.auth.mode, "keys": rows})
        return
    if rows:
        columns = [Column(name, styles=PAINT, whole=name in ("state", "id", "hash")) for name in SHOWN]
        table(columns, [[_cell(row[name]) for name in SHOWN] for row in rows])
    else:
        click.echo("There are no gateway keys. tollgate keys create --name NAME makes one.")
    if settings.auth.mode != "keys":
        click.echo(f"\n{NOT_ASKED_FOR}")


@keys.command(
    cls=Command,
    examples=(
        ("The old one is good for a day still.", "tollgate keys rotate search-prod"),
        ("It leaked: the old one is refused at once.", "tollgate keys rotate search-prod --overlap 0s --reason leaked"),
    ),
    exits=EXITS,
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)
@click.argument("key")
@option("--overlap", default="", metavar="TIME", help="How long the old key is good still. Default: 24h.")
@option(
    "--expires", default="", metavar="DATE", help="When the new one ends. Default: as long as the old one was made for."
)
@reason_option
@json_option
@config_option
def rotate(config: Path | None, as_json: bool, reason: str, key: str, **given: str) -> None:
    """Make a key in the place of KEY (its name, id, or the beginning of its hash), the same in all it may do."""
    from gateway.desk import Desk
    from gateway.desk.keys import KeyDesk

    async def work(desk: Desk) -> Mapping[str, Any]:
        found = await KeyDesk(desk).id_of(key, newest=True)
        return await KeyDesk(desk).rotate(asked(reason), found, given)

    row, _ = decide(config, work)
    _print_key(row, as_json=as_json)


@keys.command(
    cls=Command,
    examples=(("Within a second no gateway takes it any more.", "tollgate keys revoke search-prod --reason leaked"),),
    exits=EXITS,
    variables=CONFIG_VARIABLES,
    files=CONFIG_FILES,
)
@click.argument("key")
@reason_option
@json_option
@config_option
def revoke(config: Path | None, as_json: bool, reason: str, key: str) -> None:
    """Have KEY (its name, id, or the beginning of its hash) refused from now on. It stays in the list, as revoked."""
    from gateway.desk import Desk
    from gateway.desk.keys import KeyDesk

    async def work(desk: Desk) -> Mapping[str, Any]:
        return await KeyDesk(desk).revoke(asked(reason), await KeyDesk(desk).id_of(key))

    row, _ = decide(config, work)
    if as_json:
        print_json(row)
        return
    click.echo(f"{row['name']} ({row['id']}) is revoked since {row['revoked_at']}; its hash begins with {row['hash']}.")
    if row.get("note"):
        click.echo(f"But {row['note']}.")


def _wanted(given: Mapping[str, str], budget: str) -> dict[str, Any]:
    """As the admin API would be asked."""
    wanted: dict[str, Any] = dict(given)
    for name in ("models", "upstreams", "cidr"):
        wanted[name] = [part.strip() for part in given[name].split(",") if part.strip()]
    if budget:
        limit, _, window = budget.partition("/")
        wanted["budget"] = {"limit_usd": limit, "window": window or "day"}
    return wanted


def _print_line(wanted: Mapping[str, Any], *, as_json: bool) -> None:
    """The key, and its line for the config."""
    from gateway.changes import Denied
    from gateway.desk.keys import entry_of, text_of_a_key

    text = text_of_a_key()
    if wanted.get("budget"):
        fail("--budget goes into the store: a config has budgets of its own (scope: key:NAME)")
    try:
        entry = entry_of(wanted, text)
    except Denied as denied:
        fail("\n".join(f"--{field}: {fault}" for field, fault in denied.problems))
    if as_json:
        print_json({"key": text, "entry": entry})
        return
    import yaml

    line = yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1 << 30).strip()
    click.echo(f"{text}\n")
    click.echo("This is the key, shown this once: give it to the app. This line goes below keys: in the config:\n")
    click.echo(f"  - {line}")


def _print_key(row: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    click.echo(f"{row['key']}\n")
    click.echo(
        "This is the key, shown this once: give it to the app. Gateways that use this store know it within a second."
    )
    click.echo(f"\nid {row['id']}, name {row['name']}" + (f", replaces {row['replaces']}" if "replaces" in row else ""))
    if row.get("note"):
        click.echo(f"\n{NOT_ASKED_FOR}")


def _cell(value: str | Sequence[str] | None) -> str:
    return (value if isinstance(value, str) else ",".join(value or ())) or "-"
