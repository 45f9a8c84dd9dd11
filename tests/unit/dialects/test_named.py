"""Models that stand in a body beside the one that its dialect reads, held against a reader that keeps every member."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.form import fault_of
from gateway.dialects.named import TWICE, further, is_plain

NAMES = (
    "model",
    "Model",
    "models",
    "modelſ",
    "MODELS",
    "messages",
    "preset",
    "fallbacks",
    "tools",
    "text",
    "modal",
    "",
)
VALUES: Any = st.recursive(
    st.sampled_from(("gpt-4o", "model", '"model"', "\\", None, 1)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(st.sampled_from(NAMES), inner), max_size=3).map(tuple)
    ),
    max_leaves=8,
)
MEMBERS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=5)


def spelt(text: str, data: st.DataObject) -> str:
    """A JSON string, some of its characters escaped though they need not be."""
    written = json.dumps(text, ensure_ascii=data.draw(st.booleans()))
    if data.draw(st.booleans()) and text and text.isascii() and text.isalnum():
        at = data.draw(st.integers(0, len(text) - 1))
        escape = data.draw(st.sampled_from(("\\u%04x", "\\u%04X"))) % ord(text[at])
        return f'"{text[:at]}{escape}{text[at + 1 :]}"'
    return written


def written(value: Any, data: st.DataObject) -> str:
    """JSON in which an object can have a member twice: objects are tuples of pairs."""
    if isinstance(value, tuple):
        gap = data.draw(st.sampled_from(("", " ", "\n")))
        return "{" + ",".join(f"{spelt(name, data)}{gap}:{gap}{written(each, data)}" for name, each in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(each, data) for each in value) + "]"
    return spelt(value, data) if isinstance(value, str) else json.dumps(value)


def pairs_of(body: bytes) -> list[tuple[str, Any]]:
    """The members of the root, as Python's own parser hands them out."""
    seen: list[list[tuple[str, Any]]] = []
    json.loads(body, object_pairs_hook=lambda pairs: seen.append(pairs) or dict(pairs))
    return seen[-1]


@given(MEMBERS, st.data())
def test_a_model_that_is_named_twice_is_found(members: list[tuple[str, Any]], data: st.DataObject) -> None:
    """However it is spelt, and wherever else the word stands; and nothing else is taken for that."""
    body = written(tuple(members), data).encode()
    keys = [name.casefold() for name, _ in pairs_of(body)]
    names, fault = further(body)
    assert fault == (TWICE if keys.count("model") > 1 else "")
    if is_plain(body):
        assert keys.count("model") <= 1
        assert not set(keys) & {"models", "fallbacks", "preset"}
        assert names == []


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('{"model": "a", "messages": [{"role": "user", "content": "a \\"model\\": \\"b\\""}]}', []),
        ('{"model": "a", "models": ["b", "c"], "route": "fallback"}', ["c", "b"]),
        ('{"model": "a", "mod\\u0065ls": ["b"]}', ["b"]),
        ('{"model": "a", "models": null}', []),
        ('{"model": "a", "models": [1]}', [""]),
        ('{"model": "a", "fallbacks": [{"model": "b"}]}', ["b"]),
        ('{"model": "a", "preset": "mine"}', ["@preset/mine"]),
        ('{"model": "a", "tools": [{"type": "image_generation", "model": "b"}]}', ["b"]),
        ('{"model": "a", "plugins": [{"id": "fusion", "analysis_models": ["b"]}]}', ["b"]),
        (
            '{"model": "a", "tools": [{"type": "function", "parameters": {"properties": {"model": {"type": "string"}}}}]}',
            [],
        ),
        ('{"model": "a", "tools": [{"type": "function", "function": {"name": "f", "model": "of a car"}}]}', []),
        ('{"model": "a", "messages": [{"content": [{"type": "tool_use", "input": {"model": "of a car"}}]}]}', []),
    ],
)
def test_what_else_a_provider_might_serve(body: str, found: list[str]) -> None:
    """Fall-backs, presets and tools' own models; not the arguments of the caller's own tools."""
    assert further(body.encode()) == (found, "")


def test_a_body_that_cannot_be_read_in_every_detail_is_a_fault() -> None:
    """Deeper than Python's own parser goes, although the other one goes there."""
    deep = b'{"model": "a", "Model": "b", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert further(deep)[1]
    assert further(b'{"model": "a", "models": ["b"], "x": ' + b"1" * 5000 + b"}")[1]


# -- forms ----------------------------------------------------------------------------------------------------------------

TYPE = b"multipart/form-data; boundary=b"


def form(*parts: tuple[str, str], end: str = "--") -> bytes:
    """Heads and contents."""
    return ("".join(f"--b\r\n{head}\r\n\r\n{content}\r\n" for head, content in parts) + f"--b{end}\r\n").encode()


def field(name: str, more: str = "") -> str:
    return f'Content-Disposition: form-data; name="{name}"{more}'


FILE = (field("file", '; filename="a b.wav"') + "\r\nContent-Type: audio/wav", "RIFF\r\nmodel")
MODEL = (field("model"), "whisper-1")


@pytest.mark.parametrize(
    "good",
    [
        form(FILE, MODEL),
        form(
            MODEL, (field("timestamp_granularities[]"), "word"), (field("timestamp_granularities[]"), "segment"), FILE
        ),
        form((field("file", "; filename=\"x\"; filename*=utf-8''x"), "R"), MODEL),
    ],
)
def test_a_form_that_clients_write_is_fine(good: bytes) -> None:
    """As requests, httpx and browsers do."""
    assert fault_of(good, TYPE) == ""
    assert fault_of(good, b'Multipart/Form-Data; boundary="b"') == ""


@pytest.mark.parametrize(
    "bad",
    [
        form(MODEL, (field("model"), "gpt-4o"), FILE),
        form(MODEL, (field("Model"), "gpt-4o"), FILE),
        form(MODEL, ("Content-Disposition: form-data; name=model", "gpt-4o"), FILE),
        form(MODEL, (field("mod\\el"), "gpt-4o"), FILE),
        form(MODEL, (field("%6dodel"), "gpt-4o"), FILE),
        form(MODEL, ("Content-Disposition: form-data; name*=utf-8''m%6fdel", "gpt-4o"), FILE),
        form(MODEL, (field("x", '; name="model"'), "gpt-4o"), FILE),
        form(MODEL, (field("x") + "\r\n" + field("model"), "gpt-4o"), FILE),
        form(MODEL, (field("x") + ';\r\n name="model"', "gpt-4o"), FILE),
        form(
            MODEL, (field("file", '; filename="x"'), 'R\n--b\nContent-Disposition: form-data; name="model"\n\ngpt-4o')
        ),
        form(MODEL, FILE, end=""),
        form(MODEL, FILE) + form((field("model"), "gpt-4o")),
        form(MODEL, ("no head at all", "x")),
    ],
)
def test_a_form_that_two_readers_might_read_in_two_ways_is_none(bad: bytes) -> None:
    """Fields twice, names in unusual spellings, parts within parts."""
    assert fault_of(bad, TYPE)


def test_the_boundary_is_the_one_that_the_head_tells() -> None:
    """Otherwise the gateway reads one form, and its provider another one that is hidden in a file of it."""
    assert fault_of(form(MODEL, FILE), b"multipart/form-data; boundary=other")
    assert fault_of(form(MODEL, FILE), b"multipart/form-data; boundary=other; boundary=b")
    assert fault_of(form(MODEL, FILE), b"application/json")
    assert re.search("boundary", fault_of(form(MODEL, FILE), b""))
