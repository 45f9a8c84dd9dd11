r"""Names of models in a body beside the one that its dialect reads: what a provider might serve in its place, or as well.

A body that names its model twice is served the last one by most providers and the first by some; ``"mod\u0065l"`` is the same
member, and for servers that fold case ``"Model"`` is, too. Some providers fall back to other models, or run tools that have models
of their own. Asked only for callers whose key limits models. Laws: what cannot be read is a fault; a body in which ``"model"``
stands once and nothing else that matters is told from its bytes (6 us for two kilobytes), and only others are parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MODEL = "model"
LISTS = frozenset(("models", "fallback", "fallbacks", "fallback_model", "fallback_models"))
"""Models to be used instead (OpenRouter, LiteLLM, Vercel); what else stands in such a member is held for a name, too."""
PRESET = "preset"
"""OpenRouter's: settings kept there, a model among them. The same as the model ``@preset/NAME``."""
BESIDE = frozenset(("tools", "plugins"))
"""Members that can hold models of their own: OpenAI's image tool, Anthropic's advisor, OpenRouter's plugins."""
SCHEMAS = frozenset(("parameters", "input_schema", "function", "functiondeclarations", "function_declarations"))
"""What the caller's own tools look like: a member that is called model there is an argument."""
FOLDING = ("\u017f".encode(), "\u212a".encode())
"""The two characters beyond ASCII that fold to a letter of it: the long s and the Kelvin sign."""
_ESCAPED = re.compile(rb"\\u00[4-7]")
"""A letter that is escaped."""
TWICE = "it names its model more than once"


def is_plain(body: bytes) -> bool:
    """Whether no model but one can be named in a JSON body."""
    lower = body.lower()
    if lower.count(b'model"') > 1 or b'models"' in lower or b'"fallback' in lower or b'"preset"' in lower:
        return False
    if b"\\u017" in body or b"\\u212" in body or (b"\\u00" in body and _ESCAPED.search(body) is not None):
        return False
    return body.isascii() or not any(sign in body for sign in FOLDING)


def further(body: bytes) -> tuple[list[str], str]:
    """The further names of models in a JSON body, and the fault of one that names its model twice or cannot be read."""
    if is_plain(body):
        return [], ""
    try:
        root = json.loads(body.decode(), object_pairs_hook=tuple)  # objects are tuples of pairs, arrays are lists
    except (ValueError, RecursionError):
        return [], "it cannot be read in every detail"
    members = [(name.casefold(), value) for name, value in root] if type(root) is tuple else []
    if sum(name == MODEL for name, _ in members) > 1:
        return [], TWICE
    names: list[str] = []
    for name, value in members:
        if name in LISTS:
            names += _texts(value)
        elif name == PRESET:
            names += [f"@preset/{text}" for text in _texts(value)]
        elif name in BESIDE:
            names += _models_in(value)
    return names, ""


def _texts(value: Any) -> Iterator[str]:
    """All texts within a value; what is neither a text nor holds any is an empty one, but for null."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is str:
            yield item
        elif type(item) is list:
            stack += item
        elif type(item) is tuple:
            stack += [inner for _, inner in item]
        elif item is not None:
            yield ""


def _models_in(value: Any) -> Iterator[str]:
    """The texts of members that are called so, at any depth but in schemas."""
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is list:
            stack += item
        elif type(item) is tuple:
            for name, inner in item:
                folded = name.casefold()
                if folded.endswith((MODEL, "models")):
                    yield from _texts(inner)
                elif folded not in SCHEMAS:
                    stack.append(inner)
