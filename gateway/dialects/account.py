"""Whether a call can go with any of several keys of its provider, or belongs to the account of one.

Files, batches, stored responses, caches and the like are kept by the account (OpenAI: project, Anthropic: workspace) whose key made
them, and only its keys find them again. So only what is known to stand alone may be spread: an operation that is not in the
list, and a body that names something kept or asks for it to be kept, belong to one account. Asked only where an upstream has
several keys: 1 us for a chat of two kilobytes, 0.5 ns for each byte more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.call import Ask

ALONE = frozenset(
    (
        "chat", "text_completion", "responses", "messages", "generate_content", "embeddings", "images", "speech", "transcription",
        "translation", "moderations",
    )
)  # fmt: skip
NAMED = {
    "responses": (b'"file_id"', b"encrypted_content"),  # reasoning that only its organization can read again
    "messages": (b'"file_id"', b'"container"'),
    "images": (b'"file_id"',),
}
"""What a body may hold beside that which makes its input open (``Ask.open_input``)."""
TUNED, SPOKEN = "ft:", "audio"
"""How OpenAI's names of models begin that an account has tuned for itself; what stands in those whose answers are spoken: later
messages name these by an id.
"""
_FLAG = re.compile(rb"\s*:\s*(true|false)")


def is_of_one_account(ask: Ask, body: bytes | None) -> bool:
    """Whether what a call asks for may depend on what one account keeps, or will be kept by it."""
    if ask.operation not in ALONE or ask.open_input or ask.model.startswith(TUNED):
        return True
    if body is None:  # passed on unread
        return ask.operation != "moderations"
    if ask.operation == "responses" and not _says_store(body, b"false"):  # OpenAI keeps them unless told not to
        return True
    if ask.operation == "chat" and (SPOKEN in ask.model or _says_store(body, b"true")):
        return True
    for word in NAMED.get(ask.operation, ()):  # noqa: SIM110 - any() takes twice as long for so few
        if word in body:
            return True
    return False


def _says_store(body: bytes, flag: bytes) -> bool:
    """Whether a member ``store`` has that value: a search for so long a word is several times as fast as the expression's own."""
    at = body.find(b'"store"')
    while at >= 0:
        match = _FLAG.match(body, at + 7)
        if match is not None and match[1] == flag:
            return True
        at = body.find(b'"store"', at + 7)
    return False
