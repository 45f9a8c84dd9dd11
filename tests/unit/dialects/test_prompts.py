"""What is billed as input, found in requests of every shape."""

from __future__ import annotations

import orjson

from gateway.dialects.anthropic_messages import MEDIA_TOKENS, TOOLS_TOKENS, AnthropicMessages
from gateway.dialects.openai_chat import IMAGE_TOKENS, OpenAIChat
from gateway.dialects.openai_completions import OpenAICompletions
from gateway.dialects.openai_embeddings import OpenAIEmbeddings
from gateway.dialects.openai_responses import OpenAIResponses

TOOL = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}}


def test_chat_counts_messages_calls_tools_and_schemas() -> None:
    """But no ids, roles or pictures; those have a flat number."""
    body = orjson.dumps(
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "high"}},
                    ],
                },
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "call_1", "function": {"name": "lookup", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "A cat."},
            ],
            "tools": [TOOL],
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer"}},
        }
    )
    found = sorted(OpenAIChat().prompt(body))
    expected = ["Be kind.", "What is this?", "lookup", "{}", "A cat.", orjson.dumps(TOOL).decode(), '{"name":"answer"}']
    assert found == sorted(expected)
    assert OpenAIChat().framing(body) == 3 + 4 * 4 + 12 + IMAGE_TOKENS


def test_anthropic_counts_system_messages_and_tools() -> None:
    """The document's text counts, its base64 does not."""
    body = orjson.dumps(
        {
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "42"}]},
                    ],
                },
                {"role": "assistant", "content": "Yes"},
            ],
            "tools": [{"name": "t"}],
        }
    )
    assert sorted(AnthropicMessages().prompt(body)) == sorted(["Be brief.", "42", "Yes", '{"name":"t"}'])
    assert AnthropicMessages().framing(body) == 3 + 2 * 4 + TOOLS_TOKENS + MEDIA_TOKENS


def test_responses_count_instructions_and_items() -> None:
    """Calls, their outputs and the schema of the answer too."""
    body = orjson.dumps(
        {
            "instructions": "Be brief.",
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_text", "text": "Hi"}, {"type": "input_image", "image_url": "data:x"}],
                },
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "7"},
            ],
            "text": {"format": {"type": "json_schema", "schema": {"a": 1}}},
        }
    )
    assert sorted(OpenAIResponses().prompt(body)) == sorted(["Be brief.", "Hi", "f", "{}", "7", '{"a":1}'])
    assert OpenAIResponses().framing(body) == 3 + 3 * 4 + IMAGE_TOKENS
    assert OpenAIResponses().framing(b'{"input":"Hi","tools":[{}]}') == 3 + 4 + 12


def test_token_ids_are_counted_by_their_number() -> None:
    """They are tokens already."""
    assert OpenAIEmbeddings().framing(b'{"input":[5,6,7]}') == 3
    assert OpenAIEmbeddings().framing(b'{"input":[[5,6],[7]]}') == 3
    assert OpenAIEmbeddings().framing(b'{"input":["a","b"]}') == 0
    assert list(OpenAIEmbeddings().prompt(b'{"input":["a","b"]}')) == ["b", "a"]
    assert OpenAICompletions().framing(b'{"prompt":[1,2]}') == 2


def test_tools_nested_deeper_than_json_is_written_are_counted_all_the_same() -> None:
    """A tool definition of 400 levels is still text that somebody bills."""
    body = b'{"tools":[%b]}' % (b'{"a":' * 400 + b'"deep"' + b"}" * 400)
    assert list(OpenAIChat().prompt(body)) == ["deep"]
