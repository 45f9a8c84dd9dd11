"""How commands decide: in the store that the config names, with or without a running gateway, in the name of whoever is logged in."""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.cli.config import read_config
from gateway.cli.manual import option
from gateway.cli.output import NO, UNREACHABLE, WRONG_USE, fail

if TYPE_CHECKING:
    from gateway.changes import Asked
    from gateway.desk import Desk
    from gateway.settings import Settings

T = TypeVar("T")
EXITS = {
    NO: "It is not there, or does not go together with what there is.",
    WRONG_USE: "What was asked for is not right, or the config is not.",
    UNREACHABLE: "The store cannot be reached.",
}
reason_option = option("--reason", default="", metavar="TEXT", help="Why; it stands in the log of changes.")


def decide(config: Path | None, work: Callable[[Desk], Awaitable[T]]) -> tuple[T, Settings]:
    """What ``work`` comes to at the desk of the config's store. Ends the command where it cannot be done."""
    from gateway.changes import Denied
    from gateway.errors import Failure

    settings, _ = read_config(config)
    try:
        return asyncio.run(_at_desk(settings, work)), settings
    except Denied as denied:
        told = "\n".join(f"--{field.replace('_', '-')}: {fault}" for field, fault in denied.problems)
        fail(told or denied.message, status=WRONG_USE if denied.why == "unfit" else NO)
    except Failure as failure:
        hint = "--config names the config of the gateways whose store is meant."
        fail(f"{settings.store.url}: {failure.message}", hint, UNREACHABLE)


async def _at_desk(settings: Settings, work: Callable[[Desk], Awaitable[T]]) -> T:
    from gateway.decided import NOTHING, Decided
    from gateway.desk import Desk
    from gateway.stores import make_desk

    store = make_desk(settings)
    known = NOTHING

    async def current() -> Decided:
        nonlocal known
        known = known.following(await store.entries(known.revision))
        return known

    try:
        await store.open()
        return await work(Desk(store, lambda: settings, current))
    finally:
        await store.close()


def asked(reason: str) -> Asked:
    """Whoever is logged in."""
    from gateway.changes import Asked

    return Asked(f"cli:{_user()}@{socket.gethostname()}", reason)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "-"
