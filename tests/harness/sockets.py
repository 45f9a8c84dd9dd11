"""Transports without a network: what is written, and what the other side could see of the end.

Owns the boundary below our protocols, as asyncio promises it: after ``close`` or ``abort`` nothing is delivered and
``connection_lost`` comes once, later. Must not know what is written.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def _connected() -> tuple[socket.socket, socket.socket]:
    """A real pair, for what only a socket answers; nothing ever travels on it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


class Transport(asyncio.Transport):
    """One end. ``waiting`` is how much of what was written the other side has not taken yet."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.waiting = 0
        self.closed = False
        self.aborted = False
        self.reading = True
        self.on_write: Callable[[], None] | None = None
        """Called once, within the next write: asyncio tells there and then that the other side is slow."""

    @property
    def sent(self) -> bytes:
        """Everything that was written."""
        return b"".join(self.written)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.closed, "written after the end"
        self.written.append(bytes(data))
        told, self.on_write = self.on_write, None
        if told is not None:
            told()

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed without a pause"
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The test says when the other side is slow."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _connected()[0] if name == "socket" else default
