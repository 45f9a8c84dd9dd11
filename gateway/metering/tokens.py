"""Text to a number of tokens, with guard rails: any text, any size, never the network, never an exception.

tiktoken does the counting. What it cannot take is kept from it: 1 MB of whitespace overflows the stack of its regex engine,
which arrives as a PanicException, a BaseException that ``except Exception`` misses. Counting costs 40-80 us per KB, so
beyond 1 000 000 characters the count is extrapolated.
"""

from __future__ import annotations

import re
from threading import Lock
from typing import TYPE_CHECKING

import tiktoken

from gateway.metering.encodings import SHAPES
from gateway.metering.fast import MIN_CHARS, fast_counter
from gateway.metering.vocabulary import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAX_CHARS = 1_000_000
"""What is really counted of one call's input or output."""
MAX_RUN = 100_000
"""Longer runs of whitespace are counted in pieces of this size (tiktoken 0.14 panics at about ten times as much)."""
_RUN = re.compile(rf"(?<!\s)\s{{{MAX_RUN},}}+")
"""Tried at the start of a run only, and possessive: linear, where a plain repeat took a minute for one megabyte."""


class Counter:
    """Counts text in the shipped encodings. Each is built on first use (0.3 s, 80 MB) and kept. Safe in threads."""

    def __init__(self, vocabulary: Callable[[str], bytes]) -> None:
        """``vocabulary`` gives the bytes of ``vocab/{encoding}.xz``; who does the reading is not decided here."""
        self._vocabulary = vocabulary
        self._encodings: dict[str, tiktoken.Encoding] = {}
        self._fast: dict[str, Callable[[str], int] | None] = {}
        self._building = Lock()

    def is_ready(self, encoding: str) -> bool:
        """Whether it was built: somebody had to count in it."""
        return encoding in self._encodings

    def count(self, text: str, encoding: str) -> int:
        """Tokens of one text; text that looks like a special token is plain text."""
        return self.count_all((text,), encoding)

    def count_all(self, texts: Iterable[str], encoding: str) -> int:
        """Tokens of several texts, each by itself. KeyError on an unknown encoding, ValueError on a damaged vocabulary."""
        counter = self._encoding(encoding)
        tokens = seen = total = 0
        for text in texts:
            total += len(text)
            if seen < MAX_CHARS:
                part = text[: MAX_CHARS - seen]
                seen += len(part)
                tokens += self._count_long(counter, part) if len(part) >= MIN_CHARS else _tokens(counter, part)
        return tokens if total == seen else -(-tokens * total // seen)

    def _count_long(self, counter: tiktoken.Encoding, text: str) -> int:
        """By the faster counter if there is one."""
        name = counter.name
        if name not in self._fast:
            self._fast[name] = fast_counter(name, lambda question: _tokens(counter, question))
        fast = self._fast[name]
        if fast is not None:
            try:
                return fast(text)
            except Exception:
                self._fast[name] = None
        return sum(_tokens(counter, piece) for piece in _pieces(text))

    def _encoding(self, name: str) -> tiktoken.Encoding:
        found = self._encodings.get(name)
        if found is not None:
            return found
        with self._building:
            if name not in self._encodings:
                self._encodings[name] = self._build(name)
            return self._encodings[name]

    def _build(self, name: str) -> tiktoken.Encoding:
        shape = SHAPES[name]
        return tiktoken.Encoding(
            name=name,
            pat_str=shape.pattern,
            mergeable_ranks=unpack(self._vocabulary(name), shape.sha256),
            special_tokens=shape.special_tokens,
        )


def _pieces(text: str) -> Iterator[str]:
    """The text, cut inside each very long run of whitespace; which most texts do not have."""
    start = 0
    if len(text) >= MAX_RUN:
        for run in _RUN.finditer(text):
            for cut in range(run.start() + MAX_RUN, run.end() + 1, MAX_RUN):
                yield text[start:cut]
                start = cut
    yield text[start:]


def _tokens(counter: tiktoken.Encoding, text: str) -> int:
    """The count, or the number of bytes where the counter fails: no byte-level vocabulary needs more tokens than that."""
    try:
        return len(counter.encode_ordinary(text))
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # a KeyboardInterrupt is not ours
        return len(text.encode(errors="replace"))
