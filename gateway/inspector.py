"""What operators ask about the present: budgets with their balances, upstreams and how they do, the state at a glance, gauges.

Asks the snapshot in force and the store; changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway import __version__, report
from gateway.accounts import Account, Balance, Claim
from gateway.call import Call
from gateway.errors import Failure
from gateway.health import Health
from gateway.observe.recent import Recent
from gateway.snapshot import Snapshot
from gateway.store import Store
from pricing.money import NANO, format_usd

log = logging.getLogger("gateway.inspector")

MAX_SPEND_ROWS = 10_000
MAX_ACTIVE_ROWS = 10
MAX_MODEL_CHARS = 64
Gauges = Mapping[str, Mapping[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class Inspected:
    """The parts of a running gateway that can be looked at."""

    snapshot: Snapshot
    active: Mapping[str, Call]
    queue_depth: int
    draining: bool
    recent: Recent
    health: Health
    about_budget: Callable[[str], Mapping[str, Any]]
    """Its mode, where it is from, and who said so, by name."""
    loaded_at: float
    """Unix seconds when the snapshot came into force."""


class Inspector:
    """Answers about the present."""

    def __init__(self, look: Callable[[], Inspected], store: Store, spend_by: Sequence[str]) -> None:
        """``spend_by``: what sums of spend are told apart by."""
        self._spend_by = spend_by
        self._look = look
        self._store = store
        self._budgets: list[dict[str, Any]] = []

    async def check_store(self) -> None:
        """Raises when the store does not answer."""
        await self._store.read((Account("global", "total"),))

    @property
    def owed(self) -> int:
        """Settlements that the store does not have yet."""
        return self._store.owed

    def status(self) -> dict[str, Any]:
        """The state at a glance: what runs, how upstreams and store do, the last minute. Asks nobody."""
        now = self._look()
        checks = now.health.told()
        return {
            "draining": now.draining,
            "config_version": now.snapshot.version,
            "config_loaded_at": _rfc3339(now.loaded_at),
            "pricebook": now.snapshot.book.version,
            "active_requests": len(now.active),
            "active": _biggest(now.active),
            "queue_depth": now.queue_depth,
            "store": {"status": checks["store"]["status"], "owed_settlements": self.owed},
            "checks": {name: check["status"] for name, check in checks.items()},
            "upstreams": self.upstreams(),
            "last_minute": now.recent.last_minute(),
        }

    async def budgets(self) -> list[dict[str, Any]]:
        """Every account that a budget limits at the moment, with its balance. Wildcards show who has spent."""
        now = self._look()
        limits = now.snapshot.ledger.limits(time.time())
        balances = await self._store.read([limit.account for limit in limits])
        return [
            {**_row_of_budget(limit, balance), **now.about_budget(limit.budget)}
            for limit, balance in zip(limits, balances, strict=True)
        ]

    async def spend(self, by: str | None, period: str, since: str, until: str) -> dict[str, Any]:
        """The report of spend. Adding up happens in a thread, a day at a time: calls go on beside it."""
        asked = report.question(by, period, since, until, self._spend_by, datetime.now(UTC).date())
        tally = report.Tally(asked)
        for day in asked.days():
            sums = await self._store.spend(*day)
            if sums:
                await asyncio.to_thread(tally.add, sums)
        return await asyncio.to_thread(report.document, asked, tally, MAX_SPEND_ROWS)

    def upstreams(self) -> list[dict[str, Any]]:
        """Every upstream with its connections, its state and its last minute. Addresses, never credentials."""
        now = self._look()
        at = time.time()
        return [
            {
                "name": name,
                "protocol": pool.endpoint.protocol,
                "provider": pool.endpoint.provider,
                "host": pool.endpoint.host,
                "busy": pool.busy,
                "idle": pool.idle,
                **now.recent.about(name),
                "provider_keys": [
                    {"name": key, "weight": weight, "state": state, "until": _rfc3339(at + left_s) if left_s else None}
                    for key, weight, state, left_s in (pool.keys.told() if pool.keys is not None else ())
                ],
            }
            for name, pool in now.snapshot.pools.items()
        ]

    async def refresh(self) -> None:
        """Read what the gauges need of the store, before a scrape."""
        try:
            if (await self._look().health.look("store")).status != "failed":
                self._budgets = await self.budgets()
        except Failure as failure:
            log.debug("the gauges of budgets are not fresh: %s", failure.message)

    def gauges(self) -> Gauges:
        """The values of the gauges in ``observe/names``."""
        now = self._look()
        active: dict[tuple[str, ...], float] = {}
        for call in list(now.active.values()):
            provider = call.request.provider if call.request is not None else ""
            active[(provider,)] = active.get((provider,), 0.0) + 1
        checks = now.health.up()
        rings = {name: pool.keys.told() for name, pool in now.snapshot.pools.items() if pool.keys is not None}
        of_budgets = [((each["budget"], each["scope"], each["window"]), each) for each in self._budgets]
        return {
            "llm_active_requests": active,
            "llm_queue_depth": {(): float(now.queue_depth)},
            "llm_budget_limit_usd": {labels: each["limit_nanousd"] / NANO for labels, each in of_budgets},
            "llm_budget_spent_usd": {labels: each["spent_nanousd"] / NANO for labels, each in of_budgets},
            "llm_budget_held_usd": {labels: each["held_nanousd"] / NANO for labels, each in of_budgets},
            "llm_upstream_up": {(name,): float(up) for name, up in now.recent.verdicts().items()},
            "tollgate_provider_keys_set_aside": {
                (name,): float(sum(state != "ready" for _, _, state, _ in keys)) for name, keys in rings.items()
            },
            "tollgate_check_up": {(name,): float(up) for name, up in checks.items()},
            "tollgate_store_up": {(): float(checks["store"])},
            "tollgate_journal_settlements": {(): float(self.owed)},
            "tollgate_config_version_info": {(now.snapshot.version,): 1.0},
            "tollgate_pricebook_info": {(now.snapshot.book.version,): 1.0},
            "tollgate_build_info": {(__version__,): 1.0},
            "tollgate_workers": {(): 1.0},
        }


def _biggest(active: Mapping[str, Call]) -> list[dict[str, Any]]:
    """Upstreams and models with the most calls on their way."""
    found = Counter(
        (call.request.upstream if call.request else "", call.ask.model[:MAX_MODEL_CHARS] if call.ask else "")
        for call in list(active.values())
    )
    return [
        {"upstream": upstream, "model": model, "calls": count}
        for (upstream, model), count in found.most_common(MAX_ACTIVE_ROWS)
    ]


def _rfc3339(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _row_of_budget(limit: Claim, balance: Balance) -> dict[str, Any]:
    """What was forgiven stands by itself: spent is what counts against the limit."""
    spent = max(0, balance.spent_nanousd - limit.forgiven_nanousd)
    left = max(0, limit.stated_nanousd - spent - balance.held_nanousd)
    return {
        "budget": limit.budget,
        "scope": limit.account.scope,
        "window": limit.window,
        "window_id": limit.account.window,
        "limit_nanousd": limit.stated_nanousd,
        "spent_nanousd": spent,
        "held_nanousd": balance.held_nanousd,
        "remaining_nanousd": left,
        "forgiven_nanousd": limit.forgiven_nanousd,
        "limit_usd": format_usd(limit.stated_nanousd),
        "spent_usd": format_usd(spent),
        "held_usd": format_usd(balance.held_nanousd),
        "remaining_usd": format_usd(left),
        "forgiven_usd": format_usd(limit.forgiven_nanousd),
        "resets_at": datetime.fromtimestamp(limit.resets_at, UTC).isoformat() if limit.resets_at else None,
    }
