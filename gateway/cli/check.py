"""``tollgate check``: validate a config and show what it resolves to, secrets masked."""

from __future__ import annotations

import json
from pathlib import Path

import click
import yaml

from gateway.canonical import canonical, version
from gateway.cli.config import config_option, read_config

FLOAT = "tag:yaml.org,2002:float"


class _Dumper(yaml.SafeDumper):
    """Writes an amount of dollars as a person would, without quotes; it is text to us, so that it never is a float."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way to be told
        first: [(tag, pattern) for tag, pattern in known if tag != FLOAT]
        for first, known in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
def check(config: Path | None, as_json: bool) -> None:
    """Validate a config and print what it resolves to.

    Exit status 2 when anything is wrong, each problem on a line of its own: file:line: key: problem.
    """
    settings, path = read_config(config)
    shown = canonical(settings)
    if as_json:
        click.echo(
            json.dumps({"version": version(settings), "source": str(path or "defaults"), "config": shown}, indent=2)
        )
        return
    click.echo(f"# {path or 'built-in defaults'}: valid, version {version(settings)}")
    click.echo(yaml.dump(shown, Dumper=_Dumper, sort_keys=False, allow_unicode=True).rstrip())
