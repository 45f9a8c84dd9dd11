"""What several processes notice, told once: a thing begins with the first that sees it and is over when none sees it any more."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from gateway.observe.events import Event, Tell


class Chorus:
    """``tell`` gets what is to be told; who hears the same twice is its business (``repeats``)."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._voices: dict[str, dict[str, Event]] = {}
        """Of what lasts, by key: who says so."""

    def hear(self, who: str, event: Event) -> None:
        """One process tells something."""
        if event.state == "resolved":
            voices = self._voices.get(event.key, {})
            voices.pop(who, None)
            if voices:
                return  # others still see it
            self._voices.pop(event.key, None)
        elif event.state == "firing":
            self._voices.setdefault(event.key, {})[who] = event
        self._tell(event)

    def keep(self, present: Collection[str]) -> None:
        """Processes that are gone see nothing any more."""
        for key, voices in list(self._voices.items()):
            for who in [who for who in voices if who not in present]:
                event = voices.pop(who)
                if not voices:
                    del self._voices[key]
                    text = f"the worker that told of it has ended: {event.text}"
                    self._tell(replace(event, state="resolved", text=text))
