"""Operations whose path names the model: Gemini's and Vertex AI's ``models/NAME:verb``, Azure's ``deployments/NAME/...``.

What the path says wins over the body, because that is what the provider goes by: a cheaper name in the body must not make
a call look cheaper. An instance holds no state of a call; one a path is remembered.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

from gateway.dialects.anthropic_messages import AnthropicMessages
from gateway.dialects.gemini import GeminiGenerate
from gateway.dialects.gemini_embed import GeminiEmbed
from gateway.dialects.opaque import OpaqueGemini
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.values import name

if TYPE_CHECKING:
    from gateway.call import Ask
    from gateway.dialects import Dialect

_VERB = re.compile(r"(?:^|/)(?:models|tunedModels|endpoints)/([^/:]+):([A-Za-z]+)$")
_PUBLISHER = re.compile(r"/publishers/([^/]+)/models/")
_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")

GEMINI: dict[str, Dialect] = {
    "generateContent": GeminiGenerate(),
    "streamGenerateContent": GeminiGenerate(),
    "embedContent": GeminiEmbed(),
    "batchEmbedContents": GeminiEmbed(),
    "countTokens": OpaqueGemini("count_tokens"),
}
RAW: dict[str, Dialect] = {"anthropic": AnthropicMessages(), "mistralai": OpenAIChat()}
"""Vertex's ``rawPredict``: the body is that of the model's own publisher."""
STREAMED = frozenset(("streamGenerateContent", "streamRawPredict"))


class Addressed:
    """A dialect with the model, and whether it streams, taken from the path."""

    __slots__ = ("_dialect", "_model", "_stream", "credential", "follows", "framing", "interrupt", "lines", "metered", "operation", "prompt", "read", "refuse", "unsaid", "usage")  # fmt: skip

    def __init__(self, dialect: Dialect, model: str, *, stream: bool = False) -> None:
        self._dialect = dialect
        self._model = name(unquote(model))
        self._stream = stream
        self.operation, self.metered = dialect.operation, dialect.metered
        self.follows, self.lines = dialect.follows, dialect.lines
        self.read, self.usage, self.prompt, self.framing = dialect.read, dialect.usage, dialect.prompt, dialect.framing
        self.unsaid, self.refuse, self.credential = dialect.unsaid, dialect.refuse, dialect.credential
        self.interrupt = dialect.interrupt

    def ask(self, body: bytes) -> Ask:
        """As the dialect reads it, but for what the path says."""
        ask = self._dialect.ask(body)
        return replace(ask, model=self._model, stream=ask.stream or self._stream)


@lru_cache(maxsize=1024)
def by_verb(path: str) -> Dialect | None:
    """The dialect of a path such as ``/v1beta/models/gemini-2.5-flash:generateContent``; None for any other."""
    match = _VERB.search(path)
    if match is None:
        return None
    model, verb = match.groups()
    dialect = GEMINI.get(verb)
    if dialect is None and verb in ("rawPredict", "streamRawPredict"):
        publisher = _PUBLISHER.search(path)
        dialect = RAW.get(publisher[1]) if publisher is not None else None
    return Addressed(dialect, model, stream=verb in STREAMED) if dialect is not None else None


def by_deployment(dialect: Dialect, path: str) -> Dialect:
    """The same dialect, with the deployment's name as its model where the path has one (Azure OpenAI)."""
    match = _DEPLOYMENT.search(path)
    return dialect if match is None else Addressed(dialect, match[1])
