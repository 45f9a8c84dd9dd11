"""How a refusal reads in each protocol."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from gateway.dialects.voices import AnthropicVoice, GeminiVoice, OpenAIVoice
from gateway.errors import Excess, Kind, Refusal

SPENT = Refusal(
    Kind.BUDGET_EXCEEDED,
    "Team search has spent its 10 USD of today.",
    budget="team:search/day",
    scope="team:search",
    window="day",
    limit_nanousd=10_000_000_000,
    spent_nanousd=9_999_999_999,
    held_nanousd=123_456_789_012_345_678,
    needed_nanousd=12_500_000,
    resets_at=1_795_219_200,
)


def exact(body: bytes) -> Any:
    return json.loads(body, parse_float=Decimal)


def test_openai_gets_an_error_object_with_the_numbers_of_the_budget() -> None:
    """Every field of the interface, money exact to the nano-dollar."""
    assert exact(OpenAIVoice().refuse(SPENT)) == {
        "error": {
            "message": "Team search has spent its 10 USD of today.",
            "type": "insufficient_quota",
            "code": "budget_exceeded",
            "param": None,
            "budget": "team:search/day",
            "scope": "team:search",
            "window": "day",
            "limit_usd": Decimal("10.00"),
            "spent_usd": Decimal("9.999999999"),
            "held_usd": Decimal("123456789.012345678"),
            "needed_usd": Decimal("0.0125"),
            "resets_at": "2026-11-21T00:00:00Z",
        }
    }


def test_anthropic_gets_its_own_shape() -> None:
    """A typed error in a typed envelope."""
    body = exact(AnthropicVoice().refuse(SPENT))
    assert body["type"] == "error"
    assert body["error"]["type"] == "rate_limit_error"
    assert body["error"]["limit_usd"] == Decimal(10)


def test_gemini_gets_a_status_with_strings() -> None:
    """google.rpc.Status; ErrorInfo's metadata is a map of strings."""
    error = exact(GeminiVoice().refuse(SPENT))["error"]
    assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert error["details"][0]["reason"] == "BUDGET_EXCEEDED"
    assert error["details"][0]["metadata"]["spent_usd"] == "9.999999999"
    assert all(type(value) is str for value in error["details"][0]["metadata"].values())


def test_only_budgets_carry_numbers() -> None:
    """Everything else is the four fields that SDKs know."""
    error = exact(OpenAIVoice().refuse(Refusal(Kind.STORE_UNAVAILABLE, "Try again.")))["error"]
    assert error == {"message": "Try again.", "type": "store_unavailable", "code": "store_unavailable", "param": None}
    assert exact(GeminiVoice().refuse(Refusal(Kind.BODY_TOO_LARGE, "x")))["error"]["status"] == "INVALID_ARGUMENT"
    assert exact(GeminiVoice().refuse(Refusal(Kind.UPSTREAM_RESET, "x")))["error"]["status"] == "UNAVAILABLE"


def test_limits_carry_theirs() -> None:
    """The same names in each dialect; Gemini's are strings, and what is not known is left out there."""
    excess = Excess("team:*", "team:search", "tokens_per_minute", 1000, 990, 30)
    limited = Refusal(Kind.RATE_LIMIT, "x", retry_after_ms=1200, excess=excess)
    figures = {
        "limit": "team:*", "scope": "team:search", "unit": "tokens_per_minute", "allowed": 1000, "used": 990, "needed": 30,
        "retry_after_ms": 1200,
    }  # fmt: skip
    assert figures.items() <= exact(OpenAIVoice().refuse(limited))["error"].items()
    told = exact(AnthropicVoice().refuse(limited))["error"]
    assert figures.items() <= told.items()
    assert (told["type"], told["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    error = exact(GeminiVoice().refuse(limited))["error"]
    assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert error["details"][0]["metadata"] == {name: str(value) for name, value in figures.items()}
    never = Refusal(Kind.RATE_LIMIT, "x", excess=excess)
    assert exact(OpenAIVoice().refuse(never))["error"]["retry_after_ms"] is None
    assert "retry_after_ms" not in exact(GeminiVoice().refuse(never))["error"]["details"][0]["metadata"]


def test_a_window_without_end_resets_never() -> None:
    """Null, not the year 1970; and Gemini's strings leave it out."""
    total = Refusal(Kind.BUDGET_HELD, "x", window="total")
    assert exact(OpenAIVoice().refuse(total))["error"]["resets_at"] is None
    assert "resets_at" not in exact(GeminiVoice().refuse(total))["error"]["details"][0]["metadata"]


def test_the_credential_goes_where_the_provider_looks() -> None:
    """Header and value."""
    assert OpenAIVoice().credential("k") == (b"Authorization", b"Bearer k")
    assert AnthropicVoice().credential("k") == (b"x-api-key", b"k")
    assert GeminiVoice().credential("k") == (b"x-goog-api-key", b"k")
