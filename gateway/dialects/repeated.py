"""Runs of events that differ in their text only, read without being parsed.

Most of a stream is one delta after another, each the same bytes but for the text between two quotes (and for OpenAI's
``obfuscation``, which pads each event at its end). The form of a delta is learned from one that was parsed; a block of
whole events of that form is then split at what stands between two texts, which is ten times as cheap as parsing each. Law:
what is read this way is what parsing would have given; a block that is not wholly of the form is parsed.
"""

from __future__ import annotations

import re

from gateway.value import value

PADDING = b'"obfuscation":"'
_PADDED = rb'[^"\\\n]*"\}\n\n'


@value
class Form:
    """What stands before each text and after it, to the blank line; where padding follows, ``after`` ends before it and
    ``between`` is what separates two texts.
    """

    before: bytes
    after: bytes
    between: re.Pattern[bytes] | None

    def read(self, block: bytes) -> str | None:
        """The texts of a block of whole events, together; None if any of them is of another form."""
        end = block.rfind(self.after)
        if end < len(self.before) or not block.startswith(self.before):
            return None
        inner = block[len(self.before) : end]
        rest = block[end + len(self.after) :]
        if self.between is not None:
            if re.fullmatch(_PADDED, rest) is None:
                return None
            joined = b"".join(self.between.split(inner))
        elif rest:
            return None
        else:
            joined = inner.replace(self.after + self.before, b"")
        if b'"' in joined or b"\\" in joined or b"\n" in joined:
            return None
        try:
            return joined.decode()
        except UnicodeDecodeError:
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
