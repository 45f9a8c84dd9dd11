"""A ``multipart/form-data`` body (RFC 7578) looked into, not taken apart: its short fields, and how much of it is files.

The boundary is the body's own first line, so that no header is needed. Nothing is decoded or copied but the short fields.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from gateway.dialects.values import parse

MAX_FIELD_BYTES = 64 * 1024
_NAME = re.compile(rb'(?i)content-disposition:[^\r\n]*?[; ]name="([^"\r\n]{1,100})"')


@dataclass(slots=True)
class Form:
    """``fields`` by name, the last one wins; the sizes of the files."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[int] = field(default_factory=list)


def read_form(body: bytes) -> Form | None:
    """None for what is no such body. A part that is cut off is left out."""
    boundary, line_end, _ = body[:256].partition(b"\r\n")
    if not line_end or not boundary.startswith(b"--"):
        return None
    form, at = Form(), len(boundary) + 2
    while (end := body.find(b"\r\n" + boundary, at)) >= 0:
        head_end = body.find(b"\r\n\r\n", at, end)
        if head_end >= 0:
            _add_part(form, body[at : min(head_end, at + 4096)], body, head_end + 4, end)
        at = end + 2 + len(boundary) + 2
    return form


def read_request(body: bytes) -> tuple[dict[str, Any], str]:
    """The fields of a request that is JSON or a form, the sizes of its files under ``files``; and the fault if it is neither."""
    form = read_form(body)
    if form is None:
        root, fault = parse(body)
        return {**root, "files": ()}, fault
    return {**form.fields, "stream": form.fields.get("stream") == "true", "files": tuple(form.files)}, ""


def _add_part(form: Form, head: bytes, body: bytes, start: int, end: int) -> None:
    name = _NAME.search(head)
    if b"filename" in head.lower():
        form.files.append(end - start)
    elif name is not None and end - start <= MAX_FIELD_BYTES:
        form.fields[name[1].decode("utf-8", "replace")] = body[start:end].decode("utf-8", "replace")


_HEAD = re.compile(
    rb'(?i:content-disposition):[ \t]*form-data;[ \t]*name="([^"\\%\r\n]{1,100})"'
    rb'(?:;[ \t]*filename="[^"\r\n]*")?(?:;[ \t]*filename\*=[^";\r\n]*)?[ \t]*'
)
_BOUNDARY = re.compile(rb'(?i:multipart/form-data)[ \t]*;[ \t]*(?i:boundary)=(?:"([^"\r\n]+)"|([^";\s]+))[ \t]*')
MAX_PARTS = 1000


def fault_of(body: bytes, content_type: bytes) -> str:
    """Why two readers of a form might read different fields in it: another boundary than the body begins with, a head of a part
    that is written in an unusual way, or a field (lists apart: ``NAME[]``) that stands twice. "" for a form that all read alike.
    """
    told = _BOUNDARY.fullmatch(content_type.strip(b" \t"))
    boundary = b"--" + (told[1] or told[2]) if told is not None else b""
    if not boundary or not body.startswith(boundary + b"\r\n"):
        return "its boundary is not the one that its content-type tells"
    if body.count(b"\n" + boundary) != body.count(b"\r\n" + boundary):
        return "its lines do not all end alike"
    parts = body.split(b"\r\n" + boundary, MAX_PARTS)
    parts[0] = parts[0][len(boundary) :]
    if len(parts) > MAX_PARTS or parts[-1].strip(b"\r\n") != b"--":
        return "it has no proper end"
    names: set[bytes] = set()
    for part in parts[:-1]:
        head, found, _ = part.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")[1:] if part.startswith(b"\r\n") else []
        told_names = [
            match for line in lines if b"content-disposition" in line.lower() and (match := _HEAD.fullmatch(line))
        ]
        if not found or len(told_names) != 1 or sum(b"disposition" in line.lower() for line in lines) != 1:
            return "one of its parts is not named in the usual way"
        name = told_names[0][1].lower()
        if name in names and not name.endswith(b"[]"):
            return "one of its fields stands twice"
        names.add(name)
    return ""
