"""The form of a price row: what it comes to, and everything that can be wrong with one."""

from decimal import Decimal

import pytest

from pricing.rows import SEARCH_FEMTO, make, problems
from pricing.usage import UNITS

ROW = {"id": "acme/one", "provider": "acme", "names": ["One"], "rates": {"input": "2", "output": "8"}}
FEMTO = 10**9
"""Femto-dollars for one, of a dollar for a million."""


def rates(raw, tier="", input_tokens=0):
    tariff = make(ROW | raw, "v").tariff
    found, _ = tariff.rates(input_tokens, tier)
    return dict(zip(UNITS, found.femto, strict=True))


def test_a_unit_without_a_rate_costs_what_its_side_costs():
    """No discount is assumed, and nothing is free by omission."""
    found = rates({})
    others = ("searches", "seconds", "characters", "images", "requests")
    sides = {unit: found[unit] // FEMTO for unit in found if unit not in others}
    reads = ("input", "cached_input", "cache_write", "cache_write_1h", "audio_in", "image_in")
    assert sides == {unit: 2 if unit in reads else 8 for unit in sides}
    assert found["searches"] == SEARCH_FEMTO
    assert found["requests"] == 0


def test_what_is_billed_by_length_or_number_costs_what_its_tokens_would():
    """32 tokens of sound a second, two of speech a character, 6,240 an image."""
    found = rates({"rates": {"input": "2", "output": "8", "audio_in": "3", "audio_out": "12", "image_out": "40"}})
    assert found["seconds"] == 32 * 3 * FEMTO
    assert found["characters"] == (2 + 2 * 12) * FEMTO
    assert found["images"] == 6240 * 40 * FEMTO


def test_sound_is_priced_by_the_hour():
    """$0.006 a minute at OpenAI, $0.111 an hour at Groq; what no femto-dollar divides is rounded up."""
    assert rates({"rates": {"input": "0", "seconds": "0.36"}})["seconds"] == 10**11
    assert rates({"rates": {"input": "0", "seconds": "0.111"}})["seconds"] == 30_833_333_334


def test_without_a_rate_for_output_it_costs_what_input_costs():
    """Embeddings have none; a row that forgot it does not give output away."""
    assert rates({"rates": {"input": "2"}})["output"] == 2 * FEMTO


def test_a_cache_write_at_anthropic_follows_its_published_multiples():
    """1.25 and 2 times the input rate, also for Claude elsewhere, and only where the row has no rate of its own."""
    for raw in ({"provider": "anthropic"}, {"names": ["claude-x"]}):
        found = rates(raw)
        assert (found["cache_write"], found["cache_write_1h"]) == (5 * FEMTO // 2, 4 * FEMTO)
    own = rates({"provider": "anthropic", "rates": {"input": "2", "cache_write": "0", "cache_write_1h": "3"}})
    assert (own["cache_write"], own["cache_write_1h"]) == (0, 3 * FEMTO)


def test_free_is_what_says_so():
    """ "0" is a rate."""
    assert set(rates({"rates": {"input": "0", "searches": "0"}}).values()) == {0}


def test_rates_are_exact():
    """Nine places for a million tokens are whole femto-dollars; a search is counted by the piece."""
    found = rates({"rates": {"input": "0.000000001", "searches": "0.014"}})
    assert found["input"] == 1
    assert found["searches"] == Decimal("0.014") * 10**15


LONG = {
    "rates": {"input": "1", "cached_input": "0.5", "output": "4"},
    "long": [{"above": 100, "rates": {"input": "2"}}, {"above": 200, "rates": {"input": "3", "output": "9"}}],
    "tiers": {
        "flex": {"rates": {"input": "0.5"}},
        "Fast": {"rates": {"input": "2"}, "long": [{"above": 200, "rates": {"input": "7"}}]},
    },
}


@pytest.mark.parametrize(
    ("tier", "tokens", "expected"),
    [
        ("", 100, (1, 0.5, 4)),
        ("", 101, (2, 0.5, 4)),
        ("", 201, (3, 0.5, 9)),
        ("flex", 201, (0.5, 0.5, 9)),
        ("fast", 101, (2, 0.5, 4)),
        ("FAST", 201, (7, 0.5, 9)),
    ],
)
def test_a_tier_says_unit_by_unit_what_differs(tier, tokens, expected):
    """A unit that a tier names has the tier's rates at every length; the others keep the row's."""
    found = rates(LONG, tier, tokens)
    assert tuple(found[unit] / FEMTO for unit in ("input", "cached_input", "output")) == expected


def test_a_row_holds_from_midnight_until_before_midnight():
    """The second date is exclusive, so that rows follow each other without a gap."""
    row = make(ROW | {"valid_from": "2026-01-01", "valid_to": "2026-01-02"}, "v")
    assert [row.holds(1767225600 + second) for second in (-1, 0, 86399, 86400)] == [False, True, True, False]


def test_a_right_row_has_no_problem():
    """The documented form passes."""
    assert list(problems(ROW | LONG | {"valid_from": "2026-01-01", "max_output_tokens": 5, "source": "contract"})) == []


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], "is not an object"),
        (ROW | {"rate": {}}, "'rate' is no key of a row; is 'rates' meant?"),
        (ROW | {"id": ""}, "id: a name is needed"),
        (ROW | {"provider": 5}, "provider: a name is needed"),
        (ROW | {"names": "one"}, "names: a list"),
        (ROW | {"names": ["a*b"]}, "'a*b' is no model name"),
        (ROW | {"rates": None}, "rates: an object"),
        (ROW | {"rates": {"output": "1"}}, "rates: one for input is needed"),
        (ROW | {"rates": {"input": 2.5}}, "rates.input: dollars as a decimal number in quotes"),
        (ROW | {"rates": {"input": "-1"}}, "rates.input: '-1' is no decimal number"),
        (ROW | {"rates": {"input": "1e9"}}, "'1e9' is no decimal number"),
        (ROW | {"rates": {"input": "nan"}}, "'nan' is no decimal number"),
        (ROW | {"rates": {"input": "0.0000000001"}}, "at most nine places"),
        (ROW | {"rates": {"input": "1", "video": "1"}}, "rates.video: no such unit"),
        (ROW | {"long": {}}, "long: a list"),
        (ROW | {"long": [{"above": 0, "rates": {}}]}, "long.0.above: a number"),
        (ROW | {"long": [{"above": 9}]}, "long.0.rates: an object"),
        (ROW | {"long": [{"above": 9, "rates": {"image_in": "1"}}]}, "long.0.rates.image_in: has no rate for a short"),
        (ROW | {"tiers": []}, "tiers: an object"),
        (ROW | {"tiers": {"flex": {"rates": {"input": "x"}}}}, "tiers.flex.rates.input: 'x' is no decimal"),
        (ROW | {"tiers": {"flex": 5}}, "tiers.flex.rates: an object"),
        (ROW | {"tiers": {"default": {"rates": {}}}}, "tiers.default: is a provider's word for the standard rates"),
        (ROW | {"valid_from": "soon"}, "valid_from: a date"),
        (ROW | {"valid_from": "2026-02-01", "valid_to": "2026-02-01"}, "valid_to: must be later"),
        (ROW | {"max_output_tokens": True}, "max_output_tokens: a number of tokens"),
        (ROW | {"context_tokens": "8k"}, "context_tokens: a number of tokens"),
    ],
)
def test_a_problem_is_told_in_words(raw, words):
    """One problem, one sentence that names the place."""
    (problem,) = problems(raw)
    assert words in problem


def test_all_problems_of_a_row_are_told_at_once():
    """Nobody wants to find them one by one."""
    assert len(list(problems({"id": 1, "names": [], "rates": {"x": 1}}))) == 5
