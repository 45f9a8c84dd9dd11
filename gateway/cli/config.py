"""Which config a command means, read or refused: the same option, search and exit status for all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.manual import option
from gateway.cli.output import UNREACHABLE, WRONG_USE, complain, fail

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.store.archive import Archive
    from gateway.store.redis_archive import RedisArchive

DEFAULT_FILE = Path("tollgate.yaml")

config_option = option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    help="Config file (YAML). Default: $TOLLGATE_CONFIG, else ./tollgate.yaml if it is there, else the defaults.",
    section="Config",
)


def read_config(option: Path | None) -> tuple[Settings, Path | None]:
    """The settings and the file that they are from (None = the defaults). Exits with 2 and all problems, a line each."""
    from gateway.loading import Problems, load

    path = find(option)
    try:
        return load(path, os.environ), path
    except Problems as problems:
        many = str(problems).count("\n") + 1
        complain(
            f"the config has {many} problem{'s' if many > 1 else ''}:\n{problems}",
            "Every key: docs/reference/config.md.",
        )
        sys.exit(WRONG_USE)


@contextmanager
def reading(settings: Settings) -> Iterator[Archive | RedisArchive]:
    """The books that a config names, for reading only. Whatever keeps them from being read ends the command."""
    import sqlite3

    from gateway.errors import Failure

    try:
        with open_archive(settings) as archive:
            yield archive
    except (Failure, sqlite3.Error) as error:
        message = error.message if isinstance(error, Failure) else "the file cannot be read"
        fail(
            f"{settings.store.url}: {message}",
            "--config names the config of the gateway whose books are meant.",
            UNREACHABLE,
        )


def open_archive(settings: Settings) -> Archive | RedisArchive:
    """The same as a context manager that raises Failure."""
    if settings.store.url.startswith("sqlite:"):
        from gateway.store.archive import Archive

        return Archive(settings.store.url.removeprefix("sqlite:///"))
    from gateway.stores import redis_archive

    return redis_archive(settings)


def find(option: Path | None) -> Path | None:
    """The file that is meant; None = the defaults."""
    if option is not None:
        return option
    named = os.environ.get("TOLLGATE_CONFIG")
    if named:
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None
