"""What a call can cost at the most, and what it is likely to cost, before anything is sent.

Owns the arithmetic of holds; knows no budget and no price row. Laws: integers only, rounded up; ``most`` is never below
``likely``; no bound is shrunk to fit. ``most`` rests on two things that can be proved of text: a token of a byte-level
vocabulary covers at least one byte, and a provider honours its own output maximum.
"""

from __future__ import annotations

from typing import Protocol

from gateway.call import Ask, Bound
from pricing.money import FEMTO_PER_NANO

BYTES_PER_TOKEN = 4
"""Of English prose under current vocabularies; code and other languages have fewer, so that the guess is then low."""
LIKELY_OUTPUT_TOKENS = 1024
"""The guess for one choice while nothing is known of a caller's earlier answers."""
LIKELY_CHOICES = 128
"""OpenAI's maximum of ``n``. A guess goes no further, whatever a body says."""
UNKNOWN_OUTPUT_TOKENS = 1_000_000
"""Where neither caller nor book names a maximum: above every output limit that a provider publishes."""
UNKNOWN_CONTEXT_TOKENS = 2_000_000
"""Where the book names no context: the largest that a provider publishes (Gemini 1.5 Pro)."""
MOST_NANOUSD = 1 << 53
"""A bound ends here, 9 million dollars: past every limit that a budget can have, and still exact in a double."""
_JUST_UNDER_A_NANO = FEMTO_PER_NANO - 1
WITHOUT_OUTPUT = frozenset(("embeddings",))


class Tariff(Protocol):
    """What is read of a model's rates: femto-dollars per token, and its limits in tokens."""

    @property
    def dearest_input_femto(self) -> int: ...
    @property
    def dearest_output_femto(self) -> int: ...
    @property
    def likely_input_femto(self) -> int: ...
    @property
    def likely_output_femto(self) -> int: ...
    @property
    def max_output_tokens(self) -> int | None: ...
    @property
    def least_seconds(self) -> int: ...
    @property
    def per_request(self) -> bool: ...
    @property
    def context_tokens(self) -> int | None: ...
    def rate_femto(self, unit: str, /) -> int: ...


def bound(ask: Ask, tariff: Tariff) -> Bound:
    """Both bounds of one call under one tariff."""
    choices = ask.choices if ask.choices > 1 else 1
    most_output, likely_output = _outputs(ask, tariff)
    most_input_femto, likely_input = _inputs(ask, tariff)
    most = most_input_femto + most_output * choices * tariff.dearest_output_femto
    likely = likely_input_femto = likely_input * tariff.likely_input_femto
    if tariff.per_request:
        most += tariff.rate_femto("requests")
        likely += tariff.rate_femto("requests")
    if ask.seconds or ask.characters or ask.images:
        most += _units(ask, tariff, ask.seconds)
        likely += _units(ask, tariff, ask.likely_seconds)
    else:
        likely_choices = choices if choices < LIKELY_CHOICES else LIKELY_CHOICES
        likely += likely_output * likely_choices * tariff.likely_output_femto
    if most < likely:
        most = likely
    return Bound(_up(likely), _up(most), _up(likely_input_femto), tariff.likely_output_femto)


def likely_tokens(ask: Ask, tariff: Tariff) -> tuple[int, int]:
    """(read, written) by one call, as far as it is billed by tokens: what a limit on them sets aside."""
    _, read = _inputs(ask, tariff)
    if ask.seconds or ask.characters or ask.images:
        return read, 0
    _, written = _outputs(ask, tariff)
    return read, written * min(max(1, ask.choices), LIKELY_CHOICES)


def _inputs(ask: Ask, tariff: Tariff) -> tuple[int, int]:
    """(femto-dollars at the most, likely tokens) of the input. Where nothing in the body bounds it, the model's context does."""
    text_bytes = ask.input_bytes if ask.input_bytes > 0 else 0
    prose_bytes = text_bytes - ask.media_bytes if text_bytes > ask.media_bytes else 0
    likely = -(-prose_bytes // BYTES_PER_TOKEN) + ask.likely_extra_tokens
    if not (ask.extra_tokens or ask.open_input):
        return text_bytes * tariff.dearest_input_femto, likely
    searches_femto = ask.searches * tariff.rate_femto("searches") if ask.searches else 0
    dearest = max(tariff.dearest_input_femto, tariff.rate_femto("image_in"))
    extra = ask.extra_tokens
    if ask.open_input:
        extra = max(extra, (tariff.context_tokens or UNKNOWN_CONTEXT_TOKENS) - text_bytes)
    return text_bytes * tariff.dearest_input_femto + extra * dearest + searches_femto, likely


def _units(ask: Ask, tariff: Tariff, seconds: int) -> int:
    """Femto-dollars of what is billed by its length or number; where tokens are billed instead, rates are those of the tokens
    that it comes to.
    """
    return (
        (max(seconds, tariff.least_seconds) if seconds else 0) * tariff.rate_femto("seconds")
        + ask.characters * tariff.rate_femto("characters")
        + ask.images * tariff.rate_femto("images")
    )


def _outputs(ask: Ask, tariff: Tariff) -> tuple[int, int]:
    """Output tokens of one choice: (at the most, likely). The tighter of the caller's and the model's maximum counts."""
    if ask.operation in WITHOUT_OUTPUT:
        return 0, 0
    asked, most = ask.max_output_tokens, tariff.max_output_tokens
    if asked is not None and asked > 0:  # -1: "no limit"
        most = asked if most is None or asked < most else most
    elif most is None:
        most = tariff.context_tokens or UNKNOWN_OUTPUT_TOKENS
    return most, most if most < LIKELY_OUTPUT_TOKENS else LIKELY_OUTPUT_TOKENS


def _up(femtousd: int) -> int:
    nanousd = (femtousd + _JUST_UNDER_A_NANO) // FEMTO_PER_NANO
    return nanousd if nanousd < MOST_NANOUSD else MOST_NANOUSD
