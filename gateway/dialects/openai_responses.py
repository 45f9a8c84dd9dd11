"""The dialect of ``responses``: a list of items in, a list of items out, named events between.

The last event holds the whole response again, usage included; the text is taken from the deltas only, so nothing counts
twice. Cannot see what the provider keeps for the caller (earlier responses, stored prompts, files).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from gateway.dialects import pictures, prompts
from gateway.dialects.beyond import Beyond
from gateway.dialects.openai_usage import split
from gateway.dialects.values import (
    Json,
    add_text,
    as_list,
    as_object,
    asked,
    name,
    note_model,
    output_bound,
    parse,
    parse_request,
)
from gateway.dialects.voices import OpenAIVoice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.call import Ask
    from gateway.dialects import Reading
    from pricing.usage import Usage

LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})
LAST_STATES = frozenset({"completed", "incomplete", "failed", "cancelled"})
NOT_TEXT = frozenset({"response.audio.delta"})
"""Deltas whose string is base64."""
WRITTEN = ("name", "arguments", "input", "code", "text", "refusal")
"""Where the items of a whole response hold what the model wrote."""

KEPT = ("previous_response_id", "conversation", "prompt")
"""What the provider keeps for the caller: it is read again, and billed."""
OWN_TOOLS = frozenset(("function", "custom"))
IMAGE_TOKENS = 1105
TOOLS_TOKENS = 12
"""As in ``openai_chat``."""


class OpenAIResponses(OpenAIVoice):
    """See the module's docstring."""

    __slots__ = ()
    operation = "responses"
    metered = True

    def ask(self, body: bytes) -> Ask:
        """One choice, bounded by ``max_output_tokens`` (reasoning included)."""
        root, fault = parse_request(body)
        most = output_bound(root.get("max_output_tokens"))
        return asked(self.operation, body, root, fault, _beyond(root), max_output_tokens=most)

    def read(self, document: bytes, reading: Reading) -> None:
        """A delta, the opening of an item, an event that holds the response, or the response itself."""
        try:
            root = orjson.loads(document)
        except ValueError:
            return
        if type(root) is not dict:
            return
        kind = root.get("type")
        if type(kind) is str:
            self._read_event(kind, root, reading)
        elif "output" in root or "usage" in root or "status" in root:
            self._read_whole(root, reading)

    def _read_event(self, kind: str, root: Json, reading: Reading) -> None:
        if kind.endswith(".delta"):
            if kind not in NOT_TEXT:
                add_text(reading, root.get("delta"))
        elif kind == "response.output_item.added":
            add_text(reading, as_object(root.get("item")).get("name"))
        elif kind == "response.output_item.done":
            _note_search(reading, as_object(root.get("item")))
        elif type(response := root.get("response")) is dict:
            self._note(response, reading)
            reading.finished = reading.finished or kind in LAST_EVENTS

    def _read_whole(self, root: Json, reading: Reading) -> None:
        """A body that is no stream. One that is still queued (``background``) has neither usage nor an end."""
        self._note(root, reading)
        reading.finished = reading.usage is not None or name(root.get("status")) in LAST_STATES
        for item in as_list(root.get("output")):
            if type(item) is dict:
                _add_item(reading, item)
                _note_search(reading, item)

    def _note(self, response: Json, reading: Reading) -> None:
        note_model(reading, response)
        reading.id = reading.id or name(response.get("id"))
        if type(response.get("usage")) is dict:
            reading.usage = response["usage"]

    def usage(self, raw: Json) -> Usage | None:
        """``input_tokens`` includes cached ones, ``output_tokens`` includes reasoning."""
        return split(raw, "input_tokens", "output_tokens")

    def prompt(self, body: bytes) -> Iterator[str]:
        """Instructions, input items, then definitions of tools and of the answer's schema."""
        root, _ = parse(body)
        return prompts.together(
            prompts.texts(root.get("instructions")),
            prompts.texts(root.get("input")),
            prompts.texts(as_object(root.get("prompt")).get("variables")),
            prompts.definitions(root.get("tools")),
            prompts.definitions(as_object(as_object(root.get("text")).get("format")).get("schema")),
        )

    def framing(self, body: bytes) -> int:
        """Four tokens an item and three for the answer, a frame around tools, a flat number for each image or file."""
        root, fault = parse(body)
        items = root.get("input")
        tokens = 0 if fault else prompts.PRIMING_TOKENS + prompts.MESSAGE_TOKENS * max(1, len(as_list(items)))
        rule = pictures.openai_rule(name(root.get("model")))
        tokens += pictures.tokens(items, prompts.MEDIA_PARTS, IMAGE_TOKENS, rule)
        return tokens + (TOOLS_TOKENS if root.get("tools") else 0)


def _beyond(root: Json) -> Beyond:
    beyond = Beyond(open=any(root.get(key) is not None for key in KEPT))
    beyond.messages(root.get("input"))
    beyond.tools(root.get("tools"), lambda kind: kind not in OWN_TOOLS)
    return beyond


def _note_search(reading: Reading, item: Json) -> None:
    """Web searches are billed by the call (OpenAI, pricing, "Built-in tools"); opening a page that was found is not one."""
    if item.get("type") == "web_search_call" and as_object(item.get("action")).get("type", "search") == "search":
        reading.searches += 1


def _add_item(reading: Reading, item: Json) -> None:
    """One output item: its own strings, then those of its content and summary parts."""
    for part in (item, *as_list(item.get("content")), *as_list(item.get("summary"))):
        if type(part) is dict:
            for key in WRITTEN:
                add_text(reading, part.get(key))
