"""``tollgate check``: validate a config and show what it resolves to, secrets masked."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click
import yaml

from gateway.loading import Problems, canonical, load, version

DEFAULT_FILE = Path("tollgate.yaml")
FLOAT = "tag:yaml.org,2002:float"


class _Dumper(yaml.SafeDumper):
    """Writes an amount of dollars as a person would, without quotes; it is text to us, so that it never is a float."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way to be told
        first: [(tag, pattern) for tag, pattern in known if tag != FLOAT]
        for first, known in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


def find_config(option: Path | None) -> Path | None:
    """Which config is meant: the option, else $TOLLGATE_CONFIG, else ./tollgate.yaml if it is there, else none."""
    if option is not None:
        return option
    named = os.environ.get("TOLLGATE_CONFIG")
    if named:
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


@click.command()
@click.option("--config", "config", type=click.Path(path_type=Path), help="Config file (YAML).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
def check(config: Path | None, as_json: bool) -> None:
    """Validate a config and print what it resolves to.

    Without --config: $TOLLGATE_CONFIG, else ./tollgate.yaml, else the defaults. Exit status 2 when anything is wrong, each
    problem on a line of its own: file:line: key: problem.
    """
    path = find_config(config)
    try:
        settings = load(path, os.environ)
    except Problems as problems:
        click.echo(str(problems), err=True)
        sys.exit(2)
    shown = canonical(settings)
    if as_json:
        click.echo(
            json.dumps({"version": version(settings), "source": str(path or "defaults"), "config": shown}, indent=2)
        )
        return
    click.echo(f"# {path or 'built-in defaults'}: valid, version {version(settings)}")
    click.echo(yaml.dump(shown, Dumper=_Dumper, sort_keys=False, allow_unicode=True).rstrip())
