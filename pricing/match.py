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
ALIASES = {
    "gemini": "google", "vertex": "google", "azure": "openai", "x-ai": "xai", "bedrock": "aws", "moonshot": "moonshotai",
    "fireworks-ai": "fireworks", "together-ai": "together", "z-ai": "zai", "voyage": "voyageai",
}  # fmt: skip
"""Providers that bill by another one's list, and other names of the same."""
NEUTRAL = frozenset(("models", "publishers"))
"""Path segments of Google's names that name no provider."""
_RELEASE = re.compile(
    r"[-@](?:20\d\d-[01]\d-[0-3]\d|20\d\d[01]\d[0-3]\d"  # gpt-4o-2024-08-06, claude-sonnet-4-5-20250929, claude-opus-5@20260801
    r"|latest|00\d)$"  # claude-3-opus-latest, gemini-2.0-flash-001
    r"|(?<=-preview)-[01]\d-(?:20\d\d|[0-3]\d)$"  # gemini-2.5-flash-lite-preview-09-2025; what it previews may cost more
    r"|(?<=^ft:gpt-3\.5-turbo)-\d{4}$"  # the one base whose releases have a short date
)
_ROUTED = re.compile(r":(?:nitro|floor|exacto|online|extended|thinking)$")
"""OpenRouter's suffixes that choose a way to a model and not another model (openrouter.ai/docs, "Model variants")."""
_TUNED = re.compile(r"(ft:[^:]+):.*")


def owners(provider: str) -> tuple[str, ...]:
    """Under which names a provider's rows may stand: its own first, then that of the list it bills by."""
    listed = ALIASES.get(provider, provider)
    return (provider,) if listed == provider else (provider, listed)


def candidates(provider: str, model: str, *, resold: bool = False) -> Iterator[tuple[str, str]]:
    """(owner, name) pairs to look up, best first: as it is, then without a prefix; each with and without its release.

    ``resold``: the provider passes on what others make, so that a foreign prefix (``anthropic/claude-opus-5-5``) says whose
    price holds. For others it says nothing: a self-hosted ``openai/gpt-oss-120b`` does not cost what OpenAI asks.
    """
    if len(model) > MAX_CHARS:
        return
    name = model.strip().lower()
    mine = owners(provider)
    for owner in mine:
        yield from ((owner, form) for form in _forms(name))
    if provider == "openrouter" and _ROUTED.search(name):
        yield provider, _ROUTED.sub("", name)
    prefix, slash, last = name.rpartition("/")
    if slash and not name.startswith("ft:"):
        for owner in _named_owners(prefix, mine, resold=resold):
            yield from ((owner, form) for form in _forms(last))


def _named_owners(prefix: str, mine: tuple[str, ...], *, resold: bool) -> tuple[str, ...]:
    """Whose model a prefix says it is; nobody's when the provider has no business selling it."""
    named = [segment for segment in prefix.split("/") if segment not in NEUTRAL]
    if not named:
        return mine
    owner = ALIASES.get(named[0], named[0])
    if len(named) == 1 and (resold or owner in mine):
        return (owner,)
    return ()


def _forms(name: str) -> Iterator[str]:
    """A name (of a fine-tune: its ``ft:base``), and the same without what marks its release."""
    tuned = _TUNED.fullmatch(name)
    base = tuned[1] if tuned else name
    yield base
    short = _RELEASE.sub("", base)
    if short != base:
        yield short
