"""The table from (protocol, method, path) to dialect.

Two dictionary look-ups for the paths that SDKs use. Any other POST is looked at more closely before it passes unmetered,
because upstreams read ``//chat/./Completions/`` as the same place: an unusual spelling must not be a free one.
"""

from __future__ import annotations

from posixpath import normpath
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from gateway.dialects.addressed import GEMINI, Addressed, by_deployment, by_verb
from gateway.dialects.anthropic_messages import AnthropicMessages
from gateway.dialects.followed import BATCH, by_retrieval, of_batch
from gateway.dialects.opaque import OpaqueAnthropic, OpaqueGemini, OpaqueOpenAI
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_completions import OpenAICompletions
from gateway.dialects.openai_embeddings import OpenAIEmbeddings
from gateway.dialects.openai_images import OpenAIImages
from gateway.dialects.openai_realtime import OpenAIRealtime
from gateway.dialects.openai_responses import OpenAIResponses
from gateway.dialects.openai_speech import OpenAISpeech
from gateway.dialects.openai_transcription import OpenAITranscription

if TYPE_CHECKING:
    from gateway.dialects import Dialect

OPAQUE: dict[str, Dialect] = {"openai": OpaqueOpenAI(), "anthropic": OpaqueAnthropic(), "gemini": OpaqueGemini()}

METERED: dict[str, Dialect] = {
    "/chat/completions": OpenAIChat(),
    "/completions": OpenAICompletions(),
    "/responses": OpenAIResponses(),
    "/responses/compact": OpenAIResponses(),
    "/embeddings": OpenAIEmbeddings(),
    "/images/generations": OpenAIImages(),
    "/images/edits": OpenAIImages(),
    "/audio/speech": OpenAISpeech(),
    "/audio/transcriptions": OpenAITranscription("transcription"),
    "/audio/translations": OpenAITranscription("translation"),
    "/messages": AnthropicMessages(),
}
"""The same for each protocol: Anthropic and Gemini serve OpenAI's form as well, local servers serve Anthropic's."""

FREE: dict[str, Dialect] = {
    "/moderations": OpaqueOpenAI("moderations"),
    "/messages/count_tokens": OpaqueAnthropic("count_tokens"),
    "/responses/input_tokens": OpaqueOpenAI("count_tokens"),
}
"""What no provider bills: an exhausted budget does not stand in its way."""

EXACT: dict[str, Dialect] = (
    FREE
    | {f"/v1{path}": dialect for path, dialect in FREE.items()}
    | METERED
    | {f"/v1{path}": dialect for path, dialect in METERED.items()}
)

ENDINGS: dict[str, Dialect] = {path: METERED[path] for path in METERED if path != "/messages"} | {
    "/v1/messages": METERED["/messages"]
}
"""Ends of longer paths, such as ``/openai/deployments/x/chat/completions``. Not ``/messages``: threads have those too."""


REALTIME = OpenAIRealtime()

_BY_OPERATION = {dialect.operation: dialect for dialect in (*METERED.values(), REALTIME)}
_OF_GEMINI = {dialect.operation: dialect for dialect in GEMINI.values()}


def by_operation(protocol: str, operation: str) -> Dialect | None:
    """The dialect that a record names, for reading its usage again; None for what is not metered."""
    if operation == BATCH:
        return of_batch(protocol)
    if protocol == "gemini" and operation in _OF_GEMINI:
        return _OF_GEMINI[operation]
    return _BY_OPERATION.get(operation) or _OF_GEMINI.get(operation)


def dialect_for(protocol: str, method: str, path: str) -> Dialect:
    """The dialect of a call; ``path`` is what follows the upstream's prefix, without the query.

    An unknown protocol speaks like OpenAI. Never raises.
    """
    if method == "POST":
        found = EXACT.get(path) or by_verb(path) or _closer(path)
        if found is not None:
            return found
    elif method == "GET" and (found := by_retrieval(path)) is not None:
        return found
    return OPAQUE.get(protocol) or OPAQUE["openai"]


def upgraded(path: str, query: str, otherwise: Dialect) -> Dialect:
    """The dialect of a connection that asks for WebSocket, whose query names the model; ``otherwise`` if it is not realtime."""
    if not path.endswith("/realtime"):
        return otherwise
    named = parse_qs(query[:2000])
    model = (named.get("model") or named.get("deployment") or [""])[0]
    return Addressed(REALTIME, model)


def _closer(path: str) -> Dialect | None:
    """The path as a lenient server reads it: decoded, without dot segments, doubled or last slashes, in lower case."""
    decoded = normpath("/" + unquote(path)).replace("//", "/")
    plain = decoded.lower()
    segments = plain.rsplit("/", 2)
    found = EXACT.get(plain) or ENDINGS.get("/" + "/".join(segments[-2:])) or ENDINGS.get("/" + segments[-1])
    return by_deployment(found, decoded) if found is not None else by_verb(decoded)
