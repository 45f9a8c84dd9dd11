"""``tollgate check``: validate a config and show what it resolves to, secrets masked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.config import config_option, read_config
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, json_option
from gateway.cli.output import clean, print_json

FLOAT = "tag:yaml.org,2002:float"


@click.command(
    cls=Command,
    examples=(
        ("What ./tollgate.yaml, or what $TOLLGATE_CONFIG names, resolves to.", "tollgate check"),
        ("Before a deployment: stops it with a line for each problem.", "tollgate check --config tollgate.yaml"),
        ("One value, with jq.", "tollgate check --json | jq .config.store.url"),
    ),
    exits={2: "The config is wrong: each problem on a line of its own, file:line: key: problem."},
    variables=CONFIG_VARIABLES,
    files={"./tollgate.yaml": CONFIG_FILES["./tollgate.yaml"]},
)
@config_option
@json_option
def check(config: Path | None, as_json: bool) -> None:
    """Validate a config and print what it resolves to: defaults filled in, variables expanded, secrets masked.

    Nothing is started, and no store and no upstream is asked.
    """
    from gateway.canonical import canonical, version

    settings, path = read_config(config)
    shown = canonical(settings)
    if as_json:
        print_json({"version": version(settings), "source": str(path or "defaults"), "config": shown})
        return
    click.echo(f"# {clean(str(path or 'built-in defaults'))}: valid, version {version(settings)}")
    click.echo(_yaml(shown))


def _yaml(shown: Any) -> str:
    """An amount of dollars as a person would write it, without quotes; it is text to us, so that it never is a float."""
    import yaml

    class Dumper(yaml.SafeDumper):
        yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way to be told
            first: [(tag, pattern) for tag, pattern in known if tag != FLOAT]
            for first, known in yaml.SafeDumper.yaml_implicit_resolvers.items()
        }

    Dumper.add_representer(float, lambda dumper, number: dumper.represent_str(repr(number)))
    return str(yaml.dump(shown, Dumper=Dumper, sort_keys=False, allow_unicode=True)).rstrip()
