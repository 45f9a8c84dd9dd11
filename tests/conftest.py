"""What holds for every test: values are frozen for real (in service they are frozen for the type checker only)."""

from __future__ import annotations

import os
import signal

# started in the background of a script, it would be ignored by children, too
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["TOLLGATE_FROZEN"] = "1"  # read by gateway.value when the first value is defined, hence before any import

from hypothesis import HealthCheck, settings

settings.register_profile("tollgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tollgate")
"""Tests are not timed: a machine that is busy with something else must not turn them red."""
