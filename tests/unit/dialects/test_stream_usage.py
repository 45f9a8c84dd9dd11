"""Asking for usage in a caller's name: the caller sees none of it, whatever the stream looks like and however it is cut."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_completions import OpenAICompletions
from gateway.dialects.openai_responses import OpenAIResponses
from gateway.dialects.stream_usage import MAX_EVENT_BYTES, Unasked, with_usage

USAGE = {"prompt_tokens": 1, "completion_tokens": 2}
texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from([',"usage":null', '"usage":null,', "usage", "\n\n", "\r\r", '\\"usage\\":null']),
)
names = st.sampled_from(["id", "model", "object", "système_fingerprint"])
chunks = st.builds(
    lambda before, text, after: (before, text, after),
    st.dictionaries(names, texts, max_size=2),
    texts,
    st.dictionaries(st.sampled_from(["obfuscation", "service_tier"]), texts, max_size=2),
)


def dumped(value: Any, compact: bool) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":") if compact else None).encode()


def both(given_: list[Any], end: str, compact: bool, first: bool, done: bool) -> tuple[bytes, bytes]:
    """The stream with usage, and the same without it, as a provider would write both."""
    told, plain = [], []
    for before, text, after in given_:
        choices = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
        null = {"usage": None}
        full = {**null, **before, **choices, **after} if first else {**before, **choices, **null, **after}
        told.append(dumped(full, compact))
        plain.append(dumped({**before, **choices, **after}, compact))
    told.append(dumped({"id": "x", "choices": [], "usage": USAGE}, compact))
    if done:
        told.append(b"[DONE]")
        plain.append(b"[DONE]")
    blank = end.encode() * 2
    comment = b": keep-alive" + blank
    return tuple(comment + b"".join(b"data: " + each + blank for each in side) for side in (told, plain))  # type: ignore[return-value]


@settings(max_examples=200, deadline=None)
@given(
    given_=st.lists(chunks, max_size=5),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    compact=st.booleans(),
    first=st.booleans(),
    done=st.booleans(),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
)
def test_the_caller_gets_the_stream_that_it_would_have_had(
    given_: list[Any], end: str, compact: bool, first: bool, done: bool, cuts: list[int]
) -> None:
    """Byte for byte, with usage at the front or the end of a chunk, any line end, and however the bytes come in."""
    told, plain = both(given_, end, compact, first, done)
    edges = sorted({0, len(told), *(cut % (len(told) + 1) for cut in cuts)})
    rewriter = Unasked()
    found = [rewriter.feed(told[start:stop]) for start, stop in itertools.pairwise(edges)]
    assert b"".join([*found, rewriter.end()]) == plain


def test_an_event_is_passed_on_when_it_is_whole() -> None:
    """Nothing waits but the beginning of an event that was cut in two."""
    rewriter = Unasked()
    assert rewriter.feed(b'data: {"choices":[1],"usage":null}\n\ndata: {"cho') == b'data: {"choices":[1]}\n\n'
    assert rewriter.feed(b'ices":[2]}\n') == b""
    assert rewriter.feed(b"\n") == b'data: {"choices":[2]}\n\n'
    assert rewriter.feed(b"data: cut off") == b""
    assert rewriter.end() == b"data: cut off"
    assert rewriter.end() == b""


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"usage":null\n\n',
        b'data: "usage"\n\n',
        b'event: usage\ndata: {"usage":null}\n\n',
        b': "usage":null\n\n',
        b'data: {"error":{"message":"no \\"usage\\":null"}}\n\n',
    ],
)
def test_what_is_something_else_is_not_touched(event: bytes) -> None:
    """Usage on a chunk with choices, broken JSON, other events, comments, errors."""
    rewriter = Unasked()
    assert rewriter.feed(event) + rewriter.end() == event


def test_an_endless_event_is_not_kept() -> None:
    """It is passed on as it comes, with all that follows."""
    rewriter = Unasked()
    pieces = [b"data: " + b"x" * (MAX_EVENT_BYTES + 1), b'more\n\ndata: {"choices":[],"usage":{}}\n\n']
    assert [rewriter.feed(piece) for piece in pieces] == pieces


BODIES = {
    "compact": b'{"model":"m","stream":true,"messages":[]}',
    "spaced": b' \n{ "stream": true, "model": "m" }',
    "said twice": b'{"stream":false,"stream":true}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_wish_is_put_in_and_nothing_else_is_changed(body: bytes) -> None:
    """One insertion; what the provider reads is the same plus the wish."""
    for dialect in (OpenAIChat(), OpenAICompletions()):
        sent = with_usage(dialect.ask(body), body)
        assert sent is not None
        assert json.loads(sent) == json.loads(body) | {"stream_options": {"include_usage": True}}
        at = body.index(b"{") + 1
        assert (sent[:at], sent[-len(body) + at :]) == (body[:at], body[at:])


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m"}', b'{"stream":false}', b'{"stream":"true"}', b"[]", b"", b'{"stream":true',
        b'{"stream":true,"stream_options":{"include_usage":false}}', b'{"stream":true,"stream_options":null}',
    ],
)  # fmt: skip
def test_what_is_no_stream_or_was_spoken_of_is_left_alone(body: bytes) -> None:
    """The caller's own word counts."""
    assert with_usage(OpenAIChat().ask(body), body) is None


def test_other_dialects_always_tell_their_usage() -> None:
    """Nothing to ask for."""
    body = b'{"stream":true,"input":"x"}'
    assert with_usage(OpenAIResponses().ask(body), body) is None
