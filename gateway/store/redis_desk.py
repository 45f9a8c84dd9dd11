"""What operators decide, in Redis, without a running gateway: for the command line. Running ones follow within a second."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from gateway.accounts import Account, Balance
from gateway.changes import Change, Changed, Conflict, Entry, check
from gateway.store import redis_queries
from gateway.store.keys import Keys
from gateway.store.redis_entries import Entries
from gateway.store.redis_link import ERRORS, Link, as_failure

T = TypeVar("T")


class RedisDesk:
    """See ``gateway.store.Store`` for what each method promises."""

    def __init__(self, link: Link, prefix: str) -> None:
        self._link = link
        self._keys = Keys(prefix)
        self._entries = Entries(link, self._keys)

    async def open(self) -> None:
        """Connect."""
        await self._ask(self._link.open())

    async def close(self) -> None:
        """Disconnect."""
        await self._link.close()

    async def change(self, changes: Sequence[Change]) -> list[Entry] | Conflict:
        """All of them or none."""
        check(changes)
        return await self._ask(self._entries.change(changes))

    async def entries(self, since: int = 0) -> list[Entry]:
        """Those that changed after a revision."""
        return await self._ask(self._entries.since(since))

    async def changes(self, limit: int, before: int = 0) -> list[Changed]:
        """The log, newest first."""
        return await self._ask(self._entries.log(limit, before))

    async def read(self, accounts: Sequence[Account]) -> list[Balance]:
        """Balances, in the order asked for."""
        names = [self._keys.account(str(account)) for account in accounts]
        found = await self._ask(redis_queries.balances(self._link, names))
        return [Balance(account, *each) for account, each in zip(accounts, found, strict=True)]

    async def _ask(self, asked: Awaitable[T]) -> T:
        try:
            return await asked
        except ERRORS as error:
            raise as_failure(error) from None
