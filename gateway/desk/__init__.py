"""Where operators decide: what is asked for is checked, written as one change, and answered with what there is now.

The same for the admin API and for the command line, each with its own way to know who asks. A kind of decision is a file. Nothing is
carried out here: every process hears of it from the store (``follower``).
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from gateway.accounts import Account, Balance
from gateway.admission.keys import FORM, PREFIX
from gateway.changes import MAX_BODY_BYTES, Asked, Change, Changed, Conflict, Denied, Entry
from gateway.decided import Decided
from gateway.settings import Settings
from gateway.value import value

__all__ = ["Asked", "Desk", "Store", "change", "masked", "new_id", "now_text", "page", "place"]

RETRIES = 8
KEY_TEXT = re.compile(FORM.pattern.decode())
MAX_REASON_CHARS = 500
LETTERS = string.ascii_letters + string.digits
ID_CHARS = 12
MAX_DIGITS = 15


class Store(Protocol):
    """The part of a store that decisions need."""

    async def change(self, changes: Sequence[Change]) -> list[Entry] | Conflict:
        """See ``gateway.store``."""

    async def changes(self, limit: int, before: int = 0) -> list[Changed]:
        """See ``gateway.store``."""

    async def read(self, accounts: Sequence[Account]) -> list[Balance]:
        """See ``gateway.store``."""


@value
class Desk:
    """``current`` tells what is decided now, asked of the store; ``settings`` those in force."""

    store: Store
    settings: Callable[[], Settings]
    current: Callable[[], Awaitable[Decided]]

    async def decide(self, make: Callable[[Decided], Sequence[Change]]) -> Decided:
        """Carry out the changes that ``make`` makes of what is decided; made anew when somebody else was faster. None at all is
        right too. Denied, Failure.
        """
        for _ in range(RETRIES):
            changes = make(await self.current())
            if not changes or not isinstance(await self.store.change(changes), Conflict):
                return await self.current()
        raise Denied("conflict", "others changed it at the same time: look at what there is now, and try again")


def change(
    asked: Asked,
    action: str,
    kind: str,
    name: str,
    body: Mapping[str, Any] | None,
    expected: int | None,
    of_config: Mapping[str, Any] | None = None,
) -> Change:
    """A change as the store takes it; ``expected`` None = there is no entry yet, and ``of_config`` is what the log tells to have held
    before. Denied for what no entry can hold.
    """
    if len(asked.reason) > MAX_REASON_CHARS:
        raise Denied("unfit", "", [("reason", f"must have at most {MAX_REASON_CHARS} characters")])
    text = orjson.dumps(dict(body)) if body is not None else None
    if text is not None and len(text) > MAX_BODY_BYTES:
        raise Denied("unfit", "", [("", f"comes to more than {MAX_BODY_BYTES} bytes")])
    before = orjson.dumps(dict(of_config)) if of_config and expected is None else None
    return Change(kind, name, text, now_text(), asked.by, action, masked(asked.reason), expected or 0, before)


def masked(text: str) -> str:
    """Without the gateway keys that somebody has written into it (people like to say which one it is about), and without what would
    steer a terminal.
    """
    return "".join(each if each.isprintable() else " " for each in KEY_TEXT.sub(f"{PREFIX}***", text))


def now_text() -> str:
    """Now, RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id(prefix: str) -> str:
    """A name for an entry that has none of its own: nobody can tell one from another's."""
    return prefix + "".join(secrets.choice(LETTERS) for _ in range(ID_CHARS))


def page(rows: Sequence[Mapping[str, Any]], limit: int, cursor: str) -> tuple[list[Mapping[str, Any]], str | None]:
    """Of a list that is in memory: so many rows from ``cursor`` on, and the cursor of the next ones. One that is not known is the end."""
    start = place(cursor, len(rows))
    end = start + limit
    return list(rows[start:end]), (str(end) if end < len(rows) else None)


def place(cursor: str, end: int) -> int:
    """The number that a cursor stands for; ``end`` for what is none."""
    return (
        int(cursor or 0) if not cursor or (cursor.isascii() and cursor.isdigit() and len(cursor) <= MAX_DIGITS) else end
    )
