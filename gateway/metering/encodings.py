"""Which vocabulary counts for which model, and how far to trust it.

Owns two tables: the shapes of the encodings (as tiktoken publishes them) and our own rules from model name to encoding,
because tiktoken's table ends at gpt-5 and knows nobody else. Where no vocabulary is published, the count is scaled to
err high: it stands in for a bill.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gateway.value import value


@value
class Shape:
    """What makes an encoding out of a vocabulary. ``sha256`` is that of the original ``.tiktoken`` file."""

    pattern: str
    special_tokens: dict[str, int]
    sha256: str


@value
class Fit:
    """How a model's tokens are counted: the encoding, the percentage to scale its count by, whether it is the model's own."""

    encoding: str
    percent: int
    exact: bool


_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"

SHAPES: dict[str, Shape] = {
    "o200k_base": Shape(
        pattern="|".join(
            (
                rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_ENDINGS}",
                rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_ENDINGS}",
                r"\p{N}{1,3}",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
                r"\s*[\r\n]+",
                r"\s+(?!\S)",
                r"\s+",
            )
        ),
        special_tokens={"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
        sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": Shape(
        pattern=(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
            r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
        ),
        special_tokens={
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
"""From tiktoken 0.14 (``tiktoken_ext/openai_public.py``); a test compares them with what tiktoken itself builds."""

O200K = Fit("o200k_base", 100, exact=True)
CL100K = Fit("cl100k_base", 100, exact=True)

_RULES: tuple[tuple[re.Pattern[str], Fit], ...] = tuple(
    (re.compile(pattern), fit)
    for pattern, fit in (
        (r"(chat)?gpt-(4o|4\.1|4\.5|5|oss)|o[134](-|$)", O200K),
        (r"gpt-(4|3\.5|35)(-|$)|text-embedding-|(davinci|babbage)-002", CL100K),
        (r"gpt-|chatgpt-|o\d|codex-|computer-use-", Fit("o200k_base", 100, exact=False)),
        # The vocabulary of Claude up to 4.6: fitted factors of npm ai-tokenizer 1.0.6, rounded up.
        (
            r".*claude-(v?[123]|instant|(opus|sonnet|haiku)-4(-[0-6])?(-\d{8}|[@:]|-v\d|$))",
            Fit("o200k_base", 125, exact=False),
        ),
        # From Claude Opus 4.7 on up to 1.35 times as many (Anthropic), measured up to 1.46 on English: 1.25 x 1.46.
        (r".*claude", Fit("o200k_base", 183, exact=False)),
        (r".*(gemini|gemma)", Fit("o200k_base", 110, exact=False)),  # fitted at 1.08 by the same
    )
)

DEFAULT = Fit("o200k_base", 125, exact=False)
"""Smaller vocabularies (32 000 to 150 000 tokens) need more tokens for the same text."""


@lru_cache(maxsize=1024)
def encoding_for(model: str) -> Fit:
    """The fit for a model as callers and providers name it: any case, with vendor prefix or ``ft:``; never fails."""
    plain = model.lower().removeprefix("ft:").rsplit("/", 1)[-1]
    for pattern, fit in _RULES:
        if pattern.match(plain):
            return fit
    return DEFAULT
