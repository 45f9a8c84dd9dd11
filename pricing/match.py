"""Model names to the names that price rows have.

Owns the rule by which a name is taken for another one; knows no row. Law: nothing matches because it merely begins like a
known name, for a longer name may be a dearer model. What may be left off is a provider's prefix (``models/gemini-2.5-pro``)
and a suffix that marks a release of the same model (a date, ``-latest``, ``-001``). A fine-tune is looked up under
``ft:base``, never under its base, which costs less.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_CHARS = 256
"""Names come from callers. A longer one is no model's, and is neither matched nor remembered."""
ALIASES = {"gemini": "google", "vertex": "google", "azure": "openai", "x-ai": "xai"}
"""Providers that bill by another one's list, and other names of the same."""
RESELLERS = frozenset(("", "openrouter"))
"""Where a name says whose model it is (``anthropic/claude-opus-5-5``) and its maker's list price holds. Elsewhere a foreign
prefix means nothing: a self-hosted ``openai/gpt-oss-120b`` does not cost what OpenAI asks."""
NEUTRAL = frozenset(("models", "publishers"))
"""Path segments of Google's names that name no provider."""
_RELEASE = re.compile(
    r"[-@](?:"
    r"20\d\d-[01]\d-[0-3]\d|20\d\d[01]\d[0-3]\d"  # gpt-4o-2024-08-06, claude-sonnet-4-5-20250929, claude-opus-5@20260801
    r"|latest|00\d"  # claude-3-opus-latest, gemini-2.0-flash-001
    r"|(?:preview|exp)-[01]\d-(?:20\d\d|[0-3]\d)"  # gemini-2.5-pro-preview-05-06, gemini-2.5-flash-preview-09-2025
    r")"
)
_TUNED = re.compile(r"(ft:[^:]+):.*")
_TUNED_RELEASE = re.compile(r"(ft:.+)-[01]\d[0-3]\d")  # ft:gpt-3.5-turbo-0125


def owners(provider: str) -> tuple[str, ...]:
    """Under which names a provider's rows may stand: its own first, then that of the list it bills by."""
    listed = ALIASES.get(provider, provider)
    return (provider,) if listed == provider else (provider, listed)


def candidates(provider: str, model: str) -> Iterator[tuple[str, str]]:
    """(owner, name) pairs to look up, best first: as it is, then without a prefix; each with and without its release."""
    if len(model) > MAX_CHARS:
        return
    name = model.strip().lower()
    mine = owners(provider)
    for owner in mine:
        yield from ((owner, form) for form in _forms(name))
    prefix, slash, last = name.rpartition("/")
    if slash and not name.startswith("ft:"):
        for owner in _named_owners(prefix, provider, mine):
            yield from ((owner, form) for form in _forms(last))


def _named_owners(prefix: str, provider: str, mine: tuple[str, ...]) -> tuple[str, ...]:
    """Whose model a prefix says it is; nobody's when the provider has no business selling it."""
    named = [segment for segment in prefix.split("/") if segment not in NEUTRAL]
    if not named:
        return mine
    owner = ALIASES.get(named[0], named[0])
    if len(named) == 1 and (owner in mine or provider in RESELLERS):
        return (owner,)
    return ()


def _forms(name: str) -> Iterator[str]:
    """A name (of a fine-tune: its ``ft:base``), and the same without what marks its release."""
    tuned = _TUNED.fullmatch(name)
    base = tuned[1] if tuned else name
    yield base
    cut = max((match.start() for match in _RELEASE.finditer(base) if match.end() == len(base)), default=0)
    if cut:
        yield base[:cut]
    elif tuned and (short := _TUNED_RELEASE.fullmatch(base)):
        yield short[1]
