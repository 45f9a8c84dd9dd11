"""The shapes of what the admin API takes and answers, in JSON Schema as OpenAPI 3.1 has it.

A shape with a ``title`` stands in the document once, under that name. Answers may grow: fields beside the named ones are allowed.
Bodies may not: whoever misspells a field is told so.
"""

from __future__ import annotations

from typing import Any

from gateway.admin.shapes import Schema

TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
DAY: Schema = {"type": "string", "format": "date"}
NANOUSD: Schema = {"type": "integer", "description": "Nano-dollars: 1 dollar is 1,000,000,000."}
USD: Schema = {"type": "string", "pattern": "^-?[0-9]+[.][0-9]{2,9}$", "description": "Dollars, exactly the same."}
FINE_USD: Schema = {
    "type": "string",
    "pattern": "^-?[0-9]+[.][0-9]{2,15}$",
    "description": "Dollars before they are rounded.",
}
REASON: Schema = {"type": "string", "maxLength": 500, "description": "Why, for the log of changes."}


def listed(inner: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": inner}


def mapped(inner: Schema) -> Schema:
    """Such values by names that nobody declares."""
    return {"type": "object", "additionalProperties": inner}


def one_of(*choices: str) -> Schema:
    """One of some words."""
    return {"type": "string", "enum": list(choices)}


def or_null(inner: Schema) -> Schema:
    """Null as well."""
    return {"anyOf": [inner, {"type": "null"}]}


def money(*names: str) -> dict[str, Schema]:
    """Amounts, each twice: ``cost`` is ``cost_nanousd`` and ``cost_usd``."""
    return {f"{name}_{unit}": shape for name in names for unit, shape in (("nanousd", NANOUSD), ("usd", USD))}


def shape(title: str, properties: dict[str, Schema], *, optional: tuple[str, ...] = (), says: str = "") -> Schema:
    """What is answered: an object with these fields, all there but the ``optional`` ones. ``title`` "" = without a name."""
    found: dict[str, Any] = {"title": title} if title else {}
    found |= {"description": says} if says else {}
    needed = [name for name in properties if name not in optional]
    return found | {"type": "object", "properties": properties, **({"required": needed} if needed else {})}


def body(title: str, properties: dict[str, Schema], *, required: tuple[str, ...] = ()) -> Schema:
    """What a change takes: an object with no other fields; ``reason`` can always be there."""
    found: dict[str, Any] = {"title": title, "type": "object", "additionalProperties": False}
    found["properties"] = properties | {"reason": REASON}
    return found | ({"required": list(required)} if required else {})


NEXT: dict[str, Schema] = {
    "next": {"type": ["string", "null"], "description": "The cursor of the next page; null at the end."}
}

ERROR = shape(
    "Error",
    {
        "error": shape(
            "",
            {
                "message": TEXT,
                "status": {"type": "integer"},
                "problems": listed(shape("Problem", {"field": TEXT, "message": TEXT})),
            },
            optional=("problems",),
        )
    },
    says="Every error. It never repeats what was asked; problems say what is wrong with which field of a body.",
)
ME = shape("Me", {"name": TEXT, "role": one_of("viewer", "operator"), "version": TEXT})

_TEXTS = [
    "call_id",
    "correlation_id",
    "trace_id",
    "team",
    "user",
    "agent",
    "call_type",
    "key_name",
    "upstream",
    "provider",
    "protocol",
    "operation",
    "model_requested",
    "model_served",
    "error_type",
    "usage_source",
    "usage_method",
    "pricebook",
    "service_tier",
    "config_version",
    "outcome",
    "parent_span_id",
    "sampled",
    "priced_as",
    "awaits",
    "told_by",
    "corrects",
    "provider_key",
]
_COUNTS = ["status", "attempts", "request_bytes", "response_bytes", "largest_input"]
_TIMES = ["latency_ms", "overhead_ms", "read_ms", "reserve_ms", "waited_ms"]
_LISTS = ["price_rows", "budgets", "accounts", "touched", "would_refuse"]
_USAGES = ["usage", "own_count", "corrected_usage"]
RECORD = shape(
    "Call",
    {
        **dict.fromkeys(_TEXTS, TEXT),
        **dict.fromkeys(_COUNTS, COUNT),
        **dict.fromkeys(_TIMES, NUMBER),
        **dict.fromkeys(_LISTS, listed(TEXT)),
        **dict.fromkeys(_USAGES, mapped({"type": "integer"})),
        "started_at": TIME,
        "tags": mapped(TEXT),
        "refused_by": mapped(TEXT),
        "stream": FLAG,
        "unpriced": FLAG,
        "usage_raw": {"type": ["object", "null"]},
        "ttft_ms": NUMBER_OR_NULL,
        "sent_ms": NUMBER_OR_NULL,
        "corrected_nanousd": NANOUSD,
        **money("cost", "held"),
    },
    says="The record of a finished call. What happened to a call decides which of its texts are empty.",
)
CALLS = shape("Calls", {"calls": listed(RECORD), **NEXT})
BILL = shape(
    "Bill",
    {
        "lines": listed(
            shape(
                "BillLine", {"unit": TEXT, "count": COUNT, "rate_usd": FINE_USD, "per": COUNT, "amount_usd": FINE_USD}
            )
        ),
        "source": TEXT,
        "source_date": TEXT,
    },
)
CALL: Schema = {
    "title": "CallState",
    "type": "object",
    "properties": {
        "state": one_of("finished", "in_flight"),
        "call_id": TEXT,
        "bill": {
            **BILL,
            "type": ["object", "null"],
            "description": "Null where today's price book does not explain the cost.",
        },
    },
    "required": ["state", "call_id"],
    "description": "The fields of a Call beside its state, once it is finished.",
}
REQUEST = shape(
    "Request",
    {
        "correlation_id": TEXT,
        "calls": listed(RECORD),
        "count": COUNT,
        "errors": COUNT,
        "duration_ms": NUMBER,
        **money("cost"),
        "models": listed(TEXT),
    },
)

_SUMMED = ("calls", "failed", "refused", "input_tokens", "cached_input_tokens", "output_tokens")
_COUNTED: dict[str, Schema] = {
    **dict.fromkeys(_SUMMED, WHOLE),
    **money("cost"),
}
SPEND = shape(
    "Spend",
    {
        "by": listed(TEXT),
        "period": TEXT,
        "since": DAY,
        "until": DAY,
        "rows": listed(
            shape(
                "SpendRow", {"period": TEXT, **_COUNTED}, says="The dimensions that were asked for stand in it as well."
            )
        ),
        "total": shape("SpendTotal", _COUNTED),
        "truncated": FLAG,
    },
)

MINUTE = shape(
    "Minute",
    {
        "calls": COUNT,
        "answered": COUNT,
        "errors": mapped(COUNT),
        **dict.fromkeys(("calls_per_s", "errors_per_s", "input_tokens_per_s", "output_tokens_per_s"), NUMBER),
        "cost_nanousd_per_minute": NANOUSD,
        "cost_usd_per_minute": USD,
        "latency_ms": NUMBER_OR_NULL,
        "ttft_ms": NUMBER_OR_NULL,
    },
)
UPSTREAM = shape(
    "Upstream",
    {
        **dict.fromkeys(("name", "protocol", "provider", "host", "state"), TEXT),
        "busy": COUNT,
        "idle": COUNT,
        "last_error": or_null(shape("", {"kind": TEXT, "at": TEXT})),
        "last_minute": MINUTE,
    },
)
UPSTREAMS = shape("Upstreams", {"upstreams": listed(UPSTREAM)})

_KEPT = shape(
    "Compliance",
    {
        "calls": COUNT,
        "missed": COUNT,
        **dict.fromkeys(("compliance", "error_budget_left", "burn"), NUMBER_OR_NULL),
    },
)
TARGETS = shape(
    "Targets",
    {
        "targets": listed(
            shape(
                "Target",
                {
                    "name": TEXT,
                    "of": TEXT,
                    "match": mapped(TEXT),
                    "latency_ms": NUMBER_OR_NULL,
                    "ttft_ms": NUMBER_OR_NULL,
                    "objective": NUMBER,
                    "windows": mapped(_KEPT),
                },
            )
        ),
        "as_of": TIME,
    },
)

WORKER = shape(
    "Worker",
    {
        "worker": COUNT,
        "pid": COUNT,
        "state": one_of("up", "draining", "silent"),
        "active_requests": or_null(COUNT),
        "calls_last_minute": or_null(COUNT),
    },
    says="One of several; silent: it gives no answer in time.",
)
STATUS = shape(
    "Status",
    {
        "status": one_of("ok", "failed", "draining"),
        "version": TEXT,
        "uptime_s": NUMBER,
        "draining": FLAG,
        "config_version": TEXT,
        "config_loaded_at": TIME,
        "pricebook": TEXT,
        "active_requests": COUNT,
        "active": listed(shape("", {"upstream": TEXT, "model": TEXT, "calls": COUNT})),
        "queue_depth": COUNT,
        "store": shape("", {"status": TEXT, "owed_settlements": COUNT}),
        "checks": mapped(TEXT),
        "upstreams": listed(UPSTREAM),
        "last_minute": MINUTE,
        "workers": listed(WORKER),
    },
    optional=("workers",),
)
CONFIG = shape("Config", {"version": TEXT, "config": {"type": "object"}})
CHECK = shape(
    "Check",
    {
        "status": one_of("ok", "warn", "failed"),
        "componentType": TEXT,
        "time": TIME,
        "time_ms": NUMBER,
        "observedValue": NUMBER,
        "observedUnit": TEXT,
        "output": TEXT,
    },
    optional=("time", "observedValue", "observedUnit", "output"),
)
READY = shape(
    "Ready",
    {"status": one_of("ready", "draining", "failed"), "version": TEXT, "config_version": TEXT, "checks": mapped(CHECK)},
)
LIVE = shape("Live", {"status": one_of("ok"), "version": TEXT})
DOCUMENT: Schema = {"type": "object", "description": "OpenAPI 3.1."}
