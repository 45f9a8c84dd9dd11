"""What can be asked of the books in Redis without changing them. Plain functions over a link."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from gateway.accounts import Balance, account_of
from gateway.call import from_json
from gateway.store import FIRST_COUNTS, Spend, redis_listing
from gateway.store.keys import Keys
from gateway.store.rollups import beyond_records

if TYPE_CHECKING:
    from gateway.store.redis_link import Link

CALLS_AT_ONCE = 500
DAY_CHARS = 10
RECORDS_AT_ONCE = 50
KEYS_AT_ONCE = 200
_BALANCES = """
local found = {}
for at, key in ipairs(KEYS) do
  local pair = redis.call('HMGET', key, 's', 'h')
  found[2 * at - 1], found[2 * at] = pair[1] or '0', pair[2] or '0'
end
return found
"""
_CARDINALITIES = """
local found = {}
for at, key in ipairs(KEYS) do found[at] = redis.call('ZCARD', key) end
return found
"""


async def find(link: Link, keys: Keys, call_id: str) -> dict[str, Any] | None:
    """The record of one call."""
    found = await link.commands.hget(keys.record(call_id), call_id)
    return from_json(found.partition(b"\n")[2]) if found is not None else None


async def records(link: Link, keys: Keys, call_ids: Sequence[str]) -> list[bytes]:
    """The records of calls, each behind its head line; those that are gone are left out."""
    at: dict[str, list[str]] = {}
    for call_id in call_ids:
        at.setdefault(keys.record(call_id), []).append(call_id)
    asked = [
        (key, ids[start : start + RECORDS_AT_ONCE])
        for key, ids in at.items()
        for start in range(0, len(ids), RECORDS_AT_ONCE)
    ]
    found: dict[str, bytes | None] = {}
    for start in range(0, len(asked), RECORDS_AT_ONCE):
        some = asked[start : start + RECORDS_AT_ONCE]
        answers = await link.many([("hmget", key, ids) for key, ids in some])
        for (_, ids), texts in zip(some, answers, strict=True):
            found.update(zip(ids, texts, strict=True))
    return [text for call_id in call_ids if (text := found[call_id]) is not None]


async def parsed(texts: Sequence[bytes]) -> list[dict[str, Any]]:
    """Records out of what is kept of them; calls go on in between."""
    read: list[dict[str, Any]] = []
    for start in range(0, len(texts), RECORDS_AT_ONCE):
        await asyncio.sleep(0)
        read += [from_json(text.partition(b"\n")[2]) for text in texts[start : start + RECORDS_AT_ONCE]]
    return read


async def balances(link: Link, names: Sequence[str]) -> list[tuple[int, int]]:
    """(spent, held) of accounts by the names of their keys: many by one command, since each one costs 12 us of the event loop."""
    found: list[tuple[int, int]] = []
    for start in range(0, len(names), KEYS_AT_ONCE):
        some = names[start : start + KEYS_AT_ONCE]
        pairs = await link.commands.eval(_BALANCES, len(some), *some)
        found += [(int(spent), int(held)) for spent, held in zip(pairs[::2], pairs[1::2], strict=True)]
    return found


async def cardinalities(link: Link, names: Sequence[str]) -> list[int]:
    """How many there are in each of these sorted sets."""
    found: list[int] = []
    for start in range(0, len(names), KEYS_AT_ONCE):
        some = names[start : start + KEYS_AT_ONCE]
        found += await link.commands.eval(_CARDINALITIES, len(some), *some)
    return found


async def recent(link: Link, keys: Keys, limit: int, before: str, correlation_id: str) -> list[dict[str, Any]]:
    """Newest first. ``before`` is a call id; one that is not known is the end of the list."""
    hour = await redis_listing.hour_of(link, keys, before) if before else ""
    if before and not hour:
        return []
    if correlation_id:
        ids = await redis_listing.correlated(link, keys, correlation_id, before, limit)
    else:
        ids = await redis_listing.newest(link, keys, limit, before, hour)
    return await redis_listing.records(link, keys, ids)


async def awaiting(link: Link, keys: Keys, provider: str, key: str) -> dict[str, Any] | None:
    """The record of the call that awaits an answer of this name."""
    call_id = await link.commands.get(keys.awaited(provider, key))
    return await find(link, keys, call_id.decode()) if call_id is not None else None


async def spend(link: Link, keys: Keys, since: str, until: str) -> list[Spend]:
    """Sums of the hours in between; of a day as a whole where some of its hours are gone already."""
    found: list[Spend] = []
    for day in [name for name in await days(link, keys) if since[:DAY_CHARS] <= name < until]:
        whole, *each_hour = await sums_of(link, keys, [day, *(f"{day}T{hour:02d}" for hour in range(24))])
        hours = [each for hour in each_hour for each in hour]
        if _total(hours) == _total(whole):
            found += [each for each in hours if since <= each.hour < until]
        elif since <= day:
            found += whole
    return found


async def days(link: Link, keys: Keys) -> list[str]:
    """Of which there are sums, in order."""
    return sorted(each.decode() for each in await link.commands.zrange(keys.days, 0, -1))


async def sums_of(link: Link, keys: Keys, periods: Sequence[str]) -> list[list[Spend]]:
    """Those of each of some hours or days."""
    found = await link.many([("hgetall", keys.sums(period)) for period in periods])
    return [
        [Spend(period, dims.decode(), tuple(int(each) for each in counts.split(b","))) for dims, counts in sums.items()]
        for period, sums in zip(periods, found, strict=True)
    ]


def _total(sums: Sequence[Spend]) -> list[int]:
    return [sum(column) for column in zip(*(each.counts[:FIRST_COUNTS] for each in sums), strict=True)]


async def hours(link: Link, keys: Keys) -> list[str]:
    """The hours of which there are records, oldest first."""
    return (await redis_listing.hours(link, keys))[::-1]


async def of_hour(link: Link, keys: Keys, hour: str) -> list[bytes]:
    """The records of calls that began in an hour, each behind its head line, in the order of their start."""
    ids = [each.decode() for each in await link.commands.zrange(keys.starts(hour), 0, -1)]
    found: list[bytes] = []
    for start in range(0, len(ids), CALLS_AT_ONCE):
        found += await records(link, keys, ids[start : start + CALLS_AT_ONCE])
    return found


async def count(link: Link, keys: Keys, since: str, until: str) -> int:
    """How many records there are in the hours that two moments touch."""
    names = [hour for hour in await redis_listing.hours(link, keys) if since[:13] <= hour < until]
    return sum(await link.many([("zcard", keys.starts(hour)) for hour in names])) if names else 0


async def differences(link: Link, keys: Keys) -> list[Balance]:
    """Accounts whose balance is not the sum of what stands behind it: records and what came without them for spent, holds
    for held. An account whose records have partly expired is told to differ: nothing keeps what those had charged.
    """
    expected: dict[str, list[int]] = {}
    for hour in await redis_listing.hours(link, keys):
        for text in await of_hour(link, keys, hour):
            head = orjson.loads(text.partition(b"\n")[0])
            for account in head["a"]:
                expected.setdefault(account, [0, 0])[0] += int(head["c"])
    async for _, text in link.commands.hscan_iter(keys.holds):
        for account, amount, _ in orjson.loads(text)["p"]:
            expected.setdefault(account, [0, 0])[1] += int(amount)
    found = []
    prefix = keys.account("")
    async for name in link.commands.scan_iter(f"{literal(prefix)}*"):
        account = name.decode().removeprefix(prefix)
        spent, held, extra = (int(each or 0) for each in await link.commands.hmget(name, "s", "h", "x"))
        should_spent, should_held = expected.pop(account, [0, 0])
        if spent - extra != should_spent or held != should_held:
            found.append(Balance(account_of(account), spent - extra - should_spent, held - should_held))
    found += [
        Balance(account_of(account), -spent, -held) for account, (spent, held) in expected.items() if spent or held
    ]
    return found


async def spend_differences(link: Link, keys: Keys) -> list[Spend]:
    """By how much the sums of hours differ from the records that are kept of them; of older ones only days are kept."""
    found: list[Spend] = []
    for hour in await hours(link, keys):
        (sums,) = await sums_of(link, keys, [hour])
        if sums:
            texts = await of_hour(link, keys, hour)
            found += beyond_records(sums, (from_json(text.partition(b"\n")[2]) for text in texts), lambda same: same)
    return found


def literal(prefix: str) -> str:
    """A prefix as a pattern of SCAN: braces are plain, the rest of what patterns know is escaped."""
    return "".join(f"\\{char}" if char in "*?[]\\^" else char for char in prefix)
