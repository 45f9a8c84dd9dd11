"""Every route of the admin listener, without a gateway behind it: for what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.admin.changing import Changing
from gateway.admin.overview import Figures, Overview
from gateway.admin.routes import Route
from gateway.admin.server import AdminServer
from gateway.observe.pace import BY, WINDOWS
from gateway.overview import PERIODS
from gateway.store.rollups import USUAL

NOBODY: Any = None
"""Who would answer: nothing is asked."""
FIGURES = Figures(
    overview=NOBODY,
    periods=PERIODS,
    dimensions=USUAL,
    now=NOBODY,
    latency=NOBODY,
    windows=tuple(WINDOWS),
    latency_by=BY,
    budgets=NOBODY,
    is_full=NOBODY,
    listen=NOBODY,
)
PARTS = [*Overview(FIGURES).routes(), *Changing(NOBODY).routes()]
"""What the composition root adds to the listener's own."""


def listener(more: Sequence[Route] = ()) -> AdminServer:
    """With all of them, and ``more``."""
    return AdminServer("localhost", 0, [], NOBODY, more=[*PARTS, *more])
