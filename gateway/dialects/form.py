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
