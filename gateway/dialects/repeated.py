"""Runs of events that differ in their text only, read without being parsed.

Most of a stream is one delta after another, each the same bytes but for the text between two quotes (and for OpenAI's
``obfuscation``, which pads each event at its end). The form of a delta is learned from one that was parsed; the events of
that form with which a block begins are then split at what stands between two texts, which takes a fifth of what parsing
each takes. Law: what is read this way is what parsing would have given; what is not wholly of the form is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import orjson

from gateway.value import value

KEY_BYTES = 16
PADDING = b'"obfuscation":"'
_PADDED = rb'[^"\\\n]*"\}\n\n'
_REST = re.compile(_PADDED)


@value
class Form:
    """What stands before each text and after it, to the blank line; where padding follows, ``after`` ends before it and
    ``between`` is what separates two texts.
    """

    before: bytes
    after: bytes
    between: re.Pattern[bytes] | None

    def read(self, block: bytes) -> tuple[str, int] | None:
        """The texts of the events with which a block of whole ones begins, together, and where those events end; None if the first
        is of another form, or one before the last that ends like them.
        """
        end = block.rfind(self.after)
        if end < len(self.before) or not block.startswith(self.before):
            return None
        inner = block[len(self.before) : end]
        end += len(self.after)
        if self.between is None:
            text = _together(_split(inner, self.after + self.before))
        else:
            padding = _REST.match(block, end)
            if padding is None:
                return None
            end = padding.end()
            text = _together(self.between.split(inner))
        return None if text is None else (text, end)


def _split(joined: bytes, between: bytes) -> Sequence[bytes]:
    """``joined.split(between)``, by the first bytes of what stands between: a search for many prepares itself, for each text anew (more than
    twice as much in all, checking included). All in one, which is no text, where those bytes stand elsewhere as well.
    """
    first, *others = joined.split(between[:KEY_BYTES])
    texts = [first, *[part[len(between) - KEY_BYTES :] for part in others]]
    return texts if between.join(texts) == joined else (joined,)


def _together(texts: Sequence[bytes]) -> str | None:
    """What stands between the quotes of so many JSON strings, read and joined; None if one ends before its end, or is none."""
    if b'"' in b"\n".join(texts).replace(
        b'\\"', b""
    ):  # after a string that ends too early another one begins without a backslash
        return None
    try:
        return "".join(orjson.loads(b'["' + b'","'.join(texts) + b'"]'))
    except ValueError:
        return None


def learn(document: bytes, key: bytes, text: str, event: bytes = b"") -> Form | None:
    """The form of an event whose data are ``document``, in which ``key`` holds ``text``; None where that cannot be told for
    sure. ``event`` is the line that stands before the data.
    """
    name = b'"' + key + b'":'
    start = document.find(b'"', document.find(name) + len(name)) + 1
    end = document.find(b'"', start)
    if document.count(name) != 1 or document[start:end] != text.encode("utf-8", "replace"):
        return None
    before = event + b"data: " + document[:start]
    padding = document.find(PADDING, end)
    if padding < 0:
        return Form(before, document[end:] + b"\n\n", None)
    after = document[end : padding + len(PADDING)]
    if re.fullmatch(_PADDED, document[padding + len(PADDING) :] + b"\n\n") is None:
        return None
    return Form(before, after, re.compile(re.escape(after) + _PADDED + re.escape(before)))
