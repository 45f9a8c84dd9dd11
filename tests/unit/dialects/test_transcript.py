"""What was said, out of the requests of every dialect."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects import Reading
from gateway.dialects.transcript import FRAME, MARGIN, answered, asked

CALL = {"id": "c1", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}
CASES = {
    "chat": (
        {"messages": [
            {"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "12 degrees"},
        ]},
        [
            ("system", [("text", "Be kind.")]), ("user", [("text", "Hi")]),
            ("assistant", [("tool_call", '{"city":"Ulm"}')]), ("tool", [("tool_call_response", "12 degrees")]),
        ],
    ),
    "anthropic": (
        {"system": [{"type": "text", "text": "Be kind."}], "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Ulm"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "12 degrees"}]},
        ]},
        [
            ("system", [("text", "Be kind.")]), ("user", [("text", "Hi")]),
            ("assistant", [("tool_call", '{"city":"Ulm"}')]), ("user", [("tool_call_response", "12 degrees")]),
        ],
    ),
    "responses": (
        {"instructions": "Be kind.", "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]},
        [("system", [("text", "Be kind.")]), ("user", [("text", "Hi")])],
    ),
    "responses, one text": ({"input": "Hi"}, [("user", [("text", "Hi")])]),
    "gemini": (
        {"systemInstruction": {"parts": [{"text": "Be kind."}]}, "contents": [
            {"role": "user", "parts": [{"text": "Hi"}, {"inlineData": {"mimeType": "image/png", "data": "aGk="}}]},
            {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Ulm"}}}]},
        ]},
        [
            ("system", [("text", "Be kind.")]), ("user", [("text", "Hi"), ("blob", None)]),
            ("assistant", [("tool_call", '{"city":"Ulm"}')]),
        ],
    ),
    "completions": ({"prompt": ["a", "b"]}, [("user", [("text", "a")]), ("user", [("text", "b")])]),
    "a picture": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:..."}}]}]},
        [("user", [("blob", None)])],
    ),
}  # fmt: skip
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["role", "content", "parts", "type", "text", "tool_calls", "function", "arguments", "input", "id"]),
            inner, max_size=4,
        ),
    ),
    max_leaves=20,
)  # fmt: skip


def same(text: str) -> str:
    return text


def read(text: str) -> list[tuple[str, list[tuple[str, object]]]]:
    return [
        (
            message["role"],
            [
                (part["type"], part.get("content", part.get("arguments", part.get("response"))))
                for part in message["parts"]
            ],
        )
        for message in json.loads(text)
    ]


@pytest.mark.parametrize(("body", "expected"), CASES.values(), ids=CASES)
def test_the_messages_of_a_request(body, expected):
    """In order, each with its role and its parts."""
    assert read(asked(json.dumps(body).encode(), same, 10_000)) == expected


@settings(max_examples=300, deadline=None)
@given(
    body=st.dictionaries(st.sampled_from(["messages", "system", "input", "contents", "prompt"]), anything),
    most=st.integers(0, 50),
)
def test_any_request_gives_messages_within_the_bound(body, most):
    """Nothing that a client sends raises, and nothing goes beyond what is allowed."""
    found = json.loads(asked(json.dumps(body).encode(), same, most))
    texts = [
        part.get(key, "")
        for message in found
        for part in message["parts"]
        for key in ("content", "response", "arguments")
    ]
    assert sum(len(text.removesuffix("…")) for text in texts if isinstance(text, str)) <= most
    assert json.loads(asked(b"\xff not json", same, most)) == []


def test_the_newest_is_kept_and_the_oldest_cut():
    """It is what somebody looks for."""
    body = {"messages": [{"role": "user", "content": each} for each in ("oldest", "old " * 50, "new")]}
    assert read(asked(json.dumps(body).encode(), same, 3 + 7 + 2 * len("user") + 4 * FRAME)) == [
        ("user", [("text", "old old…")]), ("user", [("text", "new")]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "x"}] * 20_000},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 20_000}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}] * 20_000}]},
        {"messages": [{"role": "r" * 256, "content": []}] * 20_000},
        {"messages": [{"tool_calls": [{"id": "i" * 256, "function": {"name": "n" * 256}}] * 20_000}]},
        {"input": [""] * 20_000},
    ],
    ids=["messages", "texts", "pictures", "roles", "tool calls", "inputs"],
)
def test_many_small_parts_are_no_way_round_the_bound(body):
    """What stands around the texts counts as well: a megabyte of one-letter messages was eight of spans."""
    assert len(asked(json.dumps(body).encode(), same, 4096)) < 2 * 4096


def test_what_is_not_shown_is_not_searched():
    """A search holds the whole process up (the interpreter's lock), so that it ends with what can be shown."""
    seen: list[int] = []

    def redact(text: str) -> str:
        seen.append(len(text))
        return text

    body = {"messages": [{"role": "user", "content": "x" * 10_000_000}] * 3}
    asked(json.dumps(body).encode(), redact, 1000)
    answered(Reading(text=["x" * 1_000_000]), redact, 1000)
    assert sum(seen) < 2 * (1000 + MARGIN)


@pytest.mark.parametrize("before", [0, 3, 400])
@pytest.mark.parametrize("place", [0, 50, 95, 99, 100, 105])
def test_a_secret_on_the_border_is_not_shown_by_half(place, before):
    """Whatever was masked before it."""

    def redact(text: str) -> str:
        return re.sub(r"key-[a-z]{20}!", "***", text)

    long = "key-abcdefghijklmnopqrst! " * before + "." * place + "key-abcdefghijklmnopqrst!" + "." * 10_000
    for most in (*range(100, 240), *range(2000, 2030)):
        found = asked(json.dumps({"input": long}).encode(), redact, most)
        assert "abc" not in found
        assert len(read(found)[0][1][0][1]) <= most


def test_arguments_nested_too_deep_to_be_written_are_told_by_their_texts():
    """A parser takes 1024 levels, its writer 254."""
    arguments = "deep"
    for _ in range(300):
        arguments = [arguments]
    body = {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": arguments}]}]}
    assert read(asked(json.dumps(body).encode(), same, 1000)) == [("assistant", [("tool_call", "deep")])]


def test_everything_goes_through_the_redaction():
    """Texts, arguments and results of tools, and the answer."""
    for body, _ in CASES.values():
        found = asked(json.dumps(body).encode(), lambda text: "***", 10_000)
        assert not any(word in found for word in ("Hi", "kind", "Ulm", "degrees"))
    reading = Reading(text=["a sec", "ret"], finished=True)
    assert "secret" in answered(reading, same, 100)
    assert "secret" not in answered(reading, lambda text: text.replace("secret", "***"), 100)
    assert json.loads(answered(Reading(), same, 100)) == []
    assert json.loads(answered(Reading(text=["x"]), same, 100))[0]["finish_reason"] == "error"
