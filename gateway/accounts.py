"""Accounts, claims and holds: the words in which calls and stores talk about room.

A limit and a budget are the same thing here: an account, which is one scope in one window, counted in one unit. A call
makes claims on accounts; the store grants all of them or none. Amounts are integers: nano-dollars for money.
"""

from __future__ import annotations

from gateway.value import value


@value
class Account:
    """One scope in one window: ``team:search`` in ``day:2026-11-20``. Two numbers live under it: spent and held."""

    scope: str
    window: str

    def __str__(self) -> str:
        return f"{self.scope}/{self.window}"


def account_of(text: str) -> Account:
    """The account that was written as ``text``. No window has a slash in its name."""
    scope, _, window = text.rpartition("/")
    return Account(scope, window)


@value
class Claim:
    """So much of one account, asked for by one call.

    ``limit`` is None for an account that only counts (spend is recorded whether or not somebody limits it).
    ``budget`` is the name under which the limit stands in the config, ``resets_at`` the end of the window (Unix seconds;
    0 = never).
    """

    account: Account
    amount_nanousd: int
    limit_nanousd: int | None = None
    budget: str = ""
    window: str = ""
    resets_at: int = 0


@value
class Hold:
    """Claims that were granted. The amount stays set aside until it is settled, released, or its lease lapses."""

    call_id: str
    amount_nanousd: int
    claims: tuple[Claim, ...]
    least_left_nanousd: int | None = None
    """What the tightest limit still has beyond this hold when it was granted; None when nothing is limited."""


@value
class Balance:
    """What the store knows of one account."""

    account: Account
    spent_nanousd: int
    held_nanousd: int
