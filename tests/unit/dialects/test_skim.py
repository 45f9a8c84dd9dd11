"""A request without its long texts says of itself what the whole one says, and hides no fault of its structure."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Container
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects import skim as skimming
from gateway.dialects.anthropic_messages import AnthropicMessages
from gateway.dialects.gemini import GeminiGenerate
from gateway.dialects.openai_chat import OpenAIChat
from gateway.dialects.openai_completions import OpenAICompletions
from gateway.dialects.openai_responses import OpenAIResponses
from gateway.dialects.skim import CONTENT, LEAST_BYTES, LONG_BYTES, MARK, length, skim
from gateway.dialects.stream_usage import with_usage
from gateway.dialects.values import hidden_fault

LONG = "A" * LEAST_BYTES

texts = st.text(alphabet='ab"\\\n/é€😀\x1f', max_size=12)
longs = st.builds(
    lambda text, times: text * times,
    st.sampled_from(["abc", "a\\", "é", "\\\\", "ab\n"]),
    st.integers(LONG_BYTES, 3 * LONG_BYTES),
)
strings = st.one_of(texts, texts, longs, st.builds(lambda a, b, c: a + b + c, texts, longs, texts))
names = st.sampled_from(["text", "content", "url", "model", "n", "type"])
keys = st.one_of(names, names, strings)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), strings),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


def same(whole: Any, skimmed: Any, sizes: Callable[[str], Container[int]]) -> bool:
    """Alike, but that a stand-in tells the size in JSON of what it stands for."""
    if type(whole) is not type(skimmed):
        return False
    if isinstance(whole, dict):
        return whole.keys() == skimmed.keys() and all(
            same(each, skimmed[key], sizes)
            and (key.encode() in CONTENT or not (isinstance(skimmed[key], str) and skimmed[key].startswith(MARK)))
            for key, each in whole.items()
        )
    if isinstance(whole, list):
        return len(whole) == len(skimmed) and all(same(a, b, sizes) for a, b in zip(whole, skimmed, strict=True))
    if isinstance(whole, str) and skimmed.startswith(MARK):
        return length(skimmed) >= LONG_BYTES and length(skimmed) in sizes(whole)
    return bool(whole == skimmed)


@settings(max_examples=300, deadline=None)
@given(values, st.booleans())
def test_what_is_left_is_what_was_there(value: Any, ascii_only: bool) -> None:
    """Whatever stands in strings: quotes, backslashes in a row, other scripts."""
    body = json.dumps({"v": value, "text": LONG}, ensure_ascii=ascii_only).encode()
    skimmed = skim(body)
    assert same(
        orjson.loads(body),
        orjson.loads(skimmed),
        lambda text: (len(json.dumps(text, ensure_ascii=ascii_only).encode()) - 2,),
    )


@settings(max_examples=300, deadline=None)
@given(values, st.data())
def test_a_body_that_is_cut_or_changed_outside_of_long_texts_is_no_json_either(value: Any, data: st.DataObject) -> None:
    """What parses after it was skimmed either parsed before, or is wrong within a long string only."""
    body = json.dumps({"v": value, "text": LONG}).encode()
    at = data.draw(st.integers(0, len(body) - 1))
    broken = body[:at] + data.draw(st.sampled_from([b"", b'"', b"\\", b"{", b","])) + body[at + 1 :]
    skimmed = skim(broken)
    try:
        root = orjson.loads(skimmed)
    except ValueError:
        with pytest.raises(ValueError):
            orjson.loads(broken)
        return
    try:
        assert same(orjson.loads(broken), root, lambda text: range(len(text), 12 * len(text) + 1))
    except ValueError:
        assert MARK.encode() in skimmed
        assert hidden_fault(broken) == "the body is not valid JSON"


PICTURE = base64.b64encode(bytes(range(256)) * 400).decode()
LINK = f"data:image/png;base64,{PICTURE}"
CHAT = {"model": "gpt-4o", "n": 2, "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": [
    {"type": "text", "text": LONG}, {"type": "image_url", "image_url": {"url": LINK}},
    {"type": "input_audio", "input_audio": {"data": PICTURE, "format": "wav"}},
    {"type": "file", "file": {"file_data": PICTURE}}]}]}  # fmt: skip
ANTHROPIC = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": [
    {"type": "image", "source": {"type": "base64", "data": PICTURE}},
    {"type": "document", "source": {"type": "text", "data": LONG}}]}]}  # fmt: skip
RESPONSES = {
    "model": "gpt-5",
    "input": [{"role": "user", "content": [{"type": "input_image", "image_url": LINK}]}],
    "tools": [{"type": "web_search"}],
}
GEMINI = {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": PICTURE}}, {"text": LONG},
    {"inline_data": {"mime_type": "video/mp4", "data": PICTURE}}]}], "generationConfig": {"maxOutputTokens": 7}}  # fmt: skip
COMPLETIONS = {"model": "davinci", "prompt": LONG + LONG, "n": 3}


@pytest.mark.parametrize(
    ("dialect", "asked"),
    [
        (OpenAIChat(), CHAT),
        (AnthropicMessages(), ANTHROPIC),
        (OpenAIResponses(), RESPONSES),
        (GeminiGenerate(), GEMINI),
        (OpenAICompletions(), COMPLETIONS),
    ],
    ids=lambda each: getattr(each, "operation", ""),
)
def test_what_is_asked_is_the_same(dialect: Any, asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models, bounds, what is media and how large it is."""
    body = json.dumps(asked).encode()
    assert len(skim(body)) < LEAST_BYTES < len(body)
    quick = dialect.ask(body)
    monkeypatch.setattr(skimming, "LEAST_BYTES", len(body) + 1)
    assert dialect.ask(body) == quick
    assert not quick.fault


@pytest.mark.parametrize("junk", ["\xff", "\\\n", "\x00"])
@pytest.mark.parametrize(
    "member", ['"mod{}el":"dear"', '"n{}":100', '"model{}":"dear"', '"type":"image_url{}"', '"model":"dear{}"']
)
def test_what_is_told_or_counted_is_parsed_however_long_it_is(member: str, junk: str) -> None:
    """A provider that drops what is no JSON would read a model, a bound or a kind that the gateway has not seen."""
    body = (
        '{"model":"cheap","n":1,' + member.replace("{}", junk * LEAST_BYTES) + ',"text":"' + 3 * LONG + '"}'
    ).encode("latin-1")
    assert len(skim(body)) < len(body)
    assert OpenAIChat().ask(body).fault == "the body is not valid JSON"


@pytest.mark.parametrize("within", ['"', "\\", '\\"', '"\\', "\\\\", '\\\\"', '"",', "\\n"])
def test_quotes_and_backslashes_in_a_long_text(within: str) -> None:
    """Three in a row are one and an escaped quote; two and a quote are the end."""
    body = json.dumps({"text": LONG + within, "model": "m", "content": LONG + within + LONG}).encode()
    root = orjson.loads(skim(body))
    size = len(LONG) + len(json.dumps(within)) - 2
    assert (length(root["text"]), root["model"], length(root["content"])) == (size, "m", size + len(LONG))
    assert root["text"].startswith(MARK)


def test_a_long_model_is_told_as_it_came() -> None:
    """Cut, like any other; who is told never learns how stand-ins look."""
    body = json.dumps({"model": "m" * LEAST_BYTES, "messages": [{"content": 3 * LONG}]}).encode()
    assert MARK.encode() in skim(body)
    assert OpenAIChat().ask(body).model == "m" * 256


@pytest.mark.parametrize("many", [" " * 9000 + "8", "0" * 9000 + "8", "8" + " " * 9000])
def test_a_number_in_a_long_string_counts(many: str) -> None:
    """Lenient providers read it."""
    body = json.dumps({"model": "m", "n": many, "messages": [{"content": 3 * LONG}]}).encode()
    assert MARK.encode() in skim(body)
    assert OpenAIChat().ask(body).choices >= 8


@pytest.mark.parametrize(
    "text", ['he said "hello". ' * 4000, '\\"' * 40_000, "\\" * 60_000, ",".join(f'"{each}"' for each in range(20_000))]
)
def test_what_has_many_quotes_is_left_to_the_parser(text: str) -> None:
    """Passing over each of them takes longer than parsing."""
    body = json.dumps({"model": "m", "text": text}).encode()
    assert skim(body) is body


def test_small_bodies_stay_as_they_are() -> None:
    """A parser is as quick."""
    body = json.dumps({"text": "a" * (LEAST_BYTES - 20)}).encode()
    assert skim(body) is body


def test_nobody_can_send_a_stand_in() -> None:
    """A payload that calls itself one is as long as it is."""
    assert length("long-0123456789abcdef-0-9999999") == 31


def test_usage_is_asked_for_in_a_long_request_that_cannot_be_parsed_whole() -> None:
    """The provider says what is wrong with it."""
    body = b'{"stream":true,"messages":[{"content":"' + LONG.encode() + b"\n" + b'"}]}'
    ask = OpenAIChat().ask(body)
    sent = with_usage(ask, body)
    assert not ask.fault
    assert sent == b'{"stream_options":{"include_usage":true},' + body[1:]
