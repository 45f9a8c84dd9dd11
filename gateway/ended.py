"""Tasks that are told to end, and do."""

from __future__ import annotations

import asyncio

AGAIN_S = 1.0
"""Time for what a task does at its end, which is cancelled as well when it is asked again."""


async def ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel them until they are over: a wait that is over in the same moment swallows a cancellation (wait_for of Python 3.11)."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=AGAIN_S)
