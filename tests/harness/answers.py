"""One answer as bytes, read the way a strict client would: what it says, and whether it is whole.

Shares no code with the gateway or its parser. Law: bytes beyond the end of the answer are an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.harness.messages import Head, framing_of

_START = {
    False: re.compile(rb"HTTP/1\.1 [1-9][0-9][0-9] [^\r\n\x00]*"),
    True: re.compile(rb"HTTP/1\.1 [1-9][0-9][0-9]( [^\r\n\x00]*)?"),
}
_SIZE = {False: re.compile(rb"[0-9a-f]+"), True: re.compile(rb"[0-9a-fA-F]+[ \t]*(;[^\r\n]*)?")}
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[^\r\n\x00]*")


@dataclass(frozen=True, slots=True)
class Read:
    """``end``: ``none`` (no final head), ``whole``, ``cut``, or ``open`` (only the end of the connection can tell)."""

    interim: tuple[Head, ...]
    head: Head | None
    content: bytes
    trailers: bytes
    end: str


def read(raw: bytes, method: str, *, lenient: bool = False) -> Read:
    """ValueError where a strict client would give up. ``lenient``: as servers write, and not as we do."""
    interim: list[Head] = []
    while True:
        start, ended, rest = raw.partition(b"\r\n\r\n")
        if not ended:
            if raw:
                raise ValueError("a head is cut")
            return Read(tuple(interim), None, b"", b"", "none")
        head = _checked(Head(start + ended), lenient=lenient)
        if head.status >= 200:
            return Read(tuple(interim), head, *_body(head, rest, method, lenient=lenient))
        interim.append(head)
        raw = rest


def _checked(head: Head, *, lenient: bool) -> Head:
    start, *fields = head.raw[:-4].split(b"\r\n")
    if not _START[lenient].fullmatch(start) or not all(_FIELD.fullmatch(field) for field in fields):
        raise ValueError("no HTTP")
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if len(lengths) + len(codings) > 1 or any(not re.fullmatch(rb"[0-9]+", length) for length in lengths):
        raise ValueError("two ways to read it")
    return head


def _body(head: Head, rest: bytes, method: str, *, lenient: bool) -> tuple[bytes, bytes, str]:
    framing = framing_of(head, request=False, method=method)
    if framing == "eof":
        return rest, b"", "open"
    if framing == "chunked":
        return _chunks(rest, lenient=lenient)
    length = int(head.value(b"content-length") or b"0") if framing == "length" else 0
    if len(rest) > length:
        raise ValueError("bytes beyond the end")
    return rest, b"", "whole" if len(rest) == length else "cut"


def _chunks(rest: bytes, *, lenient: bool) -> tuple[bytes, bytes, str]:
    content = b""
    while True:
        line, ended, after = rest.partition(b"\r\n")
        if not ended:
            return content, b"", "cut"
        if not _SIZE[lenient].fullmatch(line):
            raise ValueError("no size of a chunk")
        size = int(line.partition(b";")[0], 16)
        if not size:
            break
        content += after[:size]
        if len(after) < size + 2:
            return content, b"", "cut"
        if after[size : size + 2] != b"\r\n":
            raise ValueError("a chunk does not end where its size says")
        rest = after[size + 2 :]
    trailers, ended, beyond = (b"\r\n" + after).partition(b"\r\n\r\n")
    if not ended:
        return content, b"", "cut"
    if beyond:
        raise ValueError("bytes beyond the end")
    return content, trailers[2:], "whole"
