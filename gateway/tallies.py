"""Tallies: how many calls a target spoke of and how many of them missed it, by five minutes.

Observe makes and reads them, stores add them up. They are additive, so that the sum over all processes is right in whatever
order their parts come in. They are no money: what a killed process had not yet handed over (seconds) is not made good.
"""

from __future__ import annotations

from typing import NamedTuple

BUCKET_S = 300
KEPT_S = 8 * 86_400
"""The longest window that is looked at, and a day."""


class Tally(NamedTuple):
    """``bucket`` is when its five minutes began, in Unix seconds; ``missed`` are among ``calls``."""

    bucket: int
    target: str
    calls: int
    missed: int


def bucket_of(unix_s: float) -> int:
    """The beginning of the five minutes that a moment lies in."""
    return int(unix_s) // BUCKET_S * BUCKET_S
