"""Reload: watch the config file, read it whole, apply it, or keep the old one and say why.

The file is looked at once a second, by content: an editor's rename and a Kubernetes symlink swap are changes like any other,
a touch is none. SIGHUP asks for the same at once; files that the config names (secrets, prices) are read again with it.
Laws: what is wrong in any part changes nothing; what needs a restart (``restart`` in ``settings``) is refused, not half
applied; one line in the log tells how it went.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.canonical import version
from gateway.loading import Problems, load
from gateway.settings import Settings

log = logging.getLogger("gateway.reload")

LOOK_SECONDS = 1.0


class Reloader:
    """Applies changes of one file. ``current`` is what runs: the file, with what the command line changed in it.

    ``apply`` gets the new settings; when it raises, the old ones stay.
    """

    def __init__(
        self,
        path: Path,
        current: Settings,
        apply: Callable[[Settings], Awaitable[None]],
        *,
        environ: Mapping[str, str] = os.environ,
        aloud: bool = True,
    ) -> None:
        """``aloud``: whether the log tells what becomes of a file; of several that look at one, the first does."""
        self._aloud = aloud
        self._path = path
        self._current = current
        self._apply = apply
        self._environ = environ
        self._seen = digest_of(path)
        self._written = as_written(path, current, environ)
        self._asked = asyncio.Event()
        self._ending = False
        self._task: asyncio.Task[None] | None = None
        self.failed_at = ""
        """When the newest reload failed (RFC 3339); "" after one that did not."""

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._watch(), name="reload")

    async def stop(self) -> None:
        """Stop watching. A reload that is under way is finished first: half of one is worse than either."""
        self._ending = True
        self._asked.set()
        if self._task is not None:
            await self._task
            self._task = None

    def trigger(self) -> None:
        """Reload now, changed or not (SIGHUP)."""
        self._asked.set()

    async def reload(self) -> bool:
        """Read and apply; False when the old settings stay."""
        is_new = await self._reload()
        self.failed_at = "" if is_new else datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return is_new

    async def _reload(self) -> bool:
        try:
            again = (self._path, self._written, self._current, self._environ)
            settings, running = await asyncio.to_thread(read_again, *again)
            await self._apply(running)
        except Problems as problems:
            level = logging.ERROR if self._aloud else logging.DEBUG
            log.log(level, "config not reloaded, the old one stays: %s", "; ".join(problems.found))
            return False
        except Exception as error:
            log.exception("config not reloaded, the old one stays: %s", error)  # noqa: TRY401 - it is the reason
            return False
        self._current, self._written = running, settings
        log.log(logging.INFO if self._aloud else logging.DEBUG, "config reloaded: version %s", version(running))
        return True

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), LOOK_SECONDS)
            if self._ending:
                return
            asked = self._asked.is_set()
            self._asked.clear()
            digest = await asyncio.to_thread(digest_of, self._path)
            if asked or digest not in (None, self._seen):
                self._seen = digest
                await self.reload()


def as_written(path: Path, running: Settings, environ: Mapping[str, str]) -> Settings:
    """What the file says, without the command line's part: a key needs a restart when the file's own value changes."""
    try:
        return load(path, environ)
    except Problems:
        return running


def read_again(
    path: Path, written: Settings, running: Settings, environ: Mapping[str, str]
) -> tuple[Settings, Settings]:
    """What the file says now, and what would run by it, given what it said and what runs. Problems when it cannot be taken over."""
    settings = load(path, environ)
    _refuse_restart(written, settings)
    return settings, _with_fixed(running, settings)


def _refuse_restart(old: Settings, new: Settings) -> None:
    """Raise Problems for changed keys that only a restart can change."""
    changed = [f"{key}: a change of this needs a restart" for key in _changed(old, new, "", fixed=False)]
    if changed:
        raise Problems(changed)


def _changed(old: Any, new: Any, path: str, *, fixed: bool) -> Iterator[str]:
    for each in fields(old):
        before, after = getattr(old, each.name), getattr(new, each.name)
        is_fixed = fixed or each.metadata["restart"]
        if is_dataclass(before):
            yield from _changed(before, after, f"{path}{each.name}.", fixed=is_fixed)
        elif is_fixed and before != after:
            yield path + each.name


def _with_fixed(running: Any, new: Any, *, fixed: bool = False) -> Any:
    """The new settings, with what cannot change as it runs."""
    kept = {}
    for each in fields(running):
        before, after = getattr(running, each.name), getattr(new, each.name)
        is_fixed = fixed or each.metadata["restart"]
        if is_dataclass(before):
            kept[each.name] = _with_fixed(before, after, fixed=is_fixed)
        elif is_fixed:
            kept[each.name] = before
    return replace(new, **kept)


def digest_of(path: Path) -> str | None:
    """Of the content; None when there is nothing to read at the moment (a file being replaced)."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
