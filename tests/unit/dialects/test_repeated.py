"""Runs of deltas read without being parsed: never anything else than what parsing gives, and never slower for nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects import Dialect, Reading
from gateway.dialects.anthropic_messages import AnthropicMessages
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.repeated import learn
from gateway.dialects.sse import EventSplitter
from gateway.metering.tap import Tap

CHAT, MESSAGES = OpenAIChat(), AnthropicMessages()
ODD = [
    b": a comment\n\n",
    b"data: [DONE]\n\n",
    b"data: {}\n\n",
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":8}}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"two\ndata: lines"},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"\xff"},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"\\ud83d"},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"\\ude00"},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"\x01"},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"\\"},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"\\x"},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"a","b":"c"},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"a","b"},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":",\\"},"finish_reason":null}]}\n\n',
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":","b"},"finish_reason":null}]}\n\n',
    b"data: not json\r\n\r\n",
    b"event: ping\ndata: {}\n\n",
]


def chunk(text: str, *, spaced: bool = False, padding: str | None = None) -> bytes:
    event: dict[str, Any] = {
        "id": "chatcmpl-1",
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }
    if padding is not None:
        event["obfuscation"] = padding
    separators = None if spaced else (",", ":")
    return b"data: " + json.dumps(event, separators=separators, ensure_ascii=False).encode() + b"\n\n"


def plain(text: str) -> bytes:
    """Exactly as the odd ones are written."""
    event = {"model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return b"data: " + json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def block(text: str) -> bytes:
    event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return b"event: content_block_delta\ndata: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


def tapped(dialect: Dialect, stream: bytes, step: int) -> Reading:
    tap = Tap(dialect, True, "")
    for at in range(0, len(stream), step):
        tap.feed(stream[at : at + step])
    return tap.finish()


def parsed(dialect: Dialect, stream: bytes) -> Reading:
    """The same without a short cut."""
    reading, splitter = Reading(), EventSplitter()
    for event in (*splitter.feed(stream), *splitter.finish()):
        dialect.read(event, reading)
    return reading


def facts(reading: Reading) -> tuple[Any, ...]:
    return "".join(reading.text), reading.text_chars, reading.finished, reading.usage, reading.model


words = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [" word", '"', "\\", "\n\n", '"}', "data: "]
)
paddings = st.text("abcXYZ019", max_size=9)


@settings(max_examples=150, deadline=None)
@given(st.lists(words, min_size=1, max_size=30), st.booleans(), st.none() | st.lists(paddings, min_size=1, max_size=5),
       st.lists(st.tuples(st.integers(0, 400), st.sampled_from(ODD)), max_size=4), st.integers(200, 9000))  # fmt: skip
def test_a_run_reads_as_if_it_had_been_parsed(
    texts: list[str], spaced: bool, pads: list[str] | None, odd: list[tuple[int, bytes]], step: int
) -> None:
    """Whatever is said, however it is padded, whatever stands between, wherever it is cut."""
    events = [
        chunk(texts[n % len(texts)], spaced=spaced, padding=pads[n % len(pads)] if pads else None) for n in range(300)
    ]
    for at, event in odd:
        events.insert(at, event)
    stream = b"".join(events)
    assert facts(tapped(CHAT, stream, step)) == facts(parsed(CHAT, stream))


@pytest.mark.parametrize("odd", ODD)
def test_odd_events_in_a_run_read_as_if_they_had_been_parsed(odd: bytes) -> None:
    """Those that no provider writes as well, in the form of those before them, alone and side by side."""
    for other in [b"", *ODD]:
        stream = plain("hi") * 2 + odd + other + plain("ho")
        tap = Tap(CHAT, True, "")
        tap.feed(plain("hi"))
        tap.catch_up()
        tap.feed(stream.removeprefix(plain("hi")))
        assert facts(tap.finish()) == facts(parsed(CHAT, stream))


@settings(max_examples=50, deadline=None)
@given(st.lists(words, min_size=1, max_size=30), st.integers(200, 9000))
def test_anthropics_deltas_are_read_alike(texts: list[str], step: int) -> None:
    """With the event's name on a line of its own."""
    stream = b"".join(block(texts[n % len(texts)]) for n in range(300))
    assert facts(tapped(MESSAGES, stream, step)) == facts(parsed(MESSAGES, stream))


@pytest.mark.parametrize("padding", [None, "abc123"])
@pytest.mark.parametrize("text", [" word", "\n\n", '{"', "\\"])
@pytest.mark.parametrize("step", [1000, 1_000_000])
def test_most_of_a_stream_is_not_parsed(
    monkeypatch: pytest.MonkeyPatch, text: str, padding: str | None, step: int
) -> None:
    """Only what comes before the form is known, and the end."""
    seen = []
    read = OpenAIChat.read
    monkeypatch.setattr(
        OpenAIChat, "read", lambda self, document, reading: seen.append(1) or read(self, document, reading)
    )
    stream = ODD[2] + chunk("a", padding=padding) + chunk(text, padding=padding) * 2000 + ODD[3] + ODD[1]
    reading = tapped(CHAT, stream, step)
    assert reading.text_chars == 1 + 2000 * len(text)
    assert reading.finished
    assert reading.usage
    assert len(seen) < 20


@pytest.mark.parametrize(
    "document",
    [
        b'{"content":null,"x":"hi"}',
        b'{"content":"hi","b":{"content":"hi"}}',
        b'{"content":"h\\u0069"}',
        b'{"a":"hi"}',
        b'{"content":"hi","obfuscation":"a\\"b"}',
    ],
)
def test_a_form_that_is_not_sure_is_not_learned(document: bytes) -> None:
    """Then every event is parsed, as before."""
    form = learn(document, b"content", "hi")
    assert form is None or form.read(b"data: " + document + b"\n\n") in (None, "hi")
    assert form is None or b"null" not in document
