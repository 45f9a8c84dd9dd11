"""How well targets are met, as Redis keeps it: a hash an hour, its fields added to by any number of processes.

Plain commands beside the script: no money hangs on it, and a server that forgets loses it. The hashes share the books' hash tag, so
that a pipeline goes to one node of a cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.store.keys import HOUR_S, Keys, hour_of
from gateway.tallies import KEPT_S, Tally

if TYPE_CHECKING:
    from gateway.store.redis_link import Link

CALLS, MISSED = "c", "m"
SPARE_S = 86_400
"""A hash goes as a whole: later than the last of its buckets."""


async def add(link: Link, keys: Keys, tallies: Sequence[Tally]) -> None:
    """Add to what there is."""
    commands: list[tuple[Any, ...]] = []
    for bucket, target, calls, missed in tallies:
        name = keys.tallies(hour_of(bucket))
        commands.append(("hincrby", name, f"{bucket}:{CALLS}:{target}", calls))
        if missed:
            commands.append(("hincrby", name, f"{bucket}:{MISSED}:{target}", missed))
    for hour in {bucket // HOUR_S * HOUR_S for bucket, *_ in tallies}:
        commands.append(("expireat", keys.tallies(hour_of(hour)), hour + KEPT_S + SPARE_S))
    if commands:
        await link.many(commands)


async def read(link: Link, keys: Keys, since: int, until: int) -> list[Tally]:
    """The sums of the buckets in between."""
    hours = range(since // HOUR_S * HOUR_S, until, HOUR_S)
    if not hours:
        return []
    found: dict[tuple[int, str], dict[str, int]] = {}
    for fields in await link.many([("hgetall", keys.tallies(hour_of(hour))) for hour in hours]):
        for field, count in fields.items():
            bucket, kind, target = field.decode().split(":", 2)
            if since <= int(bucket) < until:
                found.setdefault((int(bucket), target), {})[kind] = int(count)
    return [
        Tally(bucket, target, counts.get(CALLS, 0), counts.get(MISSED, 0))
        for (bucket, target), counts in sorted(found.items())
    ]
