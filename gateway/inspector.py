"""What operators ask about the present: budgets with their balances, upstreams and how they do, the state at a glance, gauges.

Asks the snapshot in force and the store; changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from gateway import __version__, report
from gateway.accounts import Account, Balance, Claim
from gateway.call import Call
from gateway.errors import Failure
from gateway.health import Health
from gateway.observe.pace import Pace, told_durations, told_minute
from gateway.observe.recent import Recent
from gateway.snapshot import Snapshot
from gateway.store import Store
from gateway.value import value
from pricing.money import NANO, format_usd

log = logging.getLogger("gateway.inspector")

MAX_SPEND_ROWS = 10_000
MAX_ACTIVE_ROWS = 10
LIMITS_AT_ONCE = 100
"""Some 0.5 ms of the event loop."""
MAX_MODEL_CHARS = 64
Gauges = Mapping[str, Mapping[tuple[str, ...], float]]
Figures = dict[str, Any]


@value
class Inspected:
    """The parts of a running gateway that can be looked at."""

    snapshot: Snapshot
    active: Mapping[str, Call]
    queue_depth: int
    draining: bool
    recent: Recent
    pace: Pace
    health: Health
    revision: int
    """Of what operators decided, as it is in force here."""
    loaded_at: float
    """Unix seconds when the snapshot came into force."""


class Inspector:
    """Answers about the present."""

    def __init__(self, look: Callable[[], Inspected], store: Store, spend_by: Sequence[str]) -> None:
        """``spend_by``: what sums of spend are told apart by."""
        self._spend_by = spend_by
        self._look = look
        self._store = store
        self._budgets: list[tuple[Claim, Balance]] = []

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

    def figures(self) -> Figures:
        """How it goes in this process at the moment, for ``now``. Asks nobody."""
        now = self._look()
        told = {"in_flight": len(now.active), "queue_depth": now.queue_depth, "owed_settlements": self.owed}
        return {"minute": now.pace.minute(), **told}

    def now(self, figures: Sequence[Figures], checks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """How it goes at the moment, over all processes."""
        pace = told_minute([each["minute"] for each in figures])
        failed = any(check["status"] == "failed" for check in checks.values())
        return {
            "at": _rfc3339(time.time()),
            "in_flight": sum(each["in_flight"] for each in figures),
            **pace,
            "cost_per_minute_usd": format_usd(pace["cost_per_minute_nanousd"]),
            "queue_depth": sum(each["queue_depth"] for each in figures),
            "owed_settlements": sum(each["owed_settlements"] for each in figures),
            **self.version(),
            "status": "draining" if self._look().draining else "failed" if failed else "ok",
        }

    def version(self) -> dict[str, Any]:
        """What names the state that the operator made."""
        now = self._look()
        return {"revision": now.revision, "config_version": now.snapshot.version}

    async def durations(self, window: str, by: str) -> dict[str, Any]:
        """How long calls took in this process, for ``latency``."""
        return await self._look().pace.durations(window, by)

    def latency(self, window: str, by: str, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Percentiles of how long calls took, over all processes."""
        return {"as_of": _rfc3339(time.time()), "window": window, "by": by, **told_durations(parts)}

    async def spend(self, by: str | None, period: str, since: str, until: str) -> dict[str, Any]:
        """The report of spend, added up beside the calls."""
        today = datetime.now(UTC).date()
        asked = report.question(by, period, since, until, self._spend_by, today)
        found = await self._store.report(asked.by, report.periods(asked, today), MAX_SPEND_ROWS, report.writer(asked))
        return report.written(asked, found.rows, found.total, truncated=found.more)

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
                self._budgets = await self._limits()
        except Failure as failure:
            log.debug("the gauges of budgets are not fresh: %s", failure.message)

    async def _limits(self) -> list[tuple[Claim, Balance]]:
        """What is limited at the moment, with its balance; in slices, since thousands of callers may have been seen."""
        found: list[tuple[Claim, Balance]] = []
        limits = self._look().snapshot.ledger.limits(time.time())
        while some := list(islice(limits, LIMITS_AT_ONCE)):
            balances = await self._store.read([limit.account for limit in some])
            found += zip(some, balances, strict=True)
        return found

    def gauges(self) -> Gauges:
        """The values of the gauges in ``observe/names``."""
        now = self._look()
        active: dict[tuple[str, ...], float] = {}
        for call in list(now.active.values()):
            provider = call.request.provider if call.request is not None else ""
            active[(provider,)] = active.get((provider,), 0.0) + 1
        checks = now.health.up()
        rings = {name: pool.keys.told() for name, pool in now.snapshot.pools.items() if pool.keys is not None}
        of_budgets = [((each.budget, each.account.scope, each.window), each, has) for each, has in self._budgets]
        return {
            "llm_active_requests": active,
            "llm_queue_depth": {(): float(now.queue_depth)},
            "llm_budget_limit_usd": {labels: each.stated_nanousd / NANO for labels, each, _ in of_budgets},
            "llm_budget_spent_usd": {
                labels: max(0, has.spent_nanousd - each.forgiven_nanousd) / NANO for labels, each, has in of_budgets
            },
            "llm_budget_held_usd": {labels: has.held_nanousd / NANO for labels, _, has in of_budgets},
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
            "tollgate_workers": {(): 0.0 if now.draining else 1.0},
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
