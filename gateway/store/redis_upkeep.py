"""What keeps the books in Redis right while nobody asks: leases, lost calls, thresholds that nobody told.

A lease belongs to a process, not to a hold: each renews its own every second, and learns then who else is alive. A hold whose
process has no valid lease is lost, and whoever comes by charges it: the script looks again, so that two who come by at once
charge it once. The clock of leases is the server's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import orjson

from gateway.accounts import Balance, Hold, account_of
from gateway.call import as_json
from gateway.store import Settlement
from gateway.store.lost import LOST, lost_record, rfc3339
from gateway.store.redis_lane import Lane
from gateway.store.redis_recovery import put_back, renewal
from gateway.store.redis_steps import Release, Reserve, Step, notice_of
from gateway.store.rollups import spend_of
from gateway.store.slices import SLICE, Slices

log = logging.getLogger("gateway.store")


async def renew(lane: Lane) -> set[str]:
    """The own lease moves on. The names of all who are alive."""
    _, reply = await lane.ask(renewal(lane))
    lane.others = set(orjson.loads(reply[1])) - {lane.owner}
    return set(orjson.loads(reply[0]))


async def sweep(lane: Lane, live: set[str], now: float) -> None:
    """Charge the holds of dead processes; tell their thresholds; forget hours whose records are gone."""
    commands, keys = lane.link.commands, lane.keys
    async for call_id, text in commands.hscan_iter(keys.holds):
        hold = orjson.loads(text)
        if hold["o"] not in live:
            await _lapse(lane, call_id.decode(), text, hold, now)
    orphans = [(each, notice_of(text)) for each, text in (await commands.hgetall(keys.outbox)).items()]
    for each, (notice, owner) in orphans:
        if owner not in live:
            lane.tell_of([notice], [each])
    await commands.zremrangebyscore(keys.hours, "-inf", now)
    await commands.zremrangebyscore(keys.days, "-inf", now)


async def _lapse(lane: Lane, call_id: str, text: bytes, hold: dict[str, Any], now: float) -> None:
    """The provider most likely bills the call of a dead process: it costs its hold, or its mark."""
    accounts = [account_of(name) for name in dict.fromkeys(part[0] for part in hold["p"])]
    cost, at = int(hold["m"]), int(hold["t"]) / 1000 or now
    budgets = tuple(part[2] for part in hold["p"] if part[2])
    record = lost_record(call_id, at, cost, [(each.scope, each.window) for each in accounts], budgets)
    spend = spend_of(record, lane.times.rollups.by)
    lost = Settlement(call_id, cost, LOST, tuple(accounts), as_json(record), rfc3339(at), spend=spend)
    if await lane.ask(lane.settle_step(lost, text)) is not None:
        if not call_id.startswith(SLICE):  # whoever held that says what was used of it
            lane.journal.owe([lost])
            lane.journal.paid([call_id], lane.token)
        log.warning(
            "call %s was lost: its hold of %d nano-dollars is charged", call_id, cost, extra={"call_id": call_id}
        )


async def size_slices(lane: Lane, slices: Slices, balances: Sequence[Balance], now: float) -> None:
    """Make each slice what it should be. One that must shrink or grow is given back and taken anew."""
    for name, claim in slices.plan(balances, 1 + len(lane.others), now):
        account = account_of(name.split(":", 2)[2])
        slices.hold(account, 0)
        await lane.ask(Release(name))
        if claim is None:
            continue
        lane.journal.hold_slices([name])
        if isinstance(await lane.ask(Reserve(name, (claim,), None)), Hold):
            slices.hold(account, claim.amount_nanousd)


async def give_slices_back(lane: Lane, slices: Slices | None) -> None:
    """The store is back: calls that were granted from slices stand in the books from now on, the slices do not; nor do those
    that dead processes left.
    """
    names = [] if slices is None else slices.back_names()
    steps: list[Step] = []
    for hold in slices.running() if slices is not None else ():
        lane.granted[hold.call_id] = Reserve(hold.call_id, hold.claims, None)
        steps.append(put_back(lane, hold.call_id))
    steps += [Release(name) for name in [*names, *lane.journal.slices]]
    if steps:
        await lane.run_steps(steps, force=True)
    lane.journal.slices.clear()
    if slices is not None:
        slices.forget()
