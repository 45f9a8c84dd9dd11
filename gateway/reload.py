"""Reload: watch the config file, read it whole, apply it, or keep the old one and say why.

The file is looked at once a second, by content: a text editor's rename and a Kubernetes symlink swap are changes like any
other. SIGHUP asks for the same at once. What needs a restart (addresses, store) is refused, not half applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.loading import Problems, load, version
from gateway.settings import Settings

log = logging.getLogger("gateway.reload")

LOOK_SECONDS = 1.0


class Reloader:
    """Applies changes of one file. ``apply`` gets the new settings; when it raises, the old ones stay."""

    def __init__(self, path: Path, current: Settings, apply: Callable[[Settings], Awaitable[None]]) -> None:
        self._path = path
        self._current = current
        self._apply = apply
        self._seen = _digest(path)
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._watch(), name="reload")

    async def stop(self) -> None:
        """Stop watching; a reload that is under way is finished first or not applied at all."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def trigger(self) -> None:
        """Reload now, changed or not (SIGHUP)."""
        self._asked.set()

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), LOOK_SECONDS)
            asked = self._asked.is_set()
            self._asked.clear()
            digest = _digest(self._path)
            if asked or (digest != self._seen and digest is not None):
                self._seen = digest
                await self.reload()

    async def reload(self) -> bool:
        """Read and apply; False when the old settings stay."""
        try:
            settings = load(self._path, os.environ)
            _refuse_restart(self._current, settings)
            await self._apply(settings)
        except Problems as problems:
            for problem in problems.found:
                log.error("config not reloaded, the old one stays: %s", problem)
            return False
        except Exception as error:
            log.exception("config not reloaded, the old one stays: %s", type(error).__name__)
            return False
        self._current = settings
        log.info("config reloaded: version %s", version(settings))
        return True


def _refuse_restart(old: Settings, new: Settings) -> None:
    """Raise Problems for keys that only a restart can change."""
    fixed = {
        "front.host": (old.front.host, new.front.host),
        "front.port": (old.front.port, new.front.port),
        "admin": (old.admin, new.admin),
        "store": (old.store, new.store),
        "observability": (old.observability, new.observability),
        "retention": (old.retention, new.retention),
    }
    changed = [
        f"{name}: a change of this needs a restart" for name, (before, after) in fixed.items() if before != after
    ]
    if changed:
        raise Problems(changed)


def _digest(path: Path) -> str | None:
    """Of the content; None when there is nothing to read at the moment (a file being replaced)."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
