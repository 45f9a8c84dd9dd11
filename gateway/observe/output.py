"""Output that never waits: a reader that stands still loses lines, and no call notices.

A pipe whose reader has stopped blocks the writer, and with it the event loop and every call. So the kernel is asked before
each write whether there is room (poll(2): a pipe that is ready takes PIPE_BUF bytes at once), what finds none is kept up to
a bound, and what is beyond the bound is dropped and counted. One poll and one write a batch in the normal case: 2 us.
"""

from __future__ import annotations

import asyncio
import io
import os
import select
import stat
from typing import BinaryIO

PIPE_BYTES = select.PIPE_BUF
MAX_KEPT_BYTES = 4 << 20
RETRY_SECONDS = 0.1


class Output:
    """Lines to a stream. ``dropped`` counts those that were lost."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._fd = _descriptor(stream)
        self._slice = MAX_KEPT_BYTES if self._fd is None or stat.S_ISREG(os.fstat(self._fd).st_mode) else PIPE_BYTES
        self._poll = select.poll()
        if self._fd is not None:
            self._poll.register(self._fd, select.POLLOUT)
        self._kept = bytearray()
        self._retry: asyncio.TimerHandle | None = None
        self.dropped = 0

    def write(self, lines: list[bytes]) -> None:
        """Write what there is room for, keep the rest for later. OSError when the other end is gone."""
        if self._fd is None:
            self._stream.write(b"".join(lines))
            self._stream.flush()
            return
        for line in lines:
            if len(self._kept) + len(line) <= MAX_KEPT_BYTES:
                self._kept += line
            else:
                self.dropped += 1
        self._push(self._fd)
        if self._kept and self._retry is None:
            self._later()

    def _push(self, fd: int) -> None:
        """As much as goes without waiting. What cannot be written at all is no use to keep."""
        while self._kept and self._poll.poll(0):
            try:
                written = os.write(fd, self._kept[: self._slice])
            except OSError:
                self.dropped += self._kept.count(b"\n")
                self._kept.clear()
                raise
            del self._kept[:written]

    def _later(self) -> None:
        try:
            self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._again)
        except RuntimeError:  # no loop: the next lines take these along
            self._retry = None

    def _again(self) -> None:
        self._retry = None
        try:
            if self._fd is not None:
                self._push(self._fd)
        except OSError:
            return
        if self._kept:
            self._later()


def _descriptor(stream: BinaryIO) -> int | None:
    try:
        stream.flush()
        return stream.fileno()
    except (io.UnsupportedOperation, AttributeError, OSError, ValueError):
        return None
