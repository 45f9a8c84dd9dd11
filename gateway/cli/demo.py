"""``tollgate demo``: the gateway with a pretend provider and a few calls, to see it work without any key."""

from __future__ import annotations

import sys

import click

from gateway.cli.manual import Command, option
from gateway.cli.output import NO, fail

LISTENERS = "Listeners"


@click.command(
    cls=Command,
    examples=(
        ("Calls, what they cost, a budget that refuses some; then it serves on.", "tollgate demo"),
        ("Only the sample.", "tollgate demo --once"),
    ),
    exits={1: "It could not start: a port is taken."},
)
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port of the front listener.",
    section=LISTENERS,
)
@option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    default=8081,
    show_default=True,
    help="Port of the admin listener.",
    section=LISTENERS,
)
@option("--once", is_flag=True, help="Leave after the sample instead of serving on.", section="What to do")
def demo(port: int, admin_port: int, once: bool) -> None:
    """Run the gateway with a pretend provider and sample traffic.

    No key and no network are needed. Three teams make a few calls, one of them until its budget is used up. After that the
    gateway serves on, with the pretend provider behind it, until Ctrl-C.
    """
    from gateway.cli.demonstration import demonstrate
    from gateway.loop import run

    try:
        sys.exit(run(demonstrate(port, admin_port, once=once)))
    except TimeoutError:
        fail(
            "a call did not come into the books in time.",
            "Is this machine busy with something else? Then try again.",
            NO,
        )
    except OSError as error:
        fail(
            f"cannot start: {error.strerror or error}.", "Other ports: tollgate demo --port 9080 --admin-port 9081", NO
        )
