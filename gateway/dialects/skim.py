"""A request's JSON without the long texts in it: a picture in base64, a document. Parsing 10 MB of them holds the event loop for 10 ms,
passing over them with a search for their ends for less than one.

Laws: only values of members that hold content are left out, by their plain names (``CONTENT``); nothing here asks more of them than how
long they are. All else is there, so that what is left parses if and only if the rest of it does. What a long text holds is its
provider's to judge. Where a body has so many strings that a parser is as quick, it stays as it is.
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
CONTENT = frozenset((
    b"arguments", b"content", b"data", b"file_data", b"image_url", b"input", b"instructions", b"prompt", b"system", b"text", b"url",
))  # fmt: skip
QUOTATIONS = 8
"""Quotes within one string."""
MOST_BACKSLASHES = 64
"""In a row."""
QUOTE, BACKSLASH = b'"', ord("\\")
MARK = f"long-{os.urandom(8).hex()}-"
"""How a stand-in begins. Nobody is ever told, so that nobody can send one: members whose values are told are not left out."""


def skim(body: bytes) -> bytes:
    """The body with a stand-in for each long text, or the body itself."""
    size = len(body)
    if size < LEAST_BYTES or _has_many_quotes(body, size // 2):
        return body
    kept: list[bytes] = []
    since, opens, closes = 0, -1, -1
    for _ in range(STRINGS + size // BYTES_PER_STRING):
        before, after = opens + 1, closes
        opens = body.find(QUOTE, closes + 1)
        if opens < 0:
            return b"".join((*kept, body[since:])) if kept else body
        closes = _end(body, opens)
        if closes < 0:
            return body
        if closes - opens > LONG_BYTES and body[after + 1 : opens].strip() == b":" and body[before:after] in CONTENT:
            kept += (body[since : opens + 1], f"{MARK}{closes - opens - 1}".encode())
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
