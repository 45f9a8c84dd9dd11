"""Bytes to events."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.sse import EventSplitter


def split(*pieces: bytes, limit: int = 1 << 20) -> list[bytes]:
    splitter = EventSplitter(limit)
    return [event for piece in pieces for event in splitter.feed(piece)] + list(splitter.finish())


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b"data: a\r\rdata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
        (b": ping\n\ndata: a\n: note\n\n", [b"a"]),
        (b"event: x\nid: 7\ndata: a\ndata: b\nretry: 1\n\n", [b"a\nb"]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b"data\n\ndata:\n\n", [b"", b""]),
        (b"database: a\n\n", []),
        (b"\n\n\n\ndata: a\n\n\n\n", [b"a"]),
        (b"data: a", [b"a"]),
        (b"data: a\r", [b"a"]),
        (b"", []),
    ],
)
def test_a_stream_becomes_its_events(stream: bytes, events: list[bytes]) -> None:
    """Whole, and byte by byte."""
    assert split(stream) == events
    assert split(*(stream[at : at + 1] for at in range(len(stream)))) == events


@given(
    st.lists(
        st.sampled_from(
            [b"\n", b"\r", b"data", b":", b" ", b"a", b"data: x", b"\xef\xbb\xbf", b"aaaaaaaaaaaa", b"\n\n"]
        )
    ),
    st.lists(st.integers(0, 200)),
)
def test_cuts_change_nothing(parts: list[bytes], cuts: list[int]) -> None:
    """For any bytes and any cuts, with a limit that is reached."""
    stream = b"".join(parts)
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    pieces = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert split(*pieces, limit=20) == split(stream, limit=20)


def test_an_endless_event_costs_no_memory_and_no_other_event() -> None:
    """It is skipped, whether it comes in one piece or in many."""
    splitter = EventSplitter(limit=100)
    events = list(splitter.feed(b"data: a\n\ndata: "))
    for _ in range(1000):
        events += splitter.feed(b"x" * 1000)
        assert len(splitter._rest) <= 101
    events += splitter.feed(b"\n\ndata: b\n\n")
    assert events == [b"a", b"b"]
    assert split(b"data: a\n\ndata: " + b"x" * 1000 + b"\n\ndata: b\n\n", limit=100) == [b"a", b"b"]
