"""``tollgate serve``: run the gateway until it is told to stop."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from gateway.cli.config import config_option, read_config
from gateway.kinds import PROCESSES, READERS, Wrong
from gateway.workers import serve as run


class Workers(click.ParamType[int]):
    """As the config reads ``workers``."""

    name = "workers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(READERS[PROCESSES.name](PROCESSES, str(value)))
        except Wrong as wrong:
            self.fail(str(wrong), param, ctx)


@click.command()
@config_option
@click.option("--host", help="Address of the front listener.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the front listener.")
@click.option("--admin-port", type=click.IntRange(0, 65535), help="Port of the admin listener.")
@click.option(
    "--workers",
    type=Workers(),
    metavar="N|auto",
    help="Processes that serve calls; auto: one for each processor that may be used.",
)
def serve(config: Path | None, host: str | None, port: int | None, admin_port: int | None, workers: int | None) -> None:
    """Run the gateway.

    Without a config it serves OpenAI, Anthropic and Gemini with the callers' own keys on 127.0.0.1:8080, the operator's
    pages on 127.0.0.1:8081, and keeps its books in ./tollgate.db.
    """
    settings, path = read_config(config)
    front, admin = settings.front, settings.admin
    front = replace(front, host=host or front.host, port=front.port if port is None else port)
    admin = replace(admin, port=admin.port if admin_port is None else admin_port)
    count = settings.workers if workers is None else workers
    sys.exit(run(replace(settings, front=front, admin=admin, workers=count), path))
