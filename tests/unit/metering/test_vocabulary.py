"""The shipped form of a vocabulary."""

from __future__ import annotations

import hashlib
import lzma

import pytest

from gateway.metering.vocabulary import original, pack, unpack

ORIGINAL = b"YQ== 0\nYg== 1\nYWI= 2\n"


def test_packing_loses_nothing() -> None:
    """The original comes back byte for byte, which is what its hash proves."""
    packed = lzma.compress(pack(ORIGINAL))
    assert unpack(packed, hashlib.sha256(ORIGINAL).hexdigest()) == {b"a": 0, b"b": 1, b"ab": 2}
    assert original([b"a", b"b", b"ab"]) == ORIGINAL


def test_a_gap_in_the_ranks_cannot_be_packed() -> None:
    """The form has no place for it."""
    with pytest.raises(ValueError, match="rank 1"):
        pack(b"YQ== 0\nYg== 2\n")


def test_another_vocabulary_is_not_the_published_one() -> None:
    """One token changed is enough."""
    with pytest.raises(ValueError, match="published"):
        unpack(lzma.compress(pack(b"YQ== 0\nYw== 1\nYWI= 2\n")), hashlib.sha256(ORIGINAL).hexdigest())
