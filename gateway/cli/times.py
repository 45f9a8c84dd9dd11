"""The span of time that a command looks at: --since and --until, in one form for all of them."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from gateway.cli.manual import option

LAST = "9999"
"""After every record (``store.archive.LAST``, which costs an import)."""
DAY = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])
SECTION = "Which calls"

since_option = option(
    "--since",
    type=DAY,
    metavar="TIME",
    section=SECTION,
    help="From this day or moment on, UTC: 2026-11-21, 2026-11-21T08:30. Default: everything there is.",
)
until_option = option("--until", type=DAY, metavar="TIME", section=SECTION, help="Before this day or moment, UTC.")


def moment(given: datetime | None, otherwise: str) -> str:
    """In the form in which records say when they began."""
    return given.replace(tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z") if given is not None else otherwise
