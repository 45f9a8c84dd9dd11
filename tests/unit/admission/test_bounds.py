"""What a call can cost at the most and what it likely costs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.bounds import MOST_NANOUSD, Bound, bound, likely_tokens
from gateway.call import Ask


@dataclass(frozen=True)
class Rates:
    """A tariff made of the figures that are read."""

    dearest_input_femto: int = 5_000_000_000
    dearest_output_femto: int = 30_000_000_000
    likely_input_femto: int = 2_500_000_000
    likely_output_femto: int = 10_000_000_000
    max_output_tokens: int | None = 16_384
    context_tokens: int | None = 128_000
    per_request: bool = False
    least_seconds: int = 0

    def rate_femto(self, unit: str, /) -> int:
        return self.dearest_input_femto


def ask(operation: str = "chat", **given_: object) -> Ask:
    return Ask(operation=operation, metered=True, **given_)  # type: ignore[arg-type]


def test_what_a_request_itself_costs_is_held_as_well():
    """Perplexity's fee."""
    plain, feed = (bound(ask(input_bytes=40), Rates(per_request=fee)) for fee in (False, True))
    assert feed.most_nanousd - plain.most_nanousd == feed.likely_nanousd - plain.likely_nanousd == 5000


def test_sound_is_held_by_its_length():
    """At the most and likely; not less than is billed at the least."""
    held = bound(ask("transcription", seconds=100, likely_seconds=20), Rates(max_output_tokens=0))
    assert (held.likely_nanousd, held.most_nanousd) == (20 * 5000, 100 * 5000)
    short = bound(ask("transcription", seconds=2, likely_seconds=1), Rates(max_output_tokens=0, least_seconds=10))
    assert (short.likely_nanousd, short.most_nanousd) == (10 * 5000, 10 * 5000)


def test_most_takes_every_byte_as_a_token_and_every_token_as_the_dearest():
    """Bytes x dearest input + caller's maximum x choices x dearest output."""
    assert bound(ask(input_bytes=400, max_output_tokens=100, choices=2), Rates()) == Bound(
        likely_nanousd=100 * 2500 + 2 * 100 * 10_000,
        most_nanousd=400 * 5000 + 2 * 100 * 30_000,
        likely_input_nanousd=100 * 2500,
        output_femto=10_000_000_000,
    )


@pytest.mark.parametrize(
    ("asked", "of_model", "context", "tokens"),
    [
        (100, 16_384, 128_000, 100),
        (10**30, 16_384, 128_000, 16_384),
        (None, 16_384, 128_000, 16_384),
        (None, None, 128_000, 128_000),
        (None, None, None, 1_000_000),
        (200, None, None, 200),
        (-1, 16_384, None, 16_384),
        (0, 16_384, None, 16_384),
    ],
)
def test_the_output_bound_is_the_tightest_that_somebody_answers_for(asked, of_model, context, tokens):
    """The caller's, the model's, the context, a million; zero and below mean "no limit" to some servers."""
    rates = Rates(max_output_tokens=of_model, context_tokens=context)
    assert bound(ask(max_output_tokens=asked), rates).most_nanousd == tokens * 30_000


def test_likely_output_is_a_thousand_tokens_unless_less_is_allowed():
    """The guess for one choice is capped by the caller's and the model's maximum."""
    assert bound(ask(), Rates()).likely_nanousd == 1024 * 10_000
    assert bound(ask(max_output_tokens=7), Rates()).likely_nanousd == 7 * 10_000
    assert bound(ask(), Rates(max_output_tokens=500)).likely_nanousd == 500 * 10_000


def test_embeddings_have_no_output():
    """Only their input costs."""
    assert bound(ask("embeddings", input_bytes=10), Rates()) == Bound(3 * 2500, 10 * 5000, 3 * 2500, 10_000_000_000)


def test_fractions_of_a_nano_dollar_are_rounded_up():
    """One femto-dollar is held as a nano-dollar."""
    rates = Rates(dearest_input_femto=1, likely_input_femto=1, dearest_output_femto=0, likely_output_femto=0)
    assert bound(ask(input_bytes=1), rates) == Bound(1, 1, 1, 0)


def test_nothing_that_a_body_says_makes_a_bound_too_large_to_book():
    """A bound ends at what no budget can have; the guess counts 128 choices and no more."""
    huge = ask(choices=10**20, max_output_tokens=10**20, input_bytes=10**20)
    assert bound(huge, Rates()).most_nanousd == MOST_NANOUSD
    assert bound(ask(choices=10**20), Rates()).likely_nanousd == 128 * 1024 * 10_000


def test_choices_below_one_are_one():
    """A negative number of choices never makes a call free."""
    assert bound(ask(choices=-5), Rates()) == bound(ask(choices=1), Rates())


counts = st.integers(0, 10**7)


@given(counts, counts, counts, counts, st.none() | counts, st.none() | counts, counts, st.integers(-2, 200))
def test_most_is_never_below_likely(d_in, d_out, l_in, l_out, of_model, asked, size, choices):
    """Whatever the book says, strict holds at least what hard holds; both are whole and not negative."""
    rates = Rates(d_in, d_out, l_in, l_out, of_model)
    result = bound(ask(input_bytes=size, max_output_tokens=asked, choices=choices), rates)
    assert 0 <= result.likely_nanousd <= result.most_nanousd
    assert isinstance(result.most_nanousd, int)


@given(counts, st.integers(1, 10**6), st.integers(1, 8))
def test_most_covers_every_usage_within_the_rules(size, tokens, choices):
    """Any split of at most one token a byte and at most the maximum of output costs no more than the bound."""
    rates = Rates()
    paid = size * rates.dearest_input_femto + min(tokens, 16_384) * choices * rates.dearest_output_femto
    assert bound(ask(input_bytes=size, max_output_tokens=tokens, choices=choices), rates).most_nanousd * 10**6 >= paid


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        (ask(input_bytes=400), (100, 1024)),
        (ask(input_bytes=401, max_output_tokens=30, choices=3), (101, 90)),
        (ask(input_bytes=400, max_output_tokens=-1), (100, 1024)),
        (ask(input_bytes=400, choices=10**9), (100, 128 * 1024)),
        (ask("embeddings", input_bytes=400), (100, 0)),
        (ask("images", input_bytes=400, images=2), (100, 0)),
        (ask(input_bytes=4400, media_bytes=4000, likely_extra_tokens=85), (185, 1024)),
    ],
)
def test_the_tokens_that_a_limit_sets_aside_are_the_likely_ones(asked, tokens):
    """As for a hold; what is billed by its length or number writes none."""
    assert likely_tokens(asked, Rates()) == tokens


def test_a_model_that_writes_little_is_taken_at_its_word():
    """Its own maximum."""
    assert likely_tokens(ask(input_bytes=4, max_output_tokens=500), Rates(max_output_tokens=60)) == (1, 60)
