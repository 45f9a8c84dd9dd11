"""How each protocol says no, and where its credential goes: the same for every operation in it.

Owns the error bodies of OpenAI, Anthropic and Gemini. Status, type and code come from ``gateway.errors.MEANINGS``; the
words come with the refusal. Money is written as JSON numbers made from integers, so that no float ever touches it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from gateway.errors import MEANINGS, Kind
from pricing.money import format_usd

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.call import Ask
    from gateway.dialects import Reading
    from gateway.errors import Refusal

BUDGET_KINDS = frozenset({Kind.BUDGET_EXCEEDED, Kind.BUDGET_HELD})

GRPC_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    504: "DEADLINE_EXCEEDED",
}
"""google.rpc.Code for an HTTP status (cloud.google.com/apis/design/errors, "HTTP mapping"); others by their class."""


class _Text:
    """An operation of which all that is billed is text, and its own, unless it says otherwise."""

    __slots__ = ()
    follows = False
    lines = False

    def unsaid(self, ask: Ask, reading: Reading) -> dict[str, int] | None:
        """Nothing."""
        return None


class OpenAIVoice(_Text):
    """``{"error": {message, type, code, param}}``, as the OpenAI SDKs read it."""

    __slots__ = ()

    def refuse(self, refusal: Refusal) -> bytes:
        """The error body; that of a budget or a limit carries its numbers beside the message."""
        meaning = MEANINGS[refusal.kind]
        error = {"message": refusal.message, "type": meaning.type, "code": meaning.code, "param": None}
        return orjson.dumps({"error": error | _figures(refusal, _number)})

    def interrupt(self, refusal: Refusal) -> bytes:
        """An event that the SDKs raise as an error; no ``[DONE]`` follows."""
        return b"data: " + self.refuse(refusal) + b"\n\n"

    def credential(self, secret: str) -> tuple[bytes, bytes]:
        """``Authorization: Bearer``."""
        return b"Authorization", b"Bearer " + secret.encode()


class AnthropicVoice(_Text):
    """``{"type": "error", "error": {type, message}}``, as the Anthropic SDKs read it."""

    __slots__ = ()

    def refuse(self, refusal: Refusal) -> bytes:
        """The error body; ``code`` tells apart what shares a type there."""
        meaning = MEANINGS[refusal.kind]
        error = {"type": meaning.anthropic_type, "message": refusal.message, "code": meaning.code}
        return orjson.dumps({"type": "error", "error": error | _figures(refusal, _number)})

    def interrupt(self, refusal: Refusal) -> bytes:
        """The event of that name (Anthropic, "Streaming messages", "Error events")."""
        return b"event: error\ndata: " + self.refuse(refusal) + b"\n\n"

    def credential(self, secret: str) -> tuple[bytes, bytes]:
        """``x-api-key``."""
        return b"x-api-key", secret.encode()


class GeminiVoice(_Text):
    """``{"error": {code, message, status, details}}``: google.rpc.Status, whose ErrorInfo holds strings only."""

    __slots__ = ()

    def refuse(self, refusal: Refusal) -> bytes:
        """The error body; the machine-readable part stands in ``details``."""
        meaning = MEANINGS[refusal.kind]
        words = {key: str(value) for key, value in _figures(refusal, format_usd).items() if value is not None}
        about = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": meaning.code.upper(),
            "domain": "tollgate",
            "metadata": words,
        }
        error = {"code": meaning.status, "message": refusal.message, "status": _grpc_status(meaning.status)}
        return orjson.dumps({"error": error | {"details": [about]}})

    def interrupt(self, refusal: Refusal) -> bytes:
        """As Google's own errors come in mid-stream; lines end as its others do."""
        return b"data: " + self.refuse(refusal) + b"\r\n\r\n"

    def credential(self, secret: str) -> tuple[bytes, bytes]:
        """``x-goog-api-key``."""
        return b"x-goog-api-key", secret.encode()


def _figures(refusal: Refusal, usd: Callable[[int], Any]) -> dict[str, Any]:
    """The numbers of a budget, money written by ``usd``, or of a limit; empty for every other kind."""
    if refusal.excess is not None:
        excess = refusal.excess
        return {
            "limit": excess.limit,
            "scope": excess.scope,
            "unit": excess.unit,
            "allowed": excess.allowed,
            "used": excess.used,
            "needed": excess.needed,
            "retry_after_ms": refusal.retry_after_ms or None,
        }
    if refusal.kind not in BUDGET_KINDS:
        return {}
    return {
        "budget": refusal.budget,
        "scope": refusal.scope,
        "window": refusal.window,
        "limit_usd": usd(refusal.limit_nanousd),
        "spent_usd": usd(refusal.spent_nanousd),
        "held_usd": usd(refusal.held_nanousd),
        "needed_usd": usd(refusal.needed_nanousd),
        "resets_at": _rfc3339(refusal.resets_at),
    }


def _grpc_status(status: int) -> str:
    return GRPC_STATUS.get(status, "INVALID_ARGUMENT" if status < 500 else "UNAVAILABLE")


def _number(nanousd: int) -> orjson.Fragment:
    """Dollars as an exact JSON number."""
    return orjson.Fragment(format_usd(nanousd).encode())


def _rfc3339(unix_seconds: int) -> str | None:
    """``2026-11-20T00:00:00Z``; None when the window never ends."""
    if not unix_seconds:
        return None
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
