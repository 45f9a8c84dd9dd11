"""Content codings, undone piece by piece."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable

import brotli
import pytest
from backports import zstd

from gateway.metering.decoding import STEP_BYTES, Undecodable, decoder_for, is_plain


def raw_deflate(plain: bytes) -> bytes:
    return zlib.compress(plain, wbits=-15)


CODINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("X-GZIP", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli.compress),
    ("zstd", zstd.compress),
    (" identity ", bytes),
    ("", bytes),
]
PLAINS = [b"", b"x", b"data: hello\n\n" * 50, b"\0" * (3 * STEP_BYTES), random.Random(1).randbytes(200_000)]


def decode(encoding: str, pieces: list[bytes]) -> bytes:
    decoder = decoder_for(encoding)
    assert decoder is not None
    return b"".join(plain for piece in pieces for plain in decoder.decode(piece))


@pytest.mark.parametrize(("encoding", "compress"), CODINGS)
@pytest.mark.parametrize("plain", PLAINS, ids=len)
@pytest.mark.parametrize("size", [1, 1000, 10**6])
def test_what_was_compressed_comes_out(
    encoding: str, compress: Callable[[bytes], bytes], plain: bytes, size: int
) -> None:
    """In pieces of any size."""
    packed = compress(plain[:2000] if size == 1 else plain)
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    assert decode(encoding, pieces) == (plain[:2000] if size == 1 else plain)


@pytest.mark.parametrize(("encoding", "compress"), CODINGS[:6])
def test_output_comes_in_small_steps(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    """So that whoever reads can stop in time."""
    decoder = decoder_for(encoding)
    assert decoder is not None
    steps = [len(plain) for plain in decoder.decode(compress(b"\0" * (8 << 20)))]
    assert sum(steps) == 8 << 20
    assert max(steps) <= 2 * STEP_BYTES


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_damage_is_said(encoding: str) -> None:
    """One exception for all libraries."""
    with pytest.raises(Undecodable):
        decode(encoding, [b"\xff\xfe this is not compressed at all"])


def test_members_in_a_row_are_one_body() -> None:
    """RFC 1952 allows several, servers that flush send them; what follows them is ignored."""
    assert decode("gzip", [gzip.compress(b"a") + gzip.compress(b"b") + b"\0\0"]) == b"ab"
    assert decode("zstd", [zstd.compress(b"a") + zstd.compress(b"b")]) == b"ab"


def test_a_large_zstd_window_is_refused() -> None:
    """RFC 9659: 8 MiB is the most that HTTP allows."""
    packed = zstd.compress(random.Random(2).randbytes(1 << 20) * 20, options={zstd.CompressionParameter.window_log: 27})
    with pytest.raises(Undecodable):
        decode("zstd", [packed])


def test_only_no_coding_is_plain() -> None:
    """An unknown one is not."""
    assert [is_plain(name) for name in ("", "identity", "gzip", "rot13")] == [True, True, False, False]
