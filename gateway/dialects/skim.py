"""A request's JSON without its long strings. What is asked stands in the short ones; a picture in base64, or a document, is passed over
with one search for its end. Parsing 10 MB of it holds the event loop for 10 ms, passing over it for less than one.

Laws: what stands outside of strings is all there, so that what is left parses if and only if the rest of it does; what a long
string holds is its provider's to judge. Where a body has as many strings as a parser would take as long for, it stays as it is.
"""

from __future__ import annotations

import os

LEAST_BYTES = 32 * 1024
"""Below this a parser is as quick."""
LONG_BYTES = 4 * 1024
SAMPLE_BYTES, SAMPLE_QUOTES = 4 * 1024, 4
"""So many quotes in the middle of a body: prose that quotes, code, a list of small things. Passing over them would take longer."""
STRINGS, BYTES_PER_STRING = 64, 8 * 1024
"""So many are passed over, and one more for so many bytes."""
QUOTATIONS = 8
"""Quotes within one string."""
MOST_BACKSLASHES = 64
"""In a row."""
QUOTE, BACKSLASH = b'"', ord("\\")
MARK = f"long-{os.urandom(8).hex()}-"
"""How the stand-in of a string begins: nobody can send one who does not know what this process drew."""


def skim(body: bytes) -> bytes:
    """The body with a stand-in for each long string, or the body itself."""
    size = len(body)
    if size < LEAST_BYTES or _has_many_quotes(body, size // 2):
        return body
    kept: list[bytes] = []
    since, closes = 0, -1
    for _ in range(STRINGS + size // BYTES_PER_STRING):
        opens = body.find(QUOTE, closes + 1)
        if opens < 0:
            return b"".join((*kept, body[since:])) if kept else body
        closes = _end(body, opens)
        if closes < 0:
            return body
        if closes - opens > LONG_BYTES:
            kept += (body[since : opens + 1], f"{MARK}{len(kept)}-{closes - opens - 1}".encode())
            since = closes
    return body


def length(text: str) -> int:
    """Of a string of a skimmed body: its characters, or the bytes that it stands for."""
    return int(text.rpartition("-")[2]) if text.startswith(MARK) else len(text)


def _has_many_quotes(body: bytes, at: int) -> bool:
    until = at + SAMPLE_BYTES
    for _ in range(SAMPLE_QUOTES):
        at = body.find(QUOTE, at, until) + 1
        if not at:
            return False
    return True


def _end(body: bytes, opens: int) -> int:
    """Where the string ends that begins there; -1 where it does not, or is one of many quotations."""
    closes = opens
    for _ in range(QUOTATIONS):
        closes = body.find(QUOTE, closes + 1)
        if closes < 0 or body[closes - 1] != BACKSLASH:
            return closes
        run = body[max(0, closes - MOST_BACKSLASHES) : closes]
        backslashes = len(run) - len(run.rstrip(b"\\"))
        if backslashes == MOST_BACKSLASHES:
            return -1
        if backslashes % 2 == 0:
            return closes
    return -1
