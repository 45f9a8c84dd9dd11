"""Models that a call names beside the one that is asked for: refused where the caller's key does not allow them all.

``Key.forbid`` goes by the model that the dialect reads. This closes the ways round it: a model that is named twice, fall-backs,
tools with models of their own, and bodies that their provider might read otherwise than the gateway does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway.dialects.form import fault_of, read_form
from gateway.dialects.named import TWICE, further
from gateway.errors import Kind, Refusal

if TYPE_CHECKING:
    from gateway.admission.keys import Key
    from gateway.call import Headers

CONTENT_TYPE = b"content-type"
_JSON = re.compile(
    rb"[a-z0-9.+/-]*json(?:[ \t]*;[ \t]*charset=\"?utf-8\"?)?[ \t]*|text/plain(?:[ \t]*;[ \t]*charset=\"?utf-8\"?)?|",
    re.IGNORECASE,
)
"""What a body may say to be that the gateway reads as JSON. A form of fields, or a charset in which other characters are quotes,
would make another body of it. Text is what some servers' own clients say."""


def forbid_further(key: Key, body: bytes, headers: Headers) -> Refusal | None:
    """For a key with ``models``, and a call whose own model it allows."""
    if not body:
        return None
    told = [value for name, value in headers if name.lower() == CONTENT_TYPE]
    if len(told) > 1:
        return _unsure(key, "it has several content-types")
    kind = told[0] if told else b""
    if body.startswith(b"--") and read_form(body) is not None:
        fault = fault_of(body, kind)
        return _unsure(key, fault) if fault else None
    if _JSON.fullmatch(kind) is None:
        return _unsure(key, "its content-type says that it is no JSON in UTF-8")
    names, fault = further(body)
    if fault:
        return _unsure(key, fault)
    for name in names:
        if key.models is not None and not key.models.match(name):
            return Refusal(
                Kind.PERMISSION,
                f"The gateway key '{key.name}' may not use the model {name[:80]!r}, which this request names beside the one that"
                " it asks for. The operator of this gateway sets which it may.",
            )
    return None


def named_twice(key: Key) -> Refusal:
    """For what names its model more than once."""
    return _unsure(key, TWICE)


def _unsure(key: Key, fault: str) -> Refusal:
    return Refusal(
        Kind.MALFORMED_BODY,
        f"The gateway key '{key.name}' may use some models only, so the gateway has to be sure which one this request means,"
        f" and cannot: {fault}.",
    )
