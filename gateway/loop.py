"""The event loop that serves: uvloop's where there is one (Linux, macOS), else asyncio's own.

Only the gateway's own process runs on it. Commands that end at once keep asyncio's, which is there already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """As ``asyncio.run``."""
    with asyncio.Runner(loop_factory=_factory()) as runner:
        return runner.run(main)


def _factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on Windows, and only by those who serve
    except ImportError:
        return None
    return uvloop.new_event_loop
