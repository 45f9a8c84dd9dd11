"""Which records somebody wants to see, and a page of them: what the admin API asks and every store answers alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.value import value

LOOKED_AT_MOST = 2000
"""Records that are looked at for one page. What is rare is found over several pages, each of which takes as long as any other."""
EQUAL = ("correlation_id", "team", "user", "agent", "key_name", "upstream", "outcome")
"""Fields that have to be what is wanted, letter by letter."""


@value
class Selection:
    """All of it has to hold; None (and "" for a moment) is whatever there is. "" is for records in which the field is empty."""

    correlation_id: str | None = None
    team: str | None = None
    user: str | None = None
    agent: str | None = None
    key_name: str | None = None
    upstream: str | None = None
    outcome: str | None = None
    model: str | None = None
    """The one that was asked for, or the one that answered."""
    status: tuple[int, int] | None = None
    """The least and the most."""
    since: str = ""
    """RFC 3339, UTC, milliseconds, as in ``started_at``; and ``until``, which is not part of it."""
    until: str = ""

    def equal(self) -> dict[str, str]:
        """What is wanted of the fields in ``EQUAL``."""
        return {name: wanted for name in EQUAL if (wanted := getattr(self, name)) is not None}

    def takes(self, record: Mapping[str, Any]) -> bool:
        """Whether it holds for a record."""
        return (
            all(record[name] == wanted for name, wanted in self.equal().items())
            and (self.model is None or self.model in (record["model_requested"], record["model_served"]))
            and (self.status is None or self.status[0] <= record["status"] <= self.status[1])
            and (not self.until or record["started_at"] < self.until)
            and self.since <= record["started_at"]
        )


@value
class Page:
    """``records``, newest first. ``following`` is the call id after which the list goes on: that of the last record that was looked at,
    so that a page may be short, or empty, and still not be the last; None when there is no more.
    """

    records: list[dict[str, Any]]
    following: str | None
