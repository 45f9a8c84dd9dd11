"""What several workers say of themselves, put together as one would say it. Pure: answers in, an answer out; the first one is of the
worker that puts them together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.observe.recent import merged as merged_minutes

MAX_ACTIVE_ROWS = 10
STATES = ("unknown", "up", "failing")

Answer = dict[str, Any]
Checks = Mapping[str, Mapping[str, Any]]


def merged_checks(told: Mapping[str, Checks], silent: Sequence[str], count: int) -> dict[str, Answer]:
    """By the name of the worker. A check has failed where it failed everywhere; where it did in some, it is worth a look: the others
    serve. ``workers`` says how many of them answer.
    """
    first = next(iter(told.values()))
    found = {name: _check(name, told) for name in first}
    away = count - len(told)
    found["workers"] = {
        "status": "warn" if away > 0 else "ok",
        "componentType": "component",
        "time": max(check.get("time", "") for check in first.values()),
        "time_ms": 0.0,
        "observedValue": len(told),
        "observedUnit": "workers",
    }
    if away > 0:
        named = f": {', '.join(map(label, silent))} gives no answer" if silent else ""
        found["workers"]["output"] = f"{len(told)} of {count} answer{named}"
    return found


def label(name: str) -> str:
    """What people call the worker of this name."""
    return f"worker {name.partition('-')[0]}"


def _check(name: str, told: Mapping[str, Checks]) -> Answer:
    found = {worker: checks[name] for worker, checks in told.items() if name in checks}
    statuses = {check["status"] for check in found.values()}
    first = dict(next(iter(found.values())))
    if statuses == {"ok"}:
        return first
    first["status"] = "failed" if statuses == {"failed"} else "warn"
    says = {worker: check["output"] for worker, check in found.items() if "output" in check}
    if len(set(says.values())) == 1 and len(says) == len(found):
        return {**first, "output": next(iter(says.values()))}
    return {**first, "output": "; ".join(f"{label(worker)}: {says[worker]}" for worker in sorted(says))}


def merged_status(answers: Sequence[Answer], checks: Checks, workers: Sequence[Answer]) -> Answer:
    """The state at a glance."""
    active: Counter[tuple[str, str]] = Counter()
    for each in answers:
        for row in each["active"]:
            active[(row["upstream"], row["model"])] += row["calls"]
    return {
        **answers[0],
        "active_requests": sum(each["active_requests"] for each in answers),
        "active": [
            {"upstream": upstream, "model": model, "calls": count}
            for (upstream, model), count in active.most_common(MAX_ACTIVE_ROWS)
        ],
        "queue_depth": sum(each["queue_depth"] for each in answers),
        "store": {
            "status": checks["store"]["status"],
            "owed_settlements": sum(each["store"]["owed_settlements"] for each in answers),
        },
        "checks": {name: check["status"] for name, check in checks.items()},
        "upstreams": merged_upstreams([each["upstreams"] for each in answers]),
        "last_minute": merged_minutes([each["last_minute"] for each in answers]),
        "workers": list(workers),
    }


def merged_upstreams(told: Sequence[Sequence[Answer]]) -> list[Answer]:
    """As the first one orders them. What fails for one worker fails; a key counts as set aside for as long as any keeps it so."""
    found = []
    for upstream in told[0]:
        same = [each for upstreams in told for each in upstreams if each["name"] == upstream["name"]]
        errors = [each["last_error"] for each in same if each["last_error"] is not None]
        found.append(
            {
                **upstream,
                "busy": sum(each["busy"] for each in same),
                "idle": sum(each["idle"] for each in same),
                "state": max((each["state"] for each in same), key=STATES.index),
                "last_error": max(errors, key=lambda error: str(error["at"])) if errors else None,
                "last_minute": merged_minutes([each["last_minute"] for each in same]),
                "provider_keys": [
                    _latest(key, [other for each in same for other in each["provider_keys"]])
                    for key in upstream["provider_keys"]
                ],
            }
        )
    return found


def _latest(key: Answer, keys: Sequence[Answer]) -> Answer:
    return max((each for each in keys if each["name"] == key["name"]), key=lambda each: str(each["until"] or ""))
