"""Model names to the names that price rows have.

Rows are found by exact name. What is tried, in order: the name itself, the name without a provider's prefix
(``models/gemini-2.5-pro``), and either without a suffix that marks a release of the same model (a date, ``-latest``,
``-001``). Nothing else matches: a name that merely begins like a known one may be a dearer model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_CHARS = 256
_RELEASE = re.compile(
    r"(?:[-@](?:\d{8}|\d{4}-\d{2}-\d{2}|latest|\d{3}|(?:preview|exp)-\d{2}-(?:\d{4}|\d{2})|v\d+(?::\d+)?))$"
)
_FINE_TUNE = re.compile(r"(ft:[^:]+):.*")


def candidates(model: str) -> Iterator[tuple[str, str]]:
    """(provider or "", name) pairs to look up, best first. A prefix that names a provider sends the look-up there."""
    name = model[:MAX_CHARS].strip().lower()
    yield from (("", each) for each in _forms(name))
    prefix, slash, last = name.rpartition("/")
    if slash:
        first = prefix.split("/")[0]
        yield from ((first, each) for each in _forms(last))
        yield from (("", each) for each in _forms(last) if "/" not in prefix and first in ("models", "openai"))


def _forms(name: str) -> Iterator[str]:
    """A name, its base for a fine-tune, and both without a release suffix."""
    tuned = _FINE_TUNE.fullmatch(name)
    base = tuned[1] if tuned else name
    yield base
    shorter = _RELEASE.sub("", base)
    if shorter != base:
        yield shorter
