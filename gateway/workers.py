"""The process, or several: signals, start, drain, exit status.

SIGTERM and SIGINT stop accepting, let running calls finish for ``front.shutdown_grace``, settle, and exit 0. A second one
breaks the rest off at once. SIGHUP reloads the config. With ``workers`` above 1 a supervisor (``supervisor``) hands all of that on;
SIGUSR2 renews its workers.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import math
import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from gateway import loop
from gateway.agreement import of_workers
from gateway.app import Gateway
from gateway.errors import Failure
from gateway.listening import open_listeners, port_of
from gateway.loading import Problems
from gateway.observe import logs, otel_env
from gateway.place import Place
from gateway.reload import as_written, digest_of, read_again
from gateway.settings import Settings
from gateway.supervisor import HURRY, READY, RELOAD, RETIRE, STOP, Supervisor

log = logging.getLogger("gateway.workers")
OTHER_PORTS = (
    "Another program has the port. Others: front.port and admin.port, or tollgate serve --port 9080 --admin-port 9081"
)

MAX_FOLDER_CHARS = 80
"""The name of a unix socket has room for 107 bytes."""
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def serve(settings: Settings, config_path: Path | None) -> int:
    """Run the gateway; returns the exit status: 0 after a drain, 1 when it could not start or go on, 3 when that is the store's fault."""
    count = settings.workers or usable_processors()
    if count == 1:
        return loop.run(_serve(settings, config_path))
    for key, _, fault in of_workers(settings):
        print(f"tollgate: error: cannot start: {key} {fault}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return 1
    return _supervise(settings, config_path, count)


def usable_processors() -> int:
    """So many may be used at a time: by the scheduler's mask, and by the limit of the container (cgroup v2)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_MAX.read_text(encoding="ascii").split()
        return max(1, min(count, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such limit: "max"
        return count


def collect_from_now_on() -> None:
    """What was made at the start stays: the collector need not look at it again and again. Calls leave no cycles; looking for them 30
    times a second cost 4 % of a call.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


# -- several ----------------------------------------------------------------------------------------------------------


class _Followed:
    """The newest settings that all workers could take over: what one that is started later starts with."""

    def __init__(self, settings: Settings, path: Path | None) -> None:
        self.settings = settings
        self._path = path
        self._seen = digest_of(path) if path is not None else None
        self._written = as_written(path, settings, os.environ) if path is not None else settings

    def look(self, asked: bool) -> None:
        """Read the file again if it has changed, or if somebody asked. Workers do the same, and the first one says how it went."""
        if self._path is None:
            return
        digest = digest_of(self._path)
        if asked or digest not in (None, self._seen):
            self._seen = digest
            try:
                self._written, self.settings = read_again(self._path, self._written, self.settings, os.environ)
            except Problems as problems:
                log.debug("the supervisor keeps the old config: %s", "; ".join(problems.found))


def _supervise(settings: Settings, path: Path | None, count: int) -> int:
    front, admin = settings.front, settings.admin
    with ExitStack() as stack:
        try:
            listeners = open_listeners(front.host, front.port, count)
            [admin_listeners] = open_listeners(admin.host, admin.port, 1)
        except OSError as error:
            print(f"tollgate: error: cannot start: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
            return 1
        ports = port_of(listeners), port_of([admin_listeners])
        folder = _private_folder()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        told = settings.observability.logging
        logs.setup(told.level, told.format)
        settings = replace(settings, front=replace(front, port=ports[0]), admin=replace(admin, port=ports[1]))
        followed = _Followed(settings, path)
        return Supervisor(
            lambda place, line: _work(followed.settings, path, place, line),
            followed.look,
            grace_s=front.shutdown_grace,
            front=listeners,
            admin=admin_listeners,
            folder=folder,
        ).run()


def _private_folder() -> Path:
    """Nobody else's, and not to be guessed."""
    found = Path(tempfile.mkdtemp(prefix="tollgate-"))
    if len(str(found)) > MAX_FOLDER_CHARS:
        found.rmdir()
        found = Path(tempfile.mkdtemp(prefix="tollgate-", dir="/tmp"))
    return found


def _work(settings: Settings, path: Path | None, place: Place, line: socket.socket) -> int:
    """What a worker does."""
    if "OTEL_RESOURCE_ATTRIBUTES" in os.environ:
        os.environ["OTEL_RESOURCE_ATTRIBUTES"] = otel_env.of_worker(os.environ, place.number)
    supervisor = os.getppid()
    status = loop.run(_serve(settings, path, place, line))
    if os.getppid() != supervisor and not list(place.folder.glob("*.sock")):
        shutil.rmtree(place.folder, ignore_errors=True)  # the last one out
    return status


# -- one --------------------------------------------------------------------------------------------------------------


class _Orders:
    """What the process was told to do. Alone it hears signals; a worker hears its supervisor, and SIGTERM."""

    def __init__(self, line: socket.socket | None) -> None:
        self.stop = asyncio.Event()
        self.is_replaced = False
        self.gateway: Gateway | None = None
        self._line = line
        self._loop = asyncio.get_running_loop()
        if line is not None:
            line.setblocking(False)
            self._loop.add_reader(line, self._hear)
            self._loop.add_signal_handler(signal.SIGTERM, self.stop.set)  # the supervisor's may reach all of its group

    def obey(self, gateway: Gateway) -> None:
        """From now on there is something to stop."""
        self.gateway = gateway
        if self._line is None:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._stop)
        self._loop.add_signal_handler(signal.SIGHUP, gateway.reload)

    def _stop(self) -> None:
        if self.stop.is_set() and self.gateway is not None:
            self.gateway.hurry()
        self.stop.set()

    def _hear(self) -> None:
        assert self._line is not None  # noqa: S101 - for the type checker
        try:
            words = self._line.recv(64)
        except OSError:
            words = b""
        if not words:
            log.warning("the supervisor is gone: this worker drains and ends")
            self._loop.remove_reader(self._line)
            self.stop.set()
        for word in (bytes([each]) for each in words):
            if word in (STOP, RETIRE):
                self.is_replaced = word == RETIRE
                self.stop.set()
            elif word == HURRY and self.gateway is not None:
                self.stop.set()
                self.gateway.hurry()
            elif word == RELOAD and self.gateway is not None:
                self.gateway.reload()


async def _serve(
    settings: Settings, config_path: Path | None, place: Place | None = None, line: socket.socket | None = None
) -> int:
    orders = _Orders(line)
    gateway: Gateway | None = None
    try:
        gateway = Gateway(settings, config_path, place=place)
        await gateway.start()
    except (OSError, Failure) as error:
        hint = f"\n{OTHER_PORTS}" if getattr(error, "errno", None) == errno.EADDRINUSE else ""
        print(f"tollgate: error: cannot start: {error}{hint}", file=sys.stderr)  # noqa: T201 - there is no log yet
        if gateway is not None:
            await gateway.stop(grace_s=0)
        return 3 if isinstance(error, Failure) else 1
    orders.obey(gateway)
    collect_from_now_on()
    if line is not None:
        line.send(READY)
    await orders.stop.wait()
    await gateway.stop(grace_s=settings.front.shutdown_grace, replaced=orders.is_replaced)
    log.info("stopped")
    return 0
