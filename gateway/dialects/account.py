"""Whether a call can go with any of several keys of its provider, or belongs to the account of one.

Files, batches, stored responses, caches and the like are kept by the account (OpenAI: project, Anthropic: workspace) whose key made
them, and only its keys find them again. So only what is known to stand alone may be spread: an operation that is not in the
list, and a body that names something kept or asks for it to be kept, belong to one account. Asked only where an upstream has
several keys: 0.3 us for a body of two kilobytes, and 20 for one of a megabyte.
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
    "chat": (b'"audio_',),  # the id of an earlier answer that was spoken
    "responses": (b'"file_id"', b"encrypted_content"),  # reasoning that only its organization can read again
    "messages": (b'"file_id"', b'"container"'),
    "images": (b'"file_id"',),
}
"""What a body may hold beside that which makes its input open (``Ask.open_input``)."""
TUNED = "ft:"
"""How OpenAI's names of models begin that an account has tuned for itself."""
_STORED, _NOT_STORED = re.compile(rb'"store"\s*:\s*true'), re.compile(rb'"store"\s*:\s*false')


def is_of_one_account(ask: Ask, body: bytes | None) -> bool:
    """Whether what a call asks for may depend on what one account keeps, or will be kept by it."""
    if ask.operation not in ALONE or ask.open_input or ask.model.startswith(TUNED):
        return True
    if body is None:  # passed on unread
        return ask.operation != "moderations"
    if ask.operation == "responses" and _NOT_STORED.search(body) is None:  # OpenAI keeps them unless told not to
        return True
    if ask.operation == "chat" and _STORED.search(body) is not None:
        return True
    return any(word in body for word in NAMED.get(ask.operation, ()))
