"""Which config a command means, read or refused: the same option, search and exit status for all of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.app import redis_archive
from gateway.loading import Problems, load
from gateway.settings import Settings
from gateway.store.archive import Archive

if TYPE_CHECKING:
    from gateway.store.redis_archive import RedisArchive

DEFAULT_FILE = Path("tollgate.yaml")

config_option = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    help="Config file (YAML). Default: $TOLLGATE_CONFIG, else ./tollgate.yaml if it is there, else the defaults.",
)


def read_config(option: Path | None) -> tuple[Settings, Path | None]:
    """The settings and the file that they are from (None = the defaults). Exits with 2 and all problems, a line each."""
    path = _find(option)
    try:
        return load(path, os.environ), path
    except Problems as problems:
        click.echo(str(problems), err=True)
        sys.exit(2)


def open_archive(settings: Settings) -> Archive | RedisArchive:
    """The books that a config names, for reading only: a context manager."""
    if settings.store.url.startswith("sqlite:"):
        return Archive(settings.store.url.removeprefix("sqlite:///"))
    return redis_archive(settings)


def _find(option: Path | None) -> Path | None:
    if option is not None:
        return option
    named = os.environ.get("TOLLGATE_CONFIG")
    if named:
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None
