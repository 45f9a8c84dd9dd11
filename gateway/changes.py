"""What operators decide while the gateway runs: keys, budgets, resets, annotations. Stands in the store, beside what the config says.

An entry is a JSON object under a kind and a name. Each change of one gets the next revision of the whole store, which is the entry's
version from then on, and a line in a log that is never rewritten. An entry that is taken away leaves its version behind, so that who
asks for what is new hears of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.value import value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_BODY_BYTES = 64 * 1024
MAX_AT_ONCE = 100


@value
class Entry:
    """One thing that was decided. ``body`` is a JSON object; None = it was taken away at this ``version``."""

    kind: str
    name: str
    version: int
    body: bytes | None


@value
class Change:
    """What an operator asks for. ``expected`` is the version that the entry must have (0: there must be none); None = any."""

    kind: str
    name: str
    body: bytes | None
    at: str
    """RFC 3339, UTC."""
    by: str
    """Whoever asks: the name of a token or a user, never a secret."""
    action: str
    """Such as key.create."""
    reason: str = ""
    expected: int | None = None
    before: bytes | None = None
    """For the log, where there was no entry: a JSON object of what held until then, which is what the config says. None = nothing."""


@value
class Changed:
    """A line of the log. ``before`` is the entry that there was, else what the change says of it; None in ``after`` = it was taken away."""

    revision: int
    at: str
    by: str
    action: str
    kind: str
    name: str
    before: bytes | None
    after: bytes | None
    reason: str


@value
class Asked:
    """Who asks for something to be changed, and why. ``check`` gets the version of the entry that is meant (None = there is none), and
    raises if that is not the one that was expected.
    """

    by: str
    reason: str = ""
    check: Callable[[int | None], None] = lambda version: None


@value
class Conflict:
    """Nothing was changed: an entry has another version (0: there is none) than the one that was expected."""

    kind: str
    name: str
    version: int


def check(changes: Sequence[Change]) -> None:
    """ValueError for what no store takes."""
    if not 0 < len(changes) <= MAX_AT_ONCE:
        raise ValueError(f"from 1 to {MAX_AT_ONCE} changes can be made at once")
    if len({(each.kind, each.name) for each in changes}) < len(changes):
        raise ValueError("an entry can be changed once at a time")
    for each in changes:
        if not each.name or len(each.name) > 256 or not each.kind.isalnum():
            raise ValueError("an entry has a kind and a name of at most 256 characters")
        if max(len(each.body or b""), len(each.before or b"")) > MAX_BODY_BYTES:
            raise ValueError(f"an entry has at most {MAX_BODY_BYTES} bytes")


class Denied(Exception):  # noqa: N818 - a no is not an error of ours
    """What an operator asked for is not done. ``why`` is absent (there is no such thing), conflict (it does not go together with what
    there is) or unfit (``problems``: what is wrong with which field, without its value).
    """

    def __init__(self, why: str, message: str, problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.why = why
        self.message = message
        self.problems = tuple(problems)
