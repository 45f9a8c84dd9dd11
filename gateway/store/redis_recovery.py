"""What is done when the server has forgotten: restarted without its log, failed over to a replica that lagged, flushed.

The books carry the token of the recovery since which they are whole (``epoch``). Whoever meets another token, another life of the
server, or books that have not heard of what they confirmed, stops admitting and begins the recovery, or joins it: the
settlements whose records are still at hand are booked again (idempotent by call id), then what is missing of each process's
share, then the holds that were granted. When everyone who was alive has spoken, or the grace is over, admission opens. Who was
alive is remembered here and not in the store: membership read from a flushed Redis says "only me", and half of the books
would be taken for all of them.
"""

from __future__ import annotations

import asyncio
import secrets
from itertools import islice
from typing import TYPE_CHECKING

import orjson

from gateway.store.redis_steps import Release, Reserve, Simple, Step

if TYPE_CHECKING:
    from gateway.store.redis_lane import Lane

LATELY_S = 60.0
"""A process whose lease ran out is waited for in a recovery for so long: it may only have been starved, and half of the books are
its own."""
GRACE_S = 3.0
AGAIN_S = 0.05
BATCH = 64


async def recover(lane: Lane, *, again: bool = False) -> None:
    """Until the books are whole again, as far as those who live can make them so. ``again``: these are stale. Errors of the
    connection pass through. The own lease is renewed on the way, before anything is admitted or put back: books that were lost
    have none, and after an outage it may have run out.
    """
    await lane.run_steps([renewal(lane)], force=True)
    while not await _is_whole(lane):
        server = lane.link.run
        asked = {
            "run": server or "unnamed",
            "any": not server or None,
            "again": again or None,
            "mine": lane.token,
            "token": secrets.token_hex(8),
            "grace_ms": int(GRACE_S * 1000),
            "known": [lane.owner, *sorted(lane.others)],
        }
        _, (_, reply) = await lane.run_steps([renewal(lane), Simple("recover", asked)], force=True)
        token, heard = reply[0].decode(), int(reply[1] or 0)
        await _replay(lane, token, misses_nothing=0 < lane.acked <= heard)
        status = "wait"
        while status == "wait":
            spoken = Simple("spoken", {"token": token, "seq": lane.acked})
            _, (status, _) = await lane.run_steps([renewal(lane), spoken], force=True)
            if status == "wait":
                await asyncio.sleep(AGAIN_S)
        if status == "done":
            lane.renewed(token, server)
            return


def renewal(lane: Lane) -> Simple:
    """The step that moves the own lease on; it answers who else is alive."""
    return Simple("renew", {"lease_ms": int(lane.lease_s * 1000), "lately_ms": int(LATELY_S * 1000)})


async def _is_whole(lane: Lane) -> bool:
    """Only the connection was lost: the books are those of the last recovery, and have heard all that they confirmed."""
    token, heard = await lane.link.commands.hmget(lane.keys.epoch, "token", f"q:{lane.owner}")
    if not lane.token or token is None or token.decode() != lane.token or lane.link.run != lane.server:
        return False
    return int(heard or 0) >= lane.acked


async def _replay(lane: Lane, token: str, *, misses_nothing: bool) -> None:
    """All that this process and those it has inherited from know, as far as the books do not."""
    shares = [share for share in lane.journal.shares if share.run != token]
    if shares and not misses_nothing:
        kept = lane.journal.kept()
        while some := list(islice(kept, BATCH)):
            await lane.run_steps([lane.settle_again(settlement, share) for share, settlement in some], force=True)
        for share in shares:
            steps = [
                Simple(
                    "share",
                    {"m": str(spent), "w": share.name, "e": share.until.get(account, 0), "token": token},
                    account,
                )
                for account, spent in share.spent.items()
            ]
            for start in range(0, len(steps), BATCH):
                await lane.run_steps(steps[start : start + BATCH], force=True)
    await _put_holds_back(lane)
    for share in shares:
        share.run = token


async def _put_holds_back(lane: Lane) -> None:
    """Those that were granted, and only those; what stale books hold under this name and was given up since is dropped."""
    stale = [
        call_id.decode()
        async for call_id, text in lane.link.commands.hscan_iter(lane.keys.holds)
        if orjson.loads(text)["o"] == lane.owner and call_id.decode() not in lane.granted
    ]
    steps: list[Step] = [Release(call_id) for call_id in stale]
    steps += [put_back(lane, call_id) for call_id in lane.granted]
    for start in range(0, len(steps), BATCH):
        await lane.run_steps(steps[start : start + BATCH], force=True)


def put_back(lane: Lane, call_id: str) -> Simple:
    """The step that restores the hold of a call, whatever the limits say."""
    granted = lane.granted[call_id]
    hold = granted.hold_text(lane.owner) if isinstance(granted, Reserve) else granted
    found = orjson.loads(hold)
    names = tuple(part[0] for part in (*found["p"], *found.get("u", ())))
    return Simple("put_back", {}, hold=hold, call_id=call_id, more=names)
