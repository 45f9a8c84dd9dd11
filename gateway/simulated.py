"""The forms of a pretend provider's answers: JSON bodies and events of each API, as the real ones have them.

Shapes follow OpenAI's API reference (chat completions, completions, responses), Anthropic's (messages) and Gemini's
(generateContent); the simulator fills them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import orjson

from gateway.value import value

Json = dict[str, Any]
Event = tuple[bytes, int]
"""An event as it goes out, and how many words of the answer it carries."""

WORDS = [
    "the",
    "gateway",
    "counts",
    "each",
    "token",
    "and",
    "forwards",
    "every",
    "byte",
    "as",
    "it",
    "came",
    "while",
    "budgets",
    "hold",
    "and",
    "prices",
    "are",
    "exact",
    "so",
    "that",
    "teams",
    "know",
    "what",
    "a",
    "call",
    "costs",
    "before",
    "the",
    "month",
    "ends",
    "and",
    "nobody",
    "waits",
    "longer",
    "than",
    "the",
    "model",
    "itself",
    "needs",
    "to",
    "think",
]
CREATED = 1_760_000_000


@value
class Counts:
    """What is billed: ``cached`` is part of ``input``, ``reasoning`` part of ``output``, as in OpenAI's form."""

    input: int
    cached: int
    output: int
    reasoning: int


class Shape(Protocol):
    """One API. ``counts`` is None when no usage is to be told."""

    def whole(self, asked: Json, words: list[str], counts: Counts | None) -> Json:
        """The JSON body."""

    def events(self, asked: Json, words: list[str], counts: Counts | None) -> Iterator[Event]:
        """The stream."""


def _event(data: Json, name: str = "") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + orjson.dumps(data) + b"\n\n"


def _spaced(words: list[str]) -> list[str]:
    return [word if number == 0 else " " + word for number, word in enumerate(words)]


def _openai_usage(counts: Counts) -> Json:
    return {
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.input + counts.output,
        "prompt_tokens_details": {"cached_tokens": counts.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning, "audio_tokens": 0},
    }


class Chat:
    """OpenAI chat completions; with ``include_usage`` every chunk has ``usage``, null but in the last."""

    def whole(self, asked: Json, words: list[str], counts: Counts | None) -> Json:
        """One choice."""
        message = {"role": "assistant", "content": " ".join(words), "refusal": None}
        body = self._base(asked, "chat.completion") | {
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]
        }
        return body | ({"usage": _openai_usage(counts)} if counts else {})

    def events(self, asked: Json, words: list[str], counts: Counts | None) -> Iterator[Event]:
        """A role, a chunk a word, a finish reason, usage if asked for, ``[DONE]``."""
        options = asked.get("stream_options")
        told = isinstance(options, dict) and options.get("include_usage") is True and counts is not None
        base = self._base(asked, "chat.completion.chunk") | ({"usage": None} if told else {})

        def chunk(delta: Json, reason: str | None = None) -> bytes:
            return _event(base | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

        yield chunk({"role": "assistant", "content": ""}), 0
        for word in _spaced(words):
            yield chunk({"content": word}), 1
        yield chunk({}, "stop"), 0
        if told and counts is not None:
            yield _event(base | {"choices": [], "usage": _openai_usage(counts)}), 0
        yield b"data: [DONE]\n\n", 0

    def _base(self, asked: Json, kind: str) -> Json:
        return {
            "id": "chatcmpl-sim",
            "object": kind,
            "created": CREATED,
            "model": asked.get("model", ""),
            "service_tier": "default",
        }


class Completions:
    """OpenAI legacy completions."""

    def whole(self, asked: Json, words: list[str], counts: Counts | None) -> Json:
        """One choice."""
        return self._chunk(asked, " ".join(words), "stop") | ({"usage": _openai_usage(counts)} if counts else {})

    def events(self, asked: Json, words: list[str], counts: Counts | None) -> Iterator[Event]:
        """A chunk a word."""
        for word in _spaced(words):
            yield _event(self._chunk(asked, word, None)), 1
        yield _event(self._chunk(asked, "", "stop")), 0
        options = asked.get("stream_options")
        if counts and isinstance(options, dict) and options.get("include_usage") is True:
            yield _event(self._chunk(asked, "", None) | {"choices": [], "usage": _openai_usage(counts)}), 0
        yield b"data: [DONE]\n\n", 0

    def _chunk(self, asked: Json, text: str, reason: str | None) -> Json:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return {
            "id": "cmpl-sim",
            "object": "text_completion",
            "created": CREATED,
            "model": asked.get("model", ""),
            "choices": [choice],
        }


class Responses:
    """OpenAI responses, with typed events."""

    def whole(self, asked: Json, words: list[str], counts: Counts | None) -> Json:
        """One message."""
        return self._response(asked, "completed", words, counts)

    def events(self, asked: Json, words: list[str], counts: Counts | None) -> Iterator[Event]:
        """created, a delta a word, completed with the whole response and its usage."""
        number = 0

        def event(kind: str, **more: Any) -> bytes:
            nonlocal number
            number += 1
            return _event({"type": kind, "sequence_number": number, **more}, kind)

        yield event("response.created", response=self._response(asked, "in_progress", [], None)), 0
        place = {"item_id": "msg_sim", "output_index": 0, "content_index": 0}
        for word in _spaced(words):
            yield event("response.output_text.delta", delta=word, logprobs=[], **place), 1
        yield event("response.output_text.done", text=" ".join(words), logprobs=[], **place), 0
        yield event("response.completed", response=self._response(asked, "completed", words, counts)), 0

    def _response(self, asked: Json, status: str, words: list[str], counts: Counts | None) -> Json:
        content = [{"type": "output_text", "text": " ".join(words), "annotations": []}]
        message = {"id": "msg_sim", "type": "message", "role": "assistant", "status": status, "content": content}
        return {
            "id": "resp_sim",
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "model": asked.get("model", ""),
            "output": [message] if words else [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": self._usage(counts) if counts else None,
        }

    def _usage(self, counts: Counts) -> Json:
        return {
            "input_tokens": counts.input,
            "input_tokens_details": {"cached_tokens": counts.cached},
            "output_tokens": counts.output,
            "output_tokens_details": {"reasoning_tokens": counts.reasoning},
            "total_tokens": counts.input + counts.output,
        }


class Messages:
    """Anthropic messages: cached input stands outside ``input_tokens``, ``message_delta`` counts are cumulative."""

    def whole(self, asked: Json, words: list[str], counts: Counts | None) -> Json:
        """One text block."""
        content = [{"type": "text", "text": " ".join(words)}]
        usage = self._usage(counts, counts.output) if counts else None
        return self._message(asked) | {"content": content, "stop_reason": "end_turn", "usage": usage}

    def events(self, asked: Json, words: list[str], counts: Counts | None) -> Iterator[Event]:
        """message_start, one content block, message_delta, message_stop."""
        start = self._message(asked) | {"content": [], "usage": self._usage(counts, 1) if counts else None}
        yield _event({"type": "message_start", "message": start}, "message_start"), 0
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield _event(block, "content_block_start"), 0
        yield _event({"type": "ping"}, "ping"), 0
        for word in _spaced(words):
            delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
            yield _event(delta, "content_block_delta"), 1
        yield _event({"type": "content_block_stop", "index": 0}, "content_block_stop"), 0
        end: Json = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
        yield _event(end | ({"usage": {"output_tokens": counts.output}} if counts else {}), "message_delta"), 0
        yield _event({"type": "message_stop"}, "message_stop"), 0

    def _message(self, asked: Json) -> Json:
        return {
            "id": "msg_sim", "type": "message", "role": "assistant", "model": asked.get("model", ""),
            "stop_reason": None, "stop_sequence": None,
        }  # fmt: skip

    def _usage(self, counts: Counts, output: int) -> Json:
        return {
            "input_tokens": counts.input - counts.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": counts.cached,
            "output_tokens": output,
            "service_tier": "standard",
        }


class Generate:
    """Gemini's ``generateContent``; thoughts stand beside ``candidatesTokenCount``, every chunk of a stream tells usage."""

    def whole(self, asked: Json, words: list[str], counts: Counts | None) -> Json:
        """One candidate."""
        return self._chunk(asked, " ".join(words), counts, "STOP")

    def events(self, asked: Json, words: list[str], counts: Counts | None) -> Iterator[Event]:
        """A chunk a word, as with ``alt=sse``; the last one says that it is."""
        spaced = _spaced(words)
        for number, word in enumerate(spaced, 1):
            last = number == len(spaced)
            so_far = counts and Counts(counts.input, counts.cached, number, counts.reasoning if last else 0)
            yield _event(self._chunk(asked, word, so_far, "STOP" if last else "")), 1

    def _chunk(self, asked: Json, text: str, counts: Counts | None, reason: str) -> Json:
        candidate: Json = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        candidate |= {"finishReason": reason} if reason else {}
        body = {"candidates": [candidate], "modelVersion": asked.get("model", ""), "responseId": "gemini-sim"}
        return body | ({"usageMetadata": self._usage(counts)} if counts else {})

    def _usage(self, counts: Counts) -> Json:
        usage = {
            "promptTokenCount": counts.input,
            "candidatesTokenCount": counts.output - counts.reasoning,
            "totalTokenCount": counts.input + counts.output,
        }
        usage |= {"cachedContentTokenCount": counts.cached} if counts.cached else {}
        return usage | ({"thoughtsTokenCount": counts.reasoning} if counts.reasoning else {})


GENERATE = Generate()
"""Not in the table of paths: Gemini's name the model."""
SHAPES: dict[str, Shape] = {
    "/v1/chat/completions": Chat(),
    "/v1/completions": Completions(),
    "/v1/responses": Responses(),
    "/v1/messages": Messages(),
}


def embeddings(asked: Json, vectors: list[list[float]], read: int) -> Json:
    """OpenAI embeddings."""
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)],
        "model": asked.get("model", ""),
        "usage": {"prompt_tokens": read, "total_tokens": read},
    }


def error(path: str, status: int) -> bytes:
    """An error in the dialect of the path."""
    message = f"The simulator was asked to answer with {status}."
    if path.startswith("/v1/messages"):
        kind = {429: "rate_limit_error", 529: "overloaded_error", 400: "invalid_request_error"}.get(status, "api_error")
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_sim"})
    if path.lower().endswith("generatecontent"):
        kind = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}.get(status, "INTERNAL")
        return orjson.dumps({"error": {"code": status, "message": message, "status": kind}})
    kind = {429: "rate_limit_exceeded", 400: "invalid_request_error"}.get(status, "server_error")
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}})
