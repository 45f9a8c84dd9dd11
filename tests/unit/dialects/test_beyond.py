"""What no byte of a body bounds is seen in every dialect: so that a strict budget holds enough, and a guess not too much."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.beyond import IMAGE_LIKELY_TOKENS, IMAGE_MOST_TOKENS, SEARCHES, TOOLS_MOST_TOKENS
from gateway.dialects.table import dialect_for

CHAT, RESPONSES, MESSAGES = "/chat/completions", "/responses", "/v1/messages"
GEMINI = "/v1beta/models/gemini-2.5-flash:generateContent"
LINK = "https://x.test/a.png"
DATA = "A" * 8000
FUNCTION = {"type": "function", "function": {"name": "f"}}


def ask(path: str, **body: Any) -> Any:
    return dialect_for("openai", "POST", path).ask(json.dumps(body).encode())


def parts(*found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *found]}]


def contents(*found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": [{"text": "What is this?"}, *found]}]


IMAGES = {
    "chat, link": (CHAT, {"messages": parts({"type": "image_url", "image_url": {"url": LINK}})}, len(LINK)),
    "chat, inline": (CHAT, {"messages": parts({"type": "image_url", "image_url": {"url": DATA}})}, 8000),
    "responses, link": (RESPONSES, {"input": parts({"type": "input_image", "image_url": LINK})}, len(LINK)),
    "responses, kept": (RESPONSES, {"input": parts({"type": "input_image", "file_id": "file-1"})}, 0),
    "responses, screen": (
        RESPONSES,
        {"input": [{"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": LINK}}]},
        len(LINK),
    ),
    "messages, inline": (
        MESSAGES,
        {"messages": parts({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}})},
        8000,
    ),
    "messages, from a tool": (
        MESSAGES,
        {
            "messages": parts(
                {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": LINK}}]}
            )
        },
        len(LINK),
    ),
    "gemini, inline": (GEMINI, {"contents": contents({"inlineData": {"mimeType": "image/png", "data": DATA}})}, 8000),
    "gemini, snake": (GEMINI, {"contents": contents({"inline_data": {"mime_type": "image/png", "data": DATA}})}, 8000),
}
OPEN = {
    "chat, file": (CHAT, {"messages": parts({"type": "file", "file": {"file_id": "file-1"}})}),
    "chat, search": (CHAT, {"messages": [], "web_search_options": {}}),
    "chat, search model": (CHAT, {"messages": [], "model": "gpt-4o-search-preview"}),
    "responses, earlier": (RESPONSES, {"input": "go on", "previous_response_id": "resp_1"}),
    "responses, conversation": (RESPONSES, {"input": "go on", "conversation": "conv_1"}),
    "responses, template": (RESPONSES, {"prompt": {"id": "pmpt_1"}}),
    "responses, item kept": (RESPONSES, {"input": [{"type": "item_reference", "id": "msg_1"}]}),
    "responses, file": (RESPONSES, {"input": parts({"type": "input_file", "file_url": "https://x.test/a.pdf"})}),
    "responses, tool": (RESPONSES, {"input": "x", "tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}),
    "messages, pdf": (MESSAGES, {"messages": parts({"type": "document", "source": {"type": "url", "url": LINK}})}),
    "messages, tool": (MESSAGES, {"messages": [], "tools": [{"type": "code_execution_20250825", "name": "c"}]}),
    "messages, mcp": (MESSAGES, {"messages": [], "mcp_servers": [{"type": "url", "url": LINK}]}),
    "gemini, file": (GEMINI, {"contents": contents({"fileData": {"fileUri": "gs://x/a.pdf"}})}),
    "gemini, film": (GEMINI, {"contents": contents({"inlineData": {"mimeType": "video/mp4", "data": DATA}})}),
    "gemini, kept": (GEMINI, {"contents": contents(), "cachedContent": "cachedContents/1"}),
    "gemini, tool": (GEMINI, {"contents": contents(), "tools": [{"urlContext": {}}]}),
}
BOUNDED = {
    "chat": (CHAT, {"messages": [{"role": "user", "content": "image_url file document"}]}),
    "chat, parts": (CHAT, {"messages": parts()}),
    "chat, sound": (CHAT, {"messages": parts({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}})}),
    "chat, functions": (CHAT, {"messages": [], "tools": [FUNCTION]}),
    "chat, old functions": (CHAT, {"messages": [], "functions": [{"name": "f"}]}),
    "responses": (RESPONSES, {"input": "previous_response_id"}),
    "responses, function": (RESPONSES, {"input": "x", "tools": [{"type": "function", "name": "f"}]}),
    "messages, own tool": (MESSAGES, {"messages": [], "tools": [{"name": "f", "input_schema": {}}]}),
    "messages, shell": (MESSAGES, {"messages": [], "tools": [{"type": "bash_20250124", "name": "bash"}]}),
    "messages, text": (
        MESSAGES,
        {"messages": parts({"type": "document", "source": {"type": "text", "data": "all here"}})},
    ),
    "gemini": (GEMINI, {"contents": contents(), "tools": [{"functionDeclarations": []}]}),
    "gemini, sound": (GEMINI, {"contents": contents({"inlineData": {"mimeType": "audio/wav", "data": DATA}})}),
}


@pytest.mark.parametrize(("path", "body", "payload"), IMAGES.values(), ids=IMAGES)
def test_an_image_may_be_more_tokens_than_it_has_bytes(path: str, body: dict[str, Any], payload: int) -> None:
    """The most that is published is held; what is guessed is one image, and its data is no text."""
    found = ask(path, **body)
    assert (found.extra_tokens, found.likely_extra_tokens) == (IMAGE_MOST_TOKENS, IMAGE_LIKELY_TOKENS)
    assert found.media_bytes == payload
    assert not found.open_input


@pytest.mark.parametrize(("path", "body"), OPEN.values(), ids=OPEN)
def test_what_the_body_only_names_has_no_bound_in_it(path: str, body: dict[str, Any]) -> None:
    """Then the model's context is the bound."""
    assert ask(path, **body).open_input


@pytest.mark.parametrize(("path", "body"), BOUNDED.values(), ids=BOUNDED)
def test_what_stands_in_the_body_is_bounded_by_its_bytes(path: str, body: dict[str, Any]) -> None:
    """Words that look like it are text; the caller's own tools add a hidden prompt and nothing else."""
    found = ask(path, **body)
    assert not found.open_input
    assert found.extra_tokens in {0, TOOLS_MOST_TOKENS}
    assert (found.extra_tokens > 0) is bool(body.get("tools") or body.get("functions"))
    assert found.searches == 0


@pytest.mark.parametrize(
    ("path", "tools", "searches"),
    [
        (MESSAGES, [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}], 3),
        (MESSAGES, [{"type": "web_search_20250305", "name": "web_search"}], SEARCHES),
        (MESSAGES, [{"type": "web_search_20250305", "max_uses": -1}], SEARCHES),
        (MESSAGES, [{"type": "web_search_20250305", "max_uses": 10**9}], SEARCHES),
        (RESPONSES, [{"type": "web_search"}], SEARCHES),
        (GEMINI, [{"googleSearch": {}}], SEARCHES),
    ],
)
def test_searches_are_held_as_often_as_the_caller_allows(path: str, tools: list[Any], searches: int) -> None:
    """Or as often as we take to be the most."""
    found = ask(path, tools=tools)
    assert (found.searches, found.open_input) == (searches, True)
