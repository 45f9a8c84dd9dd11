"""What is done when the server has forgotten: restarted without its log, failed over to a replica that lagged, flushed.

The books belong to one life of the server (``epoch``). Whoever meets another life, or books that have not heard of what they
confirmed, stops admitting and begins the recovery, or joins it: the settlements whose records are still at hand are booked
again (idempotent by call id), then what is missing of each process's share, then the holds that were granted. When everyone
who was alive has spoken, or the grace is over, admission opens. Who was alive is remembered here and not in the store:
membership read from a flushed Redis says "only me", and half of the books would be taken for all of them.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING

import orjson

from gateway.store.redis_link import new_run
from gateway.store.redis_steps import Simple

if TYPE_CHECKING:
    from gateway.store.redis_lane import Lane

GRACE_S = 3.0
AGAIN_S = 0.05
BATCH = 64


class Lost(Exception):  # noqa: N818 - what has happened to the books
    """These are not the books that were confirmed. ``stale``: of the same life, and behind."""

    def __init__(self, *, stale: bool) -> None:
        super().__init__("the books are not the ones that were confirmed")
        self.stale = stale


async def recover(lane: Lane, *, again: bool = False) -> None:
    """Until the books are whole again, as far as those who live can make them so. Errors of the connection pass through."""
    if await _is_whole(lane):
        return
    asked = {
        "run": lane.link.run or new_run(),
        "any": not lane.link.run or None,
        "again": again or None,
        "grace_ms": int(GRACE_S * 1000),
        "known": [lane.owner, *sorted(lane.others)],
    }
    ((status, reply),) = await lane.run_steps([Simple("recover", asked)], force=True)
    run = reply[0].decode()
    await _replay(lane, run, every=status != "done" or bool(lane.run))
    while status != "done":
        ((status, _),) = await lane.run_steps([Simple("spoken", {"run": run})], force=True)
        if status == "again":
            await recover(lane)
            return
        if status == "wait":
            await asyncio.sleep(AGAIN_S)
    lane.renewed(run)


async def _is_whole(lane: Lane) -> bool:
    """Only the connection was lost: the books belong to the life of the server that is known, and have heard all that they
    confirmed.
    """
    run, heard = await lane.link.commands.hmget(lane.keys.epoch, "run", f"q:{lane.owner}")
    if not lane.run or run is None or run.decode() != lane.run or (lane.link.run and lane.link.run != lane.run):
        return False
    return int(heard or 0) >= lane.acked


async def _replay(lane: Lane, run: str, *, every: bool) -> None:
    """All that this process and those it has inherited from know, as far as the books do not."""
    shares = [share for share in lane.journal.shares if every or share.run != run]
    if shares:
        kept = lane.journal.kept()
        while some := list(islice(kept, BATCH)):
            await lane.run_steps([lane.settle_again(settlement, share) for share, settlement in some], force=True)
        for share in shares:
            steps = [
                Simple("share", {"m": str(spent), "w": share.name, "e": share.until.get(account, 0)}, account)
                for account, spent in share.spent.items()
            ]
            for start in range(0, len(steps), BATCH):
                await lane.run_steps(steps[start : start + BATCH], force=True)
            share.run = run
    await _put_holds_back(lane)


async def _put_holds_back(lane: Lane) -> None:
    """Those that were granted, and only those; what stale books hold under this name and was given up since is dropped."""
    stale = [
        call_id.decode()
        async for call_id, text in lane.link.commands.hscan_iter(lane.keys.holds)
        if orjson.loads(text)["o"] == lane.owner and call_id.decode() not in lane.granted
    ]
    steps: list[Simple] = [Simple("give_up", {}, call_id=call_id) for call_id in stale]
    steps += [put_back(lane, call_id) for call_id in lane.granted]
    for start in range(0, len(steps), BATCH):
        await lane.run_steps(steps[start : start + BATCH], force=True)


def put_back(lane: Lane, call_id: str) -> Simple:
    """The step that restores the hold of a call, whatever the limits say."""
    hold = lane.granted[call_id]
    accounts = tuple(part[0] for part in orjson.loads(hold)["p"])
    return Simple("put_back", {}, hold=hold, call_id=call_id, more=accounts)
