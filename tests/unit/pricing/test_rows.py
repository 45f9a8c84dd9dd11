"""The form of a price row: what it comes to, and everything that can be wrong with one."""

from decimal import Decimal

import pytest

from pricing.price import bill, price
from pricing.rows import SEARCH_FEMTO, make, problems, scaled
from pricing.usage import UNITS, Usage

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
    reads = (
        "input",
        "cached_input",
        "cache_write",
        "cache_write_1h",
        "audio_in",
        "image_in",
        "cached_audio",
        "cached_image",
    )
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


def test_other_rates_at_other_hours():
    """From the first minute until before the last one, also around midnight; tiers and marks are the row's own."""
    hours = [
        {"from": "16:30", "to": "00:30", "rates": {"input": "9"}},
        {"from": "23:00", "to": "23:30", "rates": {"output": "7"}},
    ]
    tariff = make(ROW | {"rates": {"input": "2", "output": "8"}, "hours": hours}, "v").tariff
    found = {}
    for text in ("00:29", "00:30", "16:29", "16:30", "22:59", "23:00", "23:30"):
        second = int(text[:2]) * 3600 + int(text[3:]) * 60
        during = tariff.during(second)
        found[text] = (during.rate_femto("input") // FEMTO, during.rate_femto("output") // FEMTO)
    assert found == {
        "00:29": (9, 8), "00:30": (2, 8), "16:29": (2, 8), "16:30": (9, 8), "22:59": (9, 8), "23:00": (2, 7), "23:30": (9, 8)
    }  # fmt: skip
    assert tariff.during(0).row.endswith("#16:30-00:30")


def test_a_region_is_a_percentage_of_every_rate():
    """Of each tier; what does not know the region costs what all others cost."""
    raw = {"rates": {"input": "2"}, "tiers": {"batch": {"rates": {"input": "1"}}}, "regions": {"US": "110"}}
    tariff = make(ROW | raw, "v").tariff
    marks = {tier: tariff.rates(0, tier)[1] for tier in ("standard@us", "batch@us", "batch@eu", "@us", "made-up@us")}
    assert marks == {
        "standard@us": "@us", "batch@us": "#batch@us", "batch@eu": "#batch", "@us": "@us", "made-up@us": "#unknown-tier@us"
    }  # fmt: skip
    assert rates(raw, "batch@us")["input"] == 11 * FEMTO // 10
    assert rates(raw, "standard@us")["input"] == 22 * FEMTO // 10


def test_a_short_sound_costs_what_a_longer_one_does():
    """Groq's ten seconds; none is none."""
    tariff = make(ROW | {"rates": {"input": "0", "seconds": "0.36"}, "least_seconds": 10}, "v").tariff
    assert [price(Usage(seconds=count), tariff).nanousd for count in (0, 1, 10, 11)] == [0, 10**6, 10**6, 1_100_000]
    assert [line.count for line in bill(Usage(seconds=3), tariff)] == [10]


def test_a_request_can_have_a_price_of_its_own():
    """Once a call, beside its tokens."""
    tariff = make(ROW | {"rates": {"input": "1", "requests": "0.005"}}, "v").tariff
    assert price(Usage(input=1000), tariff).nanousd == 10**6 + 5 * 10**6
    assert sum(line.femto for line in bill(Usage(input=1000), tariff)) == 6 * 10**12


def test_a_discount_is_rounded_up_once():
    """Per rate, to the femto-dollar."""
    tariff = scaled(make(ROW | {"rates": {"input": "0.000000003", "output": "10"}}, "v").tariff, 8550)
    assert tariff.rate_femto("input") == 3
    assert tariff.rate_femto("output") == 8_550_000_000
    assert tariff.row.endswith("*85.5%")


def test_a_right_row_has_no_problem():
    """The documented form passes."""
    assert list(problems(ROW | LONG | {"valid_from": "2026-01-01", "max_output_tokens": 5, "source": "contract"})) == []
    more = {"hours": [{"from": "00:00", "to": "23:59", "rates": {"output": "1"}}], "regions": {"us": "110.25"}}
    assert list(problems(ROW | more | {"least_seconds": 10})) == []
    assert list(problems({"id": "d", "provider": "openai", "names": ["gpt-*"], "percent": "85"})) == []


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
        (ROW | {"hours": [{"from": "1:00", "to": "02:00", "rates": {}}]}, "hours.0: from and to"),
        (ROW | {"hours": [{"from": "24:00", "to": "02:00", "rates": {}}]}, "hours.0: from and to"),
        (
            ROW | {"hours": [{"from": "01:00", "to": "02:00", "rates": {"inpt": "1"}}]},
            "hours.0.rates.inpt: no such unit",
        ),
        (ROW | {"hours": 5}, "hours: a list"),
        (ROW | {"regions": []}, "regions: an object"),
        (ROW | {"regions": {"us": 110}}, "regions.us: a percentage in quotes"),
        (ROW | {"percent": "85"}, "rates: a row with percent takes those"),
        ({"id": "d", "provider": "x", "names": ["*"], "percent": "0"}, "percent: a percentage in quotes"),
        ({"id": "d", "provider": "x", "names": ["*"], "percent": "-5"}, "percent: a percentage in quotes"),
        (ROW | {"least_seconds": 0}, "least_seconds: a number of seconds"),
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
