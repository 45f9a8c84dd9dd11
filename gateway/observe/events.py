"""What an operator may want to be woken for: an Event, told once when it begins and once when it is over.

Whoever notices something tells it through a ``Tell``; who is told (``alerts``, and the live page) is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.value import value

KINDS = ("budget", "target", "upstream", "store", "pricing")
"""What ``alerts.webhooks[].on`` can name."""


@value
class Event:
    """``key`` names what it is about, the same at its end as at its beginning: ``upstream/openai``, ``budget/team:a/day/80``.

    ``state`` is firing, resolved, or told (it has no end). ``severity`` is info, warning or critical. ``facts`` are what a
    machine reads beside the sentence: names and decimal texts, never secrets, never what was said in a call.
    """

    kind: str
    key: str
    state: str
    severity: str
    text: str
    facts: tuple[tuple[str, str], ...] = ()


Tell = Callable[[Event], None]
"""Takes an event. Raises nothing, waits for nothing."""
