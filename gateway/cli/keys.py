"""``tollgate keys``: make a gateway key, and see which ones a config has. Changes no file: a key is what the config says."""

from __future__ import annotations

import json
import secrets
import string
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from gateway.admission.keys import PREFIX, hash_of
from gateway.cli.config import config_option, read_config
from gateway.kinds import (
    MOMENT,
    NAME,
    NETWORK,
    OWN_NAME,
    READERS,
    SECONDS,
    WORD,
    WRITERS,
    YEAR_S,
    Kind,
    Wrong,
    duration,
)
from gateway.settings import GatewayKey

LETTERS = string.ascii_letters + string.digits
RANDOM_CHARS = 32
"""62^32 is 190 bits."""
SHOWN_HEX = 12
BY_CONFIG = {
    "revoke": "take its entry out of keys: in the config",
    "rotate": "make a new key, put its entry beside the old one under the same name, and take the old one out when no app"
    " uses it any more",
    "delete": "take its entry out of keys: in the config",
    "add": "make one with: tollgate keys create, and put the line that it prints into the config",
}
"""What one may look for here, and how it is done."""


class _Keys(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in BY_CONFIG:
            ctx.fail(
                f"There is no command '{args[0]}': {BY_CONFIG[args[0]]}."
                " A gateway that runs takes the change over by itself (docs/keys.md)."
            )
        return super().resolve_command(ctx, args)


@click.group(cls=_Keys)
def keys() -> None:
    """Make gateway keys, and see which ones a config has.

    Gateway keys count where the config says auth: {mode: keys}. To revoke one, take its entry out of the config; to replace
    one, put the new entry beside the old one for a while.
    """


@keys.command()
@click.option("--name", required=True, help="Its name in records and budgets (key:NAME).")
@click.option("--team", default="", help="The team of its calls. Default: what they say.")
@click.option("--user", default="", help="The user of its calls. Default: what they say.")
@click.option(
    "--models", default="", metavar="PATTERNS", help='Models that it may ask for: "gpt-*,o4-mini". Default: all.'
)
@click.option("--upstreams", default="", metavar="NAMES", help="Upstreams that its calls may go to. Default: all.")
@click.option("--cidr", default="", metavar="NETWORKS", help="Where its calls may come from. Default: anywhere.")
@click.option(
    "--expires", default="", metavar="DATE", help="2027-01-01 (UTC), or so long from now: 90d. Default: never."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def create(as_json: bool, expires: str, **options: str) -> None:
    """Make a key and print it, once, with the line for the config, which holds only its hash.

    \b
    Examples:
      tollgate keys create --name search-prod --team search
      tollgate keys create --name ann --user ann --models "gpt-*" --expires 90d
      tollgate keys create --name ci --cidr 10.0.0.0/8 --json
    """  # noqa: D301 - click reads the backspace
    key = PREFIX + "".join(secrets.choice(LETTERS) for _ in range(RANDOM_CHARS))
    entry: dict[str, Any] = {"name": _read(OWN_NAME, options["name"], "--name"), "hash": hash_of(key)}
    entry |= {name: _read(NAME, options[name], f"--{name}") for name in ("team", "user")}
    for name, kind in (("models", WORD), ("upstreams", WORD), ("cidr", NETWORK)):
        entry[name] = [_read(kind, part.strip(), f"--{name}") for part in options[name].split(",") if part.strip()]
    entry["expires"] = WRITERS["moment"](_expiry(expires))
    entry = {name: value for name, value in entry.items() if value}
    if as_json:
        click.echo(json.dumps({"key": key, "entry": entry}, indent=2, ensure_ascii=False))
        return
    click.echo(f"{key}\n")
    click.echo("This is the key, shown this once: give it to the app. This line goes below keys: in the config:\n")
    click.echo(f"  - {_flow(entry)}")


@keys.command(name="list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_keys(config: Path | None, as_json: bool) -> None:
    """Show the keys of a config: name, team, user, what each may do, when it expires, and how its hash begins.

    \b
    Examples:
      tollgate keys list --config tollgate.yaml
      tollgate keys list --json
    """  # noqa: D301 - click reads the backspace
    settings, path = read_config(config)
    is_asked = settings.auth.mode == "keys"
    rows = [_row(each, is_asked=is_asked) for each in settings.keys]
    if as_json:
        click.echo(json.dumps({"mode": settings.auth.mode, "keys": rows}, indent=2, ensure_ascii=False))
        return
    if rows:
        click.echo(_table(rows))
    else:
        click.echo(f"{path or 'The built-in config'} has no gateway keys. tollgate keys create --name NAME makes one.")
    if not is_asked:
        click.echo("\nNo call needs a key: auth.mode is passthrough. To change that: auth: {mode: keys}.")


def _row(key: GatewayKey, *, is_asked: bool) -> dict[str, Any]:
    state = "expired" if key.expires and key.expires <= time.time() else "active" if is_asked else "not asked for"
    return {
        "name": key.name,
        "team": key.team,
        "user": key.user,
        "models": list(key.models),
        "upstreams": list(key.upstreams),
        "cidr": list(key.cidr),
        "expires": WRITERS["moment"](key.expires),
        "state": state,
        "hash": key.hash.removeprefix("sha256:")[:SHOWN_HEX],
    }


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(value: str | list[str]) -> str:
    return (value if isinstance(value, str) else ",".join(value)) or "-"


def _expiry(text: str) -> int:
    """A moment, or a time from now on; Unix seconds, 0 = never."""
    if text[-1:] in SECONDS:
        return int(time.time() + _read(duration(1, 100 * YEAR_S), text, "--expires"))
    moment: int = _read(MOMENT, text, "--expires", "; or so long from now: 90d")
    if moment and moment <= time.time():
        raise click.BadParameter("is over already", param_hint="--expires")
    return moment


def _read(kind: Kind, text: str, option: str, hint: str = "") -> Any:
    reader: Callable[[Kind, str], Any] = READERS[kind.name]
    try:
        return reader(kind, text)
    except Wrong as wrong:
        raise click.BadParameter(f"{wrong}{hint}", param_hint=option) from None


def _flow(entry: dict[str, Any]) -> str:
    """One line of YAML."""
    return yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1 << 30).strip()
