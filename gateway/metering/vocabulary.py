"""The form in which vocabularies are shipped, and the proof that they are the published ones.

Knows bytes, no file and no network: who reads the file is the caller's business. Law: a vocabulary whose original does
not have the published hash is not used, because wrong counts look like right ones.
"""

from __future__ import annotations

import hashlib
import lzma
from base64 import b64decode, b64encode


def pack(original: bytes) -> bytes:
    """The ``.tiktoken`` text as length byte + token, in order of rank; ValueError when ranks are not 0, 1, 2..."""
    packed = bytearray()
    for rank, line in enumerate(original.splitlines()):
        token, number = line.split()
        if int(number) != rank:
            raise ValueError(f"rank {rank} is missing")
        plain = b64decode(token)
        packed.append(len(plain))
        packed += plain
    return bytes(packed)


def unpack(packed_xz: bytes, sha256: str) -> dict[bytes, int]:
    """Token to rank; ValueError when the original of these bytes does not have this SHA-256 (hex)."""
    try:
        packed = lzma.decompress(packed_xz)
    except lzma.LZMAError as error:
        raise ValueError("the vocabulary is damaged") from error
    tokens: list[bytes] = []
    start, end = 0, len(packed)
    while start < end:
        stop = start + 1 + packed[start]
        tokens.append(packed[start + 1 : stop])
        start = stop
    if hashlib.sha256(original(tokens)).hexdigest() != sha256:
        raise ValueError("the vocabulary is not the published one")
    return {token: rank for rank, token in enumerate(tokens)}


def original(tokens: list[bytes]) -> bytes:
    """The ``.tiktoken`` text of these tokens: base64, space, rank, a line each."""
    return b"".join([b"%b %d\n" % (b64encode(token), rank) for rank, token in enumerate(tokens)])
