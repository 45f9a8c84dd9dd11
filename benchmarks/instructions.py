"""Instructions that a process has executed: a measure that noise of other machines on the same hardware does not move.

The kernel counts them where it may (perf_event_open(2)); a virtual machine without such counters, a container without the right, or
another processor than those of ``NUMBERS`` has none.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

NUMBERS = {"x86_64": 298, "aarch64": 241}
HARDWARE, INSTRUCTIONS, SIZE = 0, 1, 64
INHERIT, EXCLUDE_KERNEL, EXCLUDE_HV = 1 << 1, 1 << 5, 1 << 6


class Counter:
    """Counts from its creation on: the first thread of that process (0: this thread), and all threads and processes that those begin
    later. OSError where nobody counts.
    """

    def __init__(self, pid: int = 0) -> None:
        flags = INHERIT | EXCLUDE_KERNEL | EXCLUDE_HV
        attributes = struct.pack("=IIQQQQQIIQ", HARDWARE, SIZE, INSTRUCTIONS, 0, 0, 0, flags, 0, 0, 0)
        system = ctypes.CDLL(None, use_errno=True)
        number = NUMBERS.get(platform.machine(), -1)
        self._file = system.syscall(number, attributes, pid, -1, -1, 0)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "the kernel does not count instructions here")

    def read(self) -> int:
        """So far, in user mode."""
        return int.from_bytes(os.read(self._file, 8), "little")

    def close(self) -> None:
        os.close(self._file)
