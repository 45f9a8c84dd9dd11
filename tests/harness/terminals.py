"""The command in a terminal: a pty of a width of one's own, so that what a person sees can be looked at."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAINT = re.compile(r"\x1b\[[0-9;]*m")
"""Colours and weights, the only thing that may steer a terminal."""


def seen(
    arguments: Sequence[str],
    folder: Path,
    columns: int = 80,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = (sys.executable, "-m", "gateway"),
    during: Callable[[int, str], None] = lambda descriptor, text: None,
) -> tuple[int, str]:
    """Exit status and everything that came out. ``during`` gets the terminal and what has come so far, after each piece."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    around = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [*program, *arguments],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**around, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **(env or {})},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - or Ctrl-C reaches nobody
    )
    os.close(theirs)
    raw = b""
    try:
        while piece := _read(ours):
            raw += piece
            during(ours, raw.decode(errors="replace"))
        return process.wait(timeout=20), raw.decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
            process.wait()


def _read(descriptor: int) -> bytes:
    """A piece; nothing at the end, which Linux tells as an error."""
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:
        return b""
