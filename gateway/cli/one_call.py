"""One call in full, for a person: who asked for what, what came of it, what it used and cost, where its time went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from gateway.cli.output import clean, pairs, styled
from gateway.cli.price import explain, show_lines
from gateway.errors import WHEN, Kind
from pricing.money import format_usd

MARGIN = 12
GOOD = ("completed", "corrected")
SOURCES = {
    "provider": "the provider's own figures",
    "counted": "the text was counted",
    "estimated": "estimated from bytes",
    "": "nothing that is billed",
}


def show(record: dict[str, Any], packed: bytes | None) -> None:
    """``packed``: the price book of its day, if it was kept."""
    outcome = styled(clean(record["outcome"]), "green" if record["outcome"] in GOOD else "red")
    head = f"{clean(record['call_id'])}: {outcome}"
    if record["status"]:
        head += f", answered with {record['status']}"
    click.echo(f"{head}, {styled('$' + format_usd(record['cost_nanousd']), 'bold')}\n")
    pairs(_about(record), MARGIN)
    why = _why(record)
    if any(why.values()):
        _section("Why")
        pairs(why, MARGIN)
    _section("Usage and price")
    pairs(_usage(record), MARGIN)
    if packed is not None:
        click.echo()
        explained = explain(record, packed)
        show_lines(explained.lines, format_usd(explained.cost.nanousd))
    _section("Time")
    pairs(_time(record), MARGIN)


def _section(title: str) -> None:
    click.echo("\n" + styled(title, "bold"))


def _about(record: Mapping[str, Any]) -> dict[str, str]:
    names = ("team", "user", "agent", "call_type", "key_name")
    who = [f"{name} {record[name]}" for name in names if record.get(name)]
    tags = [f"{name}={value}" for name, value in record["tags"].items()]
    served = f", answered by {record['model_served']}" if record["model_served"] else ""
    kind = f"{record['operation']}{', streamed' if record['stream'] else ''}"
    return {
        "began": record["started_at"],
        "who": ", ".join([*who, *tags]) or "nobody said",
        "asked for": f"{record['model_requested'] or '-'} ({kind or 'not read'}){served}",
        "sent to": f"{record['upstream']} ({record['provider']})" if record["upstream"] else "",
        "attempts": str(record["attempts"]) if record["attempts"] > 1 else "",
        "request": _same(record["correlation_id"], record["call_id"]),
        "trace": record["trace_id"],
        "bytes": f"{record['request_bytes']:,} in, {record['response_bytes']:,} out",
        "corrects": record.get("corrects", ""),
        "told by": record.get("told_by", ""),
        "touched": ", ".join(record.get("touched", ())),
        "config": record["config_version"],
    }


def _same(correlation_id: str, call_id: str) -> str:
    """An id of its own is no news."""
    return "" if correlation_id == call_id else f"{correlation_id} (tollgate calls --correlation-id {correlation_id})"


def _why(record: Mapping[str, Any]) -> dict[str, str]:
    """What went wrong, and what did not let it through."""
    kind = record["error_type"]
    refused_by_budget = kind in {Kind.BUDGET_EXCEEDED, Kind.BUDGET_HELD} and record["budgets"]
    return {
        "error": kind,
        "that is": WHEN[Kind(kind)] if kind in set(Kind) else "What the provider answered." if kind else "",
        "budget": record["budgets"][0] if refused_by_budget else "",
        "would refuse": ", ".join(record.get("would_refuse", ())),
    }


def _usage(record: Mapping[str, Any]) -> dict[str, str]:
    source = SOURCES.get(record["usage_source"], record["usage_source"])
    budgets = ", ".join(record["budgets"])
    return {
        "says who": f"{source} ({record['usage_method']})" if record["usage_method"] else source,
        "no price": "charged by estimate" if record["unpriced"] else "",
        "service tier": record["service_tier"],
        "held before": f"${format_usd(record['held_nanousd'])}" if record["held_nanousd"] else "",
        "budgets": budgets,
        "price rows": ", ".join(record["price_rows"]),
        "price book": record["pricebook"],
    }


def _time(record: Mapping[str, Any]) -> dict[str, str]:
    told = {
        "whole call": record["latency_ms"],
        "first token": record["ttft_ms"],
        "our part": record["overhead_ms"],
        "reading it": record.get("read_ms"),
        "the store": record.get("reserve_ms"),
        "waited": record.get("waited_ms"),
    }
    return {name: f"{value:,.1f} ms" for name, value in told.items() if value}
