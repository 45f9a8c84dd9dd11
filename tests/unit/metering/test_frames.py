"""WebSocket frames read on the side: whatever the pieces, whatever the sizes, never more kept than the limit."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.metering import frames as frames_module
from gateway.metering.frames import TAIL, FrameReader

TEXT, BINARY, CONTINUATION, PING = 1, 2, 0, 9


def frame(opcode: int, payload: bytes, *, fin: bool = True, compressed: bool = False) -> bytes:
    """RFC 6455 5.2, unmasked."""
    first = opcode | (0x80 if fin else 0) | (0x40 if compressed else 0)
    if len(payload) < 126:
        return bytes((first, len(payload))) + payload
    wide = struct.pack(">BH", 126, len(payload)) if len(payload) < 65536 else struct.pack(">BQ", 127, len(payload))
    return bytes((first,)) + wide + payload


def cut(wire: bytes, step: int) -> list[bytes]:
    return [wire[at : at + step] for at in range(0, len(wire), step)]


def read(pieces: list[bytes], extensions: str = "") -> list[bytes]:
    reader = FrameReader(extensions)
    return [message for piece in pieces for message in reader.feed(piece)]


SIZES = st.integers(0, 300) | st.integers(65_530, 65_540)
"""Around the edges of the three forms that a length can have."""


@settings(deadline=None)
@given(st.lists(SIZES, max_size=5), st.integers(1, 999), st.booleans())
def test_messages_come_out_however_they_were_cut(sizes: list[int], step: int, split: bool) -> None:
    """In one frame or in several, with pings between them."""
    messages = [(b"%d." % size * size)[:size] for size in sizes]
    wire = b""
    for message in messages:
        half = len(message) // 2 if split else len(message)
        wire += frame(TEXT, message[:half], fin=not split)
        if split:
            wire += frame(PING, b"still there?") + frame(CONTINUATION, message[half:])
    found = read(cut(wire, step))
    assert [len(message) for message in found] == sizes
    assert all(map(bytes.__eq__, found, messages))


@settings(deadline=None)
@given(st.lists(st.binary(max_size=3000), max_size=6), st.integers(1, 999), st.booleans())
def test_compressed_messages_come_out_plain(messages: list[bytes], step: int, keeps: bool) -> None:
    """With a context that goes on from message to message, and without."""
    wire, deflate = b"", zlib.compressobj(wbits=-15)
    for message in messages:
        if not keeps:
            deflate = zlib.compressobj(wbits=-15)
        squeezed = (deflate.compress(message) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
        wire += frame(TEXT, squeezed, compressed=True)
    extensions = "permessage-deflate" + ("" if keeps else "; server_no_context_takeover")
    assert read(cut(wire, step), extensions) == messages


def test_a_message_too_large_is_skipped_and_never_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one frame of gigabytes or in many small ones; the next one is read."""
    monkeypatch.setattr(frames_module, "MAX_MESSAGE_BYTES", 1000)
    reader = FrameReader()
    found: list[bytes] = []
    huge = bytes((0x82, 127)) + struct.pack(">Q", 50_000)
    pieces = [huge, *[b"x" * 5000] * 10, frame(TEXT, b"a", fin=False)]
    pieces += [frame(CONTINUATION, b"y" * 300, fin=False)] * 20 + [frame(CONTINUATION, b"z"), frame(TEXT, b"next")]
    for piece in pieces:
        found += reader.feed(piece)
        assert len(reader._rest) + sum(map(len, reader._message)) <= 1400
    assert found == [b"next"]


def test_a_bomb_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tap gives up then; the connection goes on."""
    monkeypatch.setattr(frames_module, "MAX_INFLATED_BYTES", 10_000)
    deflate = zlib.compressobj(wbits=-15)
    squeezed = deflate.compress(bytes(1_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(ValueError, match="worth reading"):
        read([frame(TEXT, squeezed.removesuffix(TAIL), compressed=True)], "permessage-deflate")


@given(st.binary(max_size=400), st.sampled_from(["", "permessage-deflate"]))
def test_no_bytes_do_more_than_end_the_reading(noise: bytes, extensions: str) -> None:
    """ValueError and zlib.error are what the tap expects."""
    try:
        read([noise], extensions)
    except (ValueError, zlib.error):
        return
