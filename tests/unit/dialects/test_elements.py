"""Elements of an array that arrives in pieces, and where a body may end that is cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import elements
from gateway.dialects.elements import AfterElement, ElementSplitter
from gateway.dialects.sse import AfterEvent, EventSplitter

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab"\\[]{},\n\N{SNOWMAN}', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\}]', max_size=3), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.lists(st.dictionaries(st.text('ab"\\}', max_size=3), JSON, max_size=3), min_size=1, max_size=4)
CUTS = st.lists(st.integers(0, 400), max_size=6)
ERROR = b'{"error":{"code":429}}'


def cut(body: bytes, cuts: list[int]) -> list[bytes]:
    """The body in pieces."""
    marks = sorted({0, len(body), *(each for each in cuts if each < len(body))})
    return [body[start:end] for start, end in pairwise(marks)]


def written(objects: list[Any], indent: int | None) -> bytes:
    """An array as Google writes one."""
    return b"[" + b"\n,\r\n".join(json.dumps(each, indent=indent).encode() for each in objects) + b"\n]"


@given(OBJECTS, CUTS, st.sampled_from([None, 2]))
def test_each_element_comes_out_once_however_it_was_cut(
    objects: list[Any], cuts: list[int], indent: int | None
) -> None:
    """Brackets and quotes inside strings are text."""
    splitter = ElementSplitter()
    found = [element for piece in cut(written(objects, indent), cuts) for element in splitter.feed(piece)]
    assert [json.loads(each) for each in found] == objects
    assert list(splitter.finish()) == []


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3), CUTS)
def test_what_is_no_array_is_one_element(body: dict[str, Any], cuts: list[int]) -> None:
    """An error, or the whole answer of a server that does not stream; nothing can be added to it."""
    splitter = ElementSplitter()
    found = [each for piece in cut(json.dumps(body).encode(), cuts) for each in splitter.feed(piece)]
    assert [json.loads(each) for each in found] == [body]
    assert splitter.before is None


def test_an_element_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; the tap then gives the reading up."""
    monkeypatch.setattr(elements, "MAX_ELEMENT_BYTES", 100)
    splitter = ElementSplitter()
    with pytest.raises(OverflowError):
        for _ in range(20):
            list(splitter.feed(b'[{"a":"0123456789'))


@given(OBJECTS, CUTS, st.integers(1, 400))
def test_an_array_that_is_cut_is_whole_json_with_the_error_last(objects: list[Any], cuts: list[int], at: int) -> None:
    """Wherever the cut falls: whole elements, then the error, then the end."""
    body = written(objects, None)
    at = min(at, len(body) - 2)
    splitter = ElementSplitter()
    for _ in splitter.feed(body[:at]):
        pass
    last = AfterElement(splitter, ERROR)
    said, out = last.after(b""), body[:at]
    for piece in cut(body[at:], cuts):
        if said is not None:
            break
        said = last.after(piece)
        out += piece if said is None else b""
    assert said is not None
    found = json.loads(out + said)
    assert found[-1] == json.loads(ERROR)
    assert found[:-1] == objects[: len(found) - 1]
    assert len(list(splitter.feed(body[at:]))) + len(found) - 1 >= len(
        objects
    )  # the tap's own splitter was not touched


@given(
    st.lists(st.sampled_from([b"data: a", b": c", b"event: x\ndata: b"]), min_size=2, max_size=6),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]),
    CUTS,
    st.integers(0, 100),
)
def test_a_stream_that_is_cut_ends_after_a_whole_event(
    events: list[bytes], blank: bytes, cuts: list[int], at: int
) -> None:
    """However lines end, and wherever the cut falls."""
    body = b"".join(event.replace(b"\n", blank[: len(blank) // 2]) + blank for event in events)
    at = min(at, len(body) - 1)
    splitter = EventSplitter()
    list(splitter.feed(body[:at]))
    last = AfterEvent(splitter.tail, b"data: end\n\n")
    said, out = last.after(b""), body[:at]
    for piece in cut(body[at:], cuts):
        if said is not None:
            break
        said = last.after(piece)
        out += piece if said is None else b""
    assert said is not None
    lines = (out + said).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert lines.endswith(b"\n\ndata: end\n\n") or lines == b"data: end\n\n"
    whole = [event for event in lines.split(b"\n\n") if event][:-1]
    assert whole == events[: len(whole)]
