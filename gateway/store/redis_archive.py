"""The books in Redis, opened for reading only: what audits and reports go through. The same questions as ``archive.Archive``.

Records come an hour at a time, in the order of their start within it, so that nothing large is kept in memory.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from gateway.accounts import Balance
from gateway.call import CORRECTED, from_json
from gateway.store import Spend, redis_listing, redis_queries
from gateway.store.archive import LAST
from gateway.store.keys import Keys
from gateway.store.redis_link import ERRORS, Link, as_failure

T = TypeVar("T")
PAGE_CALLS = 500
LOOKED_AT = 2000


class RedisArchive:
    """A context manager. Failure(STORE_UNAVAILABLE) where the server cannot be asked."""

    def __init__(self, link: Link, prefix: str) -> None:
        self._link = link
        self._keys = Keys(prefix)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._runner.__enter__()
        try:
            self._run(self._link.open())
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._link.close())
        self._runner.__exit__(kind, error, trace)

    def _run(self, asked: Awaitable[T]) -> T:
        async def answer() -> T:
            return await asked

        try:
            return self._runner.run(answer())
        except ERRORS as error:
            raise as_failure(error) from None

    def count(self, since: str = "", until: str = LAST) -> int:
        """How many records there are in the hours that two moments touch."""
        return self._run(redis_queries.count(self._link, self._keys, since, until))

    def records(self, since: str = "", until: str = LAST) -> Iterator[dict[str, Any]]:
        """Those between two moments (RFC 3339, the second one exclusive), oldest first."""
        for hour in self._run(redis_queries.hours(self._link, self._keys)):
            if not since[:13] <= hour < until:
                continue
            for text in self._run(redis_queries.of_hour(self._link, self._keys, hour)):
                record = from_json(text.partition(b"\n")[2])
                if since <= record["started_at"] < until:
                    yield record

    def record(self, call_id: str) -> dict[str, Any] | None:
        """One of them."""
        return self._run(redis_queries.find(self._link, self._keys, call_id))

    def newest(self, correlation_id: str = "") -> Iterator[dict[str, Any]]:
        """All of them, or those of one correlation id, newest first."""
        before, page = "", [{"call_id": ""}]
        while page:
            asked = redis_queries.recent(self._link, self._keys, PAGE_CALLS, before, correlation_id)
            page = self._run(asked)
            yield from page
            before = page[-1]["call_id"] if page else ""

    def settled(self, after: frozenset[str] | None) -> tuple[list[dict[str, Any]], frozenset[str]]:
        """Those that were booked after a mark, oldest first, and the next mark; None: nothing, and the mark of now. Looks at the newest
        ``LOOKED_AT`` calls: one that ran while so many others began is not seen.
        """
        ids = self._run(redis_listing.newest(self._link, self._keys, LOOKED_AT, "", ""))
        if after is None:
            return [], frozenset(ids)
        new = [call_id for call_id in reversed(ids) if call_id not in after]
        found = self._run(redis_queries.records(self._link, self._keys, new)) if new else []
        return [from_json(text.partition(b"\n")[2]) for text in found], frozenset(ids)

    def corrections(self) -> dict[str, list[dict[str, Any]]]:
        """All records that correct another one, by its call id, in their own order."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in self.records():
            if record["outcome"] == CORRECTED:
                found[record["corrects"]].append(record)
        return {call: sorted(each, key=lambda record: len(str(record["call_id"]))) for call, each in found.items()}

    def book(self, version: str) -> bytes | None:
        """The packed price book of a version; None when it was not kept."""
        found: bytes | None = self._run(self._link.commands.hget(self._keys.books, version))
        return found

    def differences(self) -> list[Balance]:
        """See ``redis_queries.differences``."""
        return self._run(redis_queries.differences(self._link, self._keys))

    def spend(self, since: str, until: str) -> list[Spend]:
        """See ``redis_queries.spend``."""
        return self._run(redis_queries.spend(self._link, self._keys, since, until))

    def spend_span(self) -> tuple[str, str] | None:
        """The first and the last day of which there are sums; None when there are none."""
        names = self._run(redis_queries.days(self._link, self._keys))
        return (names[0], names[-1]) if names else None

    def spend_differences(self) -> list[Spend]:
        """See ``redis_queries.spend_differences``."""
        return self._run(redis_queries.spend_differences(self._link, self._keys))
