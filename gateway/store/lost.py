"""The record of a call whose worker died: what the books themselves know of it, in the shape of every other record.

Such a call was never told to the end, so most of its fields are blank. What it was charged is its hold, and it says so:
``usage_source`` is estimated, ``usage_method`` is hold, ``outcome`` is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.accounts import Account
from gateway.call import Record

LOST = "lost"


def lost_record(
    call_id: str, granted_at: float, cost_nanousd: int, accounts: Sequence[tuple[str, str]], budgets: tuple[str, ...]
) -> Record:
    """``accounts`` are (scope, window); team and user are read off them. ``granted_at`` (Unix seconds) is the start."""
    return Record(
        call_id=call_id,
        correlation_id=call_id,
        trace_id="",
        started_at=rfc3339(granted_at),
        team=_named("team:", accounts),
        user=_named("user:", accounts),
        agent="",
        call_type="",
        tags={},
        key_name="",
        upstream="",
        provider="",
        protocol="",
        operation="",
        model_requested="",
        model_served="",
        stream=False,
        status=0,
        error_type=LOST,
        attempts=0,
        usage={},
        usage_source="estimated",
        usage_method="hold",
        usage_raw=None,
        cost_nanousd=cost_nanousd,
        price_rows=(),
        pricebook="",
        unpriced=False,
        service_tier="",
        held_nanousd=cost_nanousd,
        budgets=budgets,
        latency_ms=0.0,
        ttft_ms=None,
        overhead_ms=0.0,
        read_ms=0.0,
        reserve_ms=0.0,
        sent_ms=None,
        request_bytes=0,
        response_bytes=0,
        config_version="",
        outcome=LOST,
        accounts=tuple(str(Account(*account)) for account in accounts),
    )


def rfc3339(unix_seconds: float) -> str:
    """UTC with milliseconds: the form in which records are ordered."""
    moment = datetime.fromtimestamp(unix_seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _named(prefix: str, accounts: Sequence[tuple[str, str]]) -> str:
    """The name in the first scope of this kind; "" for nobody, which is booked as ``-``."""
    names = [scope.removeprefix(prefix) for scope, _ in accounts if scope.startswith(prefix)]
    return names[0] if names and names[0] != "-" else ""
