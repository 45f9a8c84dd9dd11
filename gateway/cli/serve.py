"""``tollgate serve``: run the gateway until it is told to stop."""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from gateway.cli.config import config_option, read_config
from gateway.cli.manual import CONFIG_FILES, CONFIG_VARIABLES, Command, option

LISTENERS = "Listeners"


class Workers(click.ParamType[int]):
    """As the config reads ``workers``."""

    name = "workers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from gateway.kinds import PROCESSES, READERS, Wrong

        try:
            return int(READERS[PROCESSES.name](PROCESSES, str(value)))
        except Wrong as wrong:
            self.fail(str(wrong), param, ctx)


@click.command(
    cls=Command,
    examples=(
        ("Without a config: the callers' own keys, nothing to set up.", "tollgate serve"),
        ("With one. tollgate check tells what is wrong with it.", "tollgate serve --config tollgate.yaml"),
        ("On all processors of the machine.", "tollgate serve --workers auto"),
        ("Where 8080 is taken.", "tollgate serve --port 9080 --admin-port 9081"),
    ),
    exits={
        0: "Stopped by SIGTERM or Ctrl-C, with every call settled.",
        1: "It could not start: a port is taken, an address is not ours. Or a worker died again and again.",
        2: "The config is wrong: each problem on a line of its own.",
        3: "It could not start: the store cannot be opened.",
    },
    variables={**CONFIG_VARIABLES, "OTEL_*": "OpenTelemetry's own: docs/traces.md."},
    files=CONFIG_FILES,
)
@option("--host", metavar="ADDRESS", help="Address of the front listener (front.host).", section=LISTENERS)
@option("--port", type=click.IntRange(0, 65535), help="Port of the front listener (front.port).", section=LISTENERS)
@option(
    "--admin-port", type=click.IntRange(0, 65535), help="Port of the admin listener (admin.port).", section=LISTENERS
)
@option(
    "--workers",
    type=Workers(),
    metavar="N|auto",
    help="Processes that serve calls (workers); auto: one for each processor that may be used.",
)
@config_option
def serve(config: Path | None, host: str | None, port: int | None, admin_port: int | None, workers: int | None) -> None:
    """Run the gateway.

    Without a config it serves OpenAI, Anthropic and Gemini with the callers' own keys on 127.0.0.1:8080, the operator's
    pages on 127.0.0.1:8081, and keeps its books in ./tollgate.db. SIGTERM and Ctrl-C let running calls finish
    (front.shutdown_grace), a second one breaks them off; SIGHUP reads the config again; SIGUSR2 renews the workers, where there
    are several.
    """
    from gateway.trust import lists_unread

    gc.disable()  # until it serves: all that is made meanwhile stays
    with lists_unread():
        from gateway.workers import serve as run

    settings, path = read_config(config)
    front, admin = settings.front, settings.admin
    front = replace(front, host=host or front.host, port=front.port if port is None else port)
    admin = replace(admin, port=admin.port if admin_port is None else admin_port)
    count = settings.workers if workers is None else workers
    sys.exit(run(replace(settings, front=front, admin=admin, workers=count), path))
