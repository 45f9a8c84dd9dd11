"""The place of a process among several that serve one front: which one it is, what it listens on, where the others are."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from gateway.value import value


@value
class Place:
    """``number`` counts from 0: the first worker speaks for all to operators. ``owner`` is what this process is called in the
    store; one that takes a dead one's place bears its name, so that what it held is charged at once. ``folder`` is private to
    the processes of one supervisor. Sockets listen already and are nobody else's to accept from, but for the worker before.
    """

    number: int
    count: int
    owner: str
    folder: Path
    front: tuple[socket.socket, ...]
    admin: tuple[socket.socket, ...]

    @property
    def is_first(self) -> bool:
        """Whether it is the one that operators ask, and that tells what all have to tell."""
        return self.number == 0

    @property
    def name(self) -> str:
        """What this process is called among the others: no two of all times have the same."""
        return f"{self.number}-{os.getpid()}"


def owner_at(place: Place | None) -> str:
    """What this process is called in the store."""
    return place.owner if place is not None else f"{socket.gethostname()}-{os.getpid()}"
