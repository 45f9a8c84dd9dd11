"""An event in the words of who receives it: Slack, PagerDuty, or signed JSON for anybody.

Sources: Slack, "Formatting text for app surfaces" (only & < > are escaped) and "Secondary message attachments"; PagerDuty,
Events API v2, "Send an Alert Event"; Standard Webhooks 1.0.0.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import UTC, datetime

import orjson

from gateway.observe.events import Event
from gateway.value import value

PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with, not one
MAX_SUMMARY_CHARS = 1024
MAX_DEDUP_CHARS = 255
MAX_TEXT_CHARS = 3000
MAX_FACTS = 20
MAX_FACT_CHARS = 300
COLOURS = {"info": "#439fe0", "warning": "#daa038", "critical": "#a30200"}
RESOLVED_COLOUR = "#2eb886"


@value
class Told:
    """An event, ready to be told: ``message_id`` is the same at every attempt, ``at`` is when it happened (Unix seconds)."""

    event: Event
    message_id: str
    at: float
    noticed: float
    """The same, by a clock that only goes forward."""
    source: str
    """Who tells: the host of this gateway."""


def slack(told: Told) -> bytes:
    """A message: the sentence, and the facts beside a stripe of the severity's colour."""
    event = told.event
    lead = {"firing": "Firing", "resolved": "Resolved"}.get(event.state, event.severity.capitalize())
    facts = [*event.facts[:MAX_FACTS], ("severity", event.severity), ("gateway", told.source)]
    colour = RESOLVED_COLOUR if event.state == "resolved" else COLOURS.get(event.severity, COLOURS["critical"])
    fields = [
        {"title": _slack_text(name, MAX_FACT_CHARS), "value": _slack_text(value, MAX_FACT_CHARS), "short": True}
        for name, value in facts
    ]
    fallback = ", ".join(f"{name}: {value}" for name, value in facts)
    return orjson.dumps(
        {
            "text": _slack_text(f"{lead}: {event.text}", MAX_TEXT_CHARS),
            "mrkdwn": False,  # a name with * or _ in it is a name
            "unfurl_links": False,
            "attachments": [
                {
                    "color": colour,
                    "fallback": _slack_text(fallback, MAX_TEXT_CHARS),
                    "fields": fields,
                    "ts": int(told.at),
                }
            ],
        }
    )


def _slack_text(text: str, most: int) -> str:
    """Cut first: half an escape would be shown as it is."""
    return _whole(text[:most]).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def pagerduty(told: Told, routing_key: str) -> bytes:
    """An event of the Events API v2. Beginning and end have the same ``dedup_key``, so that the end closes the incident."""
    event = told.event
    action = "resolve" if event.state == "resolved" else "trigger"
    severity = event.severity if event.severity in ("info", "warning", "critical") else "error"
    return orjson.dumps(
        {
            "routing_key": routing_key,
            "event_action": action,
            "dedup_key": _dedup_key(event.key),
            "client": "Tollgate",
            "payload": {
                "summary": _whole(event.text[:MAX_SUMMARY_CHARS]),
                "source": told.source,
                "severity": severity,
                "timestamp": _timestamp(told.at),
                "component": "tollgate",
                "class": event.kind,
                "custom_details": _facts(event),
            },
        }
    )


def _dedup_key(key: str) -> str:
    """Longer keys keep what tells them apart as a hash."""
    key = _whole(key)
    if len(key) <= MAX_DEDUP_CHARS:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"{key[: MAX_DEDUP_CHARS - len(digest) - 1]}~{digest}"


def generic(told: Told) -> bytes:
    """``{type, timestamp, data}``, as Standard Webhooks recommends it; ``type`` is ``budget.told``, ``store.firing``."""
    event = told.event
    return orjson.dumps(
        {
            "type": f"{event.kind}.{event.state}",
            "timestamp": _timestamp(told.at),
            "data": {
                "key": _whole(event.key),
                "kind": event.kind,
                "state": event.state,
                "severity": event.severity,
                "text": _whole(event.text),
                "facts": _facts(event),
                "gateway": told.source,
            },
        }
    )


def signed(told: Told, body: bytes, secret: str, now: int) -> dict[str, str]:
    """The fields of Standard Webhooks for an attempt at ``now`` (Unix seconds): who was sent what, when, and by whom."""
    fields = {"webhook-id": told.message_id, "webhook-timestamp": str(now)}
    if secret:
        content = b"%s.%d." % (told.message_id.encode(), now) + body
        digest = hmac.digest(signing_key(secret), content, "sha256")
        fields["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
    return fields


def signing_key(secret: str) -> bytes:
    """``whsec_`` and base64 as the standard writes secrets; any other text is its own bytes. ValueError when it is not base64."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError("what stands behind whsec_ must be base64")
    return key


def _facts(event: Event) -> dict[str, str]:
    return {_whole(name): _whole(value) for name, value in event.facts}


def _whole(text: str) -> str:
    """Without half characters, which JSON cannot hold."""
    return text.encode(errors="backslashreplace").decode()


def _timestamp(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
