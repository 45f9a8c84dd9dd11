"""The process: signals, start, drain, exit status.

SIGTERM and SIGINT stop accepting, let running calls finish for ``front.shutdown_grace``, settle, and exit 0. A second one
breaks the rest off at once. SIGHUP reloads the config.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import sys
from pathlib import Path

from gateway.app import Gateway
from gateway.errors import Failure
from gateway.settings import Settings

log = logging.getLogger("gateway.workers")
OTHER_PORTS = (
    "Another program has the port. Others: front.port and admin.port, or tollgate serve --port 9080 --admin-port 9081"
)


def serve(settings: Settings, config_path: Path | None) -> int:
    """Run the gateway in this process; returns its exit status: 0 after a drain; 1 when it could not start, 3 when that is the store's fault."""
    return asyncio.run(_serve(settings, config_path))


async def _serve(settings: Settings, config_path: Path | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    gateway: Gateway | None = None
    try:
        gateway = Gateway(settings, config_path)
        await gateway.start()
    except (OSError, Failure) as error:
        hint = f"\n{OTHER_PORTS}" if getattr(error, "errno", None) == errno.EADDRINUSE else ""
        print(f"tollgate: error: cannot start: {error}{hint}", file=sys.stderr)  # noqa: T201 - there is no log yet
        if gateway is not None:
            await gateway.stop(grace_s=0)
        return 3 if isinstance(error, Failure) else 1

    def on_stop() -> None:
        if stop.is_set():
            gateway.hurry()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_stop)
    loop.add_signal_handler(signal.SIGHUP, gateway.reload)
    # what was built at the start stays: the collector need not look at it again and again
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # calls leave few cycles; looking for them 30 times a second cost 4 % of a call
    await stop.wait()
    await gateway.stop(grace_s=settings.front.shutdown_grace)
    log.info("stopped")
    return 0
