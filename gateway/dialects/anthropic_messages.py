"""The dialect of Anthropic's ``messages``.

Owns what is special in its counting: ``input_tokens`` excludes everything cached, usage comes in two events of a stream,
and the second is cumulative, so fields are replaced and never added. llama.cpp and others speak it too, with fewer fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from gateway.dialects import pictures, prompts
from gateway.dialects.beyond import Beyond
from gateway.dialects.values import (
    Json,
    add_text,
    add_up,
    as_list,
    as_object,
    asked,
    count,
    name,
    note_model,
    output_bound,
    parse,
    parse_request,
)
from gateway.dialects.voices import AnthropicVoice
from pricing.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.call import Ask
    from gateway.dialects import Reading

APART = frozenset({"compaction", "advisor_message"})
"""Iterations that the totals leave out (SDK, ``BetaUsage.iterations``); the others are inside them."""
TOTALS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
HOSTED = ("web_search", "web_fetch", "code_execution", "mcp", "tool_search", "advisor")
"""How the types of tools begin that Anthropic runs itself."""
MEDIA_TOKENS = 1600
"""An image of the largest size that is not scaled down (Anthropic, "Vision": width x height / 750)."""
TOOLS_TOKENS = 346
"""The hidden prompt that comes with tools (Anthropic, "Tool use", table of system prompt tokens)."""


class AnthropicMessages(AnthropicVoice):
    """See the module's docstring."""

    __slots__ = ()
    operation = "messages"
    metered = True

    def ask(self, body: bytes) -> Ask:
        """``speed: fast`` is a tier of its own price, so it is told as one. Where Anthropic manages the context, what it writes
        to shorten it is billed beside ``max_tokens``.
        """
        root, fault = parse_request(body)
        tier = "fast" if root.get("speed") == "fast" else ""
        most = None if root.get("context_management") else output_bound(root.get("max_tokens"))
        return asked(self.operation, body, root, fault, _beyond(root), max_output_tokens=most, service_tier=tier)

    def read(self, document: bytes, reading: Reading) -> None:
        """One event, or the whole message."""
        try:
            root = orjson.loads(document)
        except ValueError:
            return
        if type(root) is not dict:
            return
        kind = root.get("type")
        if kind == "content_block_delta":
            delta = root.get("delta")
            if type(delta) is dict:
                add_text(reading, delta.get("text") or delta.get("partial_json") or delta.get("thinking"))
                if type(text := delta.get("text")) is str and text:
                    reading.note_form(document, b"text", text, b"event: content_block_delta\n")
        elif kind == "content_block_start":
            _add_block(reading, root.get("content_block"))
        elif kind == "message_delta":
            _merge(reading, root.get("usage"))
            reading.finished = as_object(root.get("delta")).get("stop_reason") is not None
        elif kind == "message_start":
            self._read_message(as_object(root.get("message")), reading)
        elif kind == "message_stop":
            reading.finished = True
        elif kind == "message" or "content" in root:
            self._read_message(root, reading)
            reading.finished = True

    def _read_message(self, message: Json, reading: Reading) -> None:
        note_model(reading, message)
        _merge(reading, message.get("usage"))
        for block in as_list(message.get("content")):
            _add_block(reading, block)

    def usage(self, raw: Json) -> Usage | None:
        """The totals, and the iterations that are billed beside them."""
        if all(count(raw.get(key)) is None for key in TOTALS):
            return None
        parts = [_split(item) for item in _billed(raw)]
        sums = [sum(column) for column in zip(*parts, strict=True)]
        searches = count(as_object(raw.get("server_tool_use")).get("web_search_requests")) or 0
        return Usage(
            input=sums[0], cached_input=sums[1], cache_write=sums[2], cache_write_1h=sums[3],
            output=sums[4], reasoning=sums[5], searches=searches,
        )  # fmt: skip

    def prompt(self, body: bytes) -> Iterator[str]:
        """System, messages with tool calls and results, then the tools."""
        root, _ = parse(body)
        return prompts.together(
            prompts.texts(root.get("system")),
            prompts.texts(root.get("messages")),
            prompts.definitions(root.get("tools")),
        )

    def framing(self, body: bytes) -> int:
        """Four tokens a message and three for the answer, the hidden prompt of tools, a flat number for each image."""
        root, fault = parse(body)
        messages = root.get("messages")
        tokens = 0 if fault else prompts.PRIMING_TOKENS + prompts.MESSAGE_TOKENS * len(as_list(messages))
        tokens += pictures.tokens(messages, prompts.MEDIA_PARTS, MEDIA_TOKENS, pictures.claude_rule)
        return tokens + (TOOLS_TOKENS if root.get("tools") else 0)


def _beyond(root: Json) -> Beyond:
    beyond = Beyond(open=any(root.get(key) for key in ("container", "context_management", "mcp_servers")))
    beyond.messages(root.get("messages"))
    beyond.tools(root.get("tools"), lambda kind: kind.startswith(HOSTED))
    return beyond


def _merge(reading: Reading, usage: Any) -> None:
    """Field by field, the last one wins; null says nothing."""
    if type(usage) is not dict:
        return
    told = {key: value for key, value in usage.items() if value is not None}
    reading.largest_input = (
        max(reading.largest_input, largest_input(told)) if "iterations" in told else reading.largest_input
    )
    reading.usage = {**(reading.usage or {}), **told}
    tier = "fast" if told.get("speed") == "fast" else told.get("service_tier")
    if tier is not None:
        reading.service_tier = name(tier)
    if told.get("inference_geo") == "us" and "@" not in reading.service_tier:  # billed at 1.1 times from Opus 4.6 on
        reading.service_tier += "@us"


def _add_block(reading: Reading, block: Any) -> None:
    """The opening of a block in a stream (a tool's name, mostly), or a whole block."""
    if type(block) is not dict:
        return
    for key in ("name", "text", "thinking"):
        add_text(reading, block.get(key))
    if block.get("input"):  # an object that is empty while a stream is still to fill it
        for text in prompts.definitions(block["input"]):
            add_text(reading, text)


def largest_input(usage: Json) -> int:
    """What the largest of the requests behind a usage has read: the message itself, or an iteration billed beside it."""
    return max(sum(_split(item)[:4]) for item in _billed(usage))


def flattened(usage: Json) -> Json:
    """The same bill without iterations: what is billed beside the totals is in them."""
    if "iterations" not in usage:
        return usage
    total: Json = {key: value for key, value in usage.items() if key != "iterations"}
    for item in _billed(usage)[1:]:
        add_up(total, {key: value for key, value in item.items() if key != "type"})
    return total


def _billed(raw: Json) -> list[Json]:
    """The totals, and the iterations that they leave out."""
    return [raw, *(item for item in map(as_object, as_list(raw.get("iterations"))) if item.get("type") in APART)]


def _split(raw: Json) -> tuple[int, int, int, int, int, int]:
    """Input, cache read, 5-minute write, 1-hour write, visible output, thinking. The totals win over their details."""
    told = as_object(raw.get("cache_creation"))
    hour, minutes = count(told.get("ephemeral_1h_input_tokens")) or 0, count(told.get("ephemeral_5m_input_tokens")) or 0
    total = count(raw.get("cache_creation_input_tokens"))
    written = hour + minutes if total is None else total
    output = count(raw.get("output_tokens")) or 0
    thinking = min(count(as_object(raw.get("output_tokens_details")).get("thinking_tokens")) or 0, output)
    hour = min(hour, written)
    read, cached = count(raw.get("input_tokens")) or 0, count(raw.get("cache_read_input_tokens")) or 0
    return read, cached, written - hour, hour, output - thinking, thinking
