"""What answers teach, where a whole corpus case would say too much."""

from __future__ import annotations

import orjson
import pytest

from gateway.dialects import Reading
from gateway.dialects.anthropic_messages import AnthropicMessages
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_completions import OpenAICompletions
from gateway.dialects.openai_embeddings import OpenAIEmbeddings
from gateway.dialects.openai_responses import OpenAIResponses
from gateway.dialects.values import MAX_TEXT_CHARS


def test_a_null_usage_takes_nothing_back() -> None:
    """All chunks but one say null."""
    reading = Reading()
    OpenAIChat().read(b'{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}', reading)
    OpenAIChat().read(b'{"choices":[{"delta":{"content":"b"}}],"usage":null}', reading)
    assert (reading.usage, reading.text, reading.finished) == ({"prompt_tokens": 1}, ["a", "b"], False)


def test_text_beyond_the_cap_is_counted_and_not_kept() -> None:
    """Memory is bounded, the number is not."""
    reading = Reading()
    for size in (MAX_TEXT_CHARS - 1, 5, 7):
        OpenAIChat().read(orjson.dumps({"choices": [{"delta": {"content": "x" * size}}]}), reading)
    assert reading.text_chars == MAX_TEXT_CHARS + 11
    assert sum(map(len, reading.text)) == MAX_TEXT_CHARS


def test_one_finished_choice_does_not_finish_the_others() -> None:
    """Until the last one says so, or the end of the stream does."""
    reading, states = Reading(), []
    for choice in (
        '{"index":0,"delta":{},"finish_reason":"stop"}',
        '{"index":1,"delta":{"content":"b"},"finish_reason":null}',
    ):
        OpenAIChat().read(f'{{"choices":[{choice}]}}'.encode(), reading)
        states.append(reading.finished)
    OpenAIChat().read(b"[DONE]", reading)
    assert [*states, reading.finished] == [True, False, True]


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        ('{"function_call":{"name":"f","arguments":"{}"}}', "f{}"),
        ('{"tool_calls":[{"type":"custom","custom":{"name":"sh","input":"ls"}}]}', "shls"),
        ('{"content":[{"type":"text","text":"parts"}]}', "parts"),
        ('{"role":"assistant","reasoning":"why"}', "why"),
        ('{"content":"a","refusal":"no"}', "ano"),
        ('"x"', ""),
    ],
)
def test_whatever_the_model_writes_is_text(delta: str, text: str) -> None:
    """Old and new tools, lists of parts, three names of reasoning."""
    reading = Reading()
    OpenAIChat().read(f'{{"choices":[{{"delta":{delta}}}]}}'.encode(), reading)
    assert "".join(reading.text) == text


def test_sound_is_no_text() -> None:
    """Base64 would be counted as a thousand tokens a second."""
    reading = Reading()
    OpenAIResponses().read(b'{"type":"response.audio.delta","delta":"UklGRg"}', reading)
    OpenAIResponses().read(b'{"type":"response.audio.transcript.delta","delta":"hm"}', reading)
    assert reading.text == ["hm"]


def test_a_queued_response_is_not_finished() -> None:
    """A background response is answered at once and written later."""
    reading = Reading()
    OpenAIResponses().read(
        b'{"object":"response","status":"queued","model":"gpt-5.2","output":[],"usage":null}', reading
    )
    assert (reading.model, reading.finished, reading.usage) == ("gpt-5.2", False, None)


def test_null_in_a_later_event_does_not_unsay_a_count() -> None:
    """Anthropic's counts are merged field by field."""
    reading = Reading()
    AnthropicMessages().read(
        b'{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}', reading
    )
    AnthropicMessages().read(
        b'{"type":"message_delta","delta":{},"usage":{"input_tokens":null,"output_tokens":5}}', reading
    )
    assert (reading.usage, reading.finished) == ({"input_tokens": 9, "output_tokens": 5}, False)


def test_the_numbers_of_an_embedding_are_stepped_over() -> None:
    """Broken numbers prove it: the tail alone is parsed, and a body of another shape as a whole."""
    reading = Reading()
    OpenAIEmbeddings().read(b'{"data":[{"embedding":[not json]}],\n "model":"m","usage":{"prompt_tokens":3}}', reading)
    assert (reading.model, reading.usage, reading.finished) == ("m", {"prompt_tokens": 3}, True)
    whole = Reading()
    OpenAIEmbeddings().read(b'{"model":"m","usage":{"prompt_tokens":4},"data":[{"embedding":[1,2]}]}', whole)
    assert (whole.model, whole.usage) == ("m", {"prompt_tokens": 4})


def test_a_completion_without_choices_and_usage_is_not_finished() -> None:
    """It says nothing at all."""
    reading = Reading()
    OpenAICompletions().read(b'{"model":"m","choices":[]}', reading)
    assert (reading.model, reading.finished) == ("m", False)
