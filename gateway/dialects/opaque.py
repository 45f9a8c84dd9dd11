"""The dialect of what we do not understand: forwarded, recorded as unmetered, refused in the words of its protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.call import Ask
from gateway.dialects.voices import AnthropicVoice, GeminiVoice, OpenAIVoice

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.dialects import Reading
    from pricing.usage import Usage


class _Opaque:
    """Four of the five questions, answered with nothing."""

    __slots__ = ("operation",)
    metered = False

    def __init__(self, operation: str = "unmetered") -> None:
        self.operation = operation

    def ask(self, body: bytes) -> Ask:
        """Nothing but the size."""
        return Ask(operation=self.operation, metered=False, input_bytes=len(body))

    def read(self, document: bytes, reading: Reading) -> None:
        """Learns nothing."""

    def usage(self, raw: dict[str, Any]) -> Usage | None:
        """Knows no counts."""
        return None

    def prompt(self, body: bytes) -> Iterable[str]:
        """Knows no texts."""
        return ()

    def framing(self, body: bytes) -> int:
        """Knows no framing."""
        return 0


class OpaqueOpenAI(_Opaque, OpenAIVoice):
    """Of an upstream that speaks OpenAI's protocol."""

    __slots__ = ()


class OpaqueAnthropic(_Opaque, AnthropicVoice):
    """Of an upstream that speaks Anthropic's protocol."""

    __slots__ = ()


class OpaqueGemini(_Opaque, GeminiVoice):
    """Of an upstream that speaks Gemini's protocol."""

    __slots__ = ()
