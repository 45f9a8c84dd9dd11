"""The book: its version, its overlay, what it remembers, and what stands in for a model without a price."""

import json

import pytest

from pricing.book import KNOWN_MAKERS, REMEMBERED, Book
from pricing.price import price
from pricing.usage import UNITS, Usage

BOOK = Book.load()
AT = 1795000000  # 2026-11-18
DAY = 86_400
MINE = {"id": "mine", "provider": "openai", "names": ["gpt-4o"], "rates": {"input": "1", "output": "2"}}


def overlay(path, *rows):
    path.joinpath("prices.json").write_text(json.dumps({"rows": rows}))
    return Book.load(path / "prices.json")


def row_of(book, provider, model, at=AT):
    tariff = book.tariff(provider, model, at)
    return tariff and tariff.row


def test_the_version_is_the_content(tmp_path):
    """16 hex digits; with an overlay its own behind them; the same rows give the same."""
    assert len(BOOK.version) == 16
    int(BOOK.version, 16)
    one, same, other = (
        overlay(tmp_path, MINE),
        overlay(tmp_path, dict(reversed(MINE.items()))),
        overlay(tmp_path, MINE | {"id": "x"}),
    )
    assert one.version == same.version != other.version
    assert one.version.startswith(f"{BOOK.version}+")
    assert one.tariff("openai", "gpt-4o", AT).book == one.version


def test_an_override_goes_first_for_dated_releases_too(tmp_path):
    """A provider answers with the release's name: a negotiated price would otherwise never apply."""
    book = overlay(tmp_path, MINE)
    assert {row_of(book, "openai", model) for model in ("gpt-4o", "gpt-4o-2024-08-06", "openai/gpt-4o")} == {"mine"}
    assert row_of(book, "openai", "gpt-4o-mini") == "openai/gpt-4o-mini"
    assert row_of(book, "azure", "gpt-4o") == "mine"


def test_an_override_of_azure_leaves_openai_alone(tmp_path):
    """Azure bills by OpenAI's list only where it has no rows of its own."""
    book = overlay(tmp_path, MINE | {"provider": "azure"})
    assert (row_of(book, "azure", "gpt-4o"), row_of(book, "openai", "gpt-4o")) == ("mine", "openai/gpt-4o")


@pytest.mark.parametrize(
    ("provider", "model", "row"),
    [
        ("openai", "GPT-4o-mini", "openai/gpt-4o-mini"),
        ("openai", "gpt-5-2025-08-07", "openai/gpt-5"),
        ("anthropic", "claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5"),
        ("anthropic", "claude-sonnet-4-5@20250929", "anthropic/claude-sonnet-4-5"),
        ("gemini", "models/gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("groq", "openai/gpt-oss-120b", "groq/openai/gpt-oss-120b"),
        ("elsewhere", "anthropic/claude-haiku-4-5", "anthropic/claude-haiku-4-5"),
        ("", "openai/gpt-4o", "openai/gpt-4o"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", "openai/ft:gpt-4o-mini"),
        ("openai", "ft:gpt-4.1:acme::abc", None),
        ("self-hosted", "openai/gpt-4o", None),
        ("anthropic", "openai/gpt-4o", None),
    ],
)
def test_names_resolve_by_rule(provider, model, row):
    """Releases, prefixes, case, fine-tunes; only a provider without prices of its own passes on another's."""
    assert row_of(BOOK, provider, model) == row


@pytest.mark.parametrize(
    "model", ["", "gpt-5-unknown", "gpt-4o-ultra", "gpt", "x" * 10_000, "ft:unknown:a", "/", "a/b/c", "\n", "models/"]
)
def test_a_name_that_only_looks_known_is_unknown(model):
    """It may be a dearer model: nothing is guessed."""
    assert row_of(BOOK, "openai", model) is None


def test_an_override_that_starts_later_is_not_missed(tmp_path):
    """Whatever was looked up and remembered the day before."""
    book = overlay(tmp_path, MINE | {"valid_from": "2026-11-19", "valid_to": "2026-11-20"})
    seen = [row_of(book, "openai", "gpt-4o", AT + day * DAY) for day in (0, 1, 2, 1)]
    assert seen == ["openai/gpt-4o", "mine", "openai/gpt-4o", "mine"]


def test_the_longest_prefix_wins_and_a_name_beats_it(tmp_path):
    """``*`` is an operator's word; the book's own rows never match by prefix."""
    rows = [
        {"id": name, "provider": "self-hosted", "names": [name], "rates": {"input": "0"}}
        for name in ("*", "llama-*", "llama-3")
    ]
    book = overlay(tmp_path, *rows)
    found = [row_of(book, "self-hosted", model) for model in ("qwen", "llama-4", "llama-3", "llama-3-2024-01-01")]
    assert found == ["*", "llama-*", "llama-3", "llama-3"]
    assert price(Usage(input=10, output=10), book.tariff("self-hosted", "qwen", AT)).nanousd == 0


def test_all_problems_of_an_overlay_are_told_with_their_row(tmp_path):
    """One line each; the first row is row 1."""
    with pytest.raises(ValueError) as error:
        overlay(
            tmp_path, MINE | {"rates": {"input": 1, "outptu": "2"}}, MINE, MINE | {"id": "bad", "valid_to": "never"}
        )
    assert [line.partition(": ")[0] for line in str(error.value).splitlines()] == [
        "row 1 (mine)",
        "row 1 (mine)",
        "row 3 (bad)",
    ]


def test_two_prices_at_the_same_time_are_a_problem(tmp_path):
    """Which of them holds would be a matter of order; rows that follow each other are not."""
    overlay(tmp_path, MINE | {"valid_to": "2026-11-19"}, MINE | {"id": "next", "valid_from": "2026-11-19"})
    with pytest.raises(ValueError, match=r"row 2 \(again\): names: 'gpt-4o' has a price in row 1"):
        overlay(tmp_path, MINE, MINE | {"id": "again", "names": ["GPT-4o"]})


@pytest.mark.parametrize("text", ["", "rows: []", "[]", "5", '{"rows": 5}', "null"])
def test_a_file_of_another_form_is_refused(tmp_path, text):
    """In words, not with a trace."""
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="not a price file"):
        Book.load(path)


def test_an_overlay_may_be_in_any_form_that_its_parser_reads(tmp_path):
    """The library itself knows JSON only."""
    path = tmp_path / "prices.txt"
    path.write_text("mine")
    assert row_of(Book.load(path, lambda text: {"rows": [MINE | {"id": text}]}), "openai", "gpt-4o") == "mine"


def test_what_is_remembered_is_bounded():
    """Names come from callers."""
    book = Book.load()
    for number in range(REMEMBERED + 10):
        book.tariff("openai", f"made-up-{number}", AT)
        book.dearest(f"nobody-{number}", AT) if number < 10 else None
    book.tariff("openai", "x" * 10_000_000, AT)
    assert len(book._found) <= REMEMBERED
    assert max(len(model) for _, model, _ in book._found) < 300
    assert row_of(book, "openai", "gpt-4o") == "openai/gpt-4o"


def test_an_unpriced_model_costs_the_dearest_of_its_family():
    """Unit by unit, marked, and never nothing."""
    estimate = BOOK.dearest("anthropic", AT)
    assert (estimate.unpriced, estimate.rows, estimate.book) == (True, ("anthropic/unpriced",), BOOK.version)
    assert (estimate.likely_input_femto, estimate.likely_output_femto) == (15 * 10**9, 75 * 10**9), "claude-opus-4"
    assert price(Usage(output=1), estimate).unpriced


@pytest.mark.parametrize("provider", [*BOOK.providers, "self-hosted", "", "nobody"])
def test_no_estimate_is_free_in_any_unit(provider):
    """Unknown is never free. (A fee for the request itself is none of its units.)"""
    estimate = BOOK.dearest(provider, AT)
    assert all(estimate.rate_femto(unit) > 0 for unit in UNITS if unit != "requests")


ORDINARY = {
    "openai": "gpt-6-astra", "google": "gemini-3.1-pro-preview", "anthropic": "claude-opus-5-5", "xai": "grok-4.7",
    "groq": "llama-3.3-70b-versatile", "mistral": "mistral-large-latest", "deepseek": "deepseek-v4-pro",
}  # fmt: skip


@pytest.mark.parametrize("provider", ORDINARY)
def test_an_estimate_is_not_below_an_ordinary_model_of_the_family(provider):
    """Gemini's -pro is one; OpenAI's -pro and what speaks or paints is not."""
    tariff, estimate = BOOK.tariff(provider, ORDINARY[provider], AT), BOOK.dearest(provider, AT)
    (most,) = (rates[-1] for tier, rates in tariff.steps.items() if tier == "")
    assert all(estimate.rate_femto(unit) >= rate for unit, rate in zip(UNITS, most.femto, strict=True))


def test_outliers_do_not_make_the_estimate():
    """o1-pro costs 600 dollars for a million: nobody's budget should go on a misspelt name."""
    assert BOOK.tariff("openai", "o1-pro", AT).likely_output_femto == 600 * 10**9
    assert BOOK.dearest("openai", AT).likely_output_femto < 150 * 10**9
    assert BOOK.dearest("openai", AT).rate_femto("audio_out") < 150 * 10**9


def test_a_stranger_is_priced_by_the_dearest_of_the_makers():
    """An upstream that nobody knows may resell anything."""
    everybody = BOOK.dearest("nobody", AT)
    for provider in KNOWN_MAKERS:
        assert all(everybody.rate_femto(unit) >= BOOK.dearest(provider, AT).rate_femto(unit) for unit in UNITS)


def test_near_names_are_for_a_person():
    """A misspelt name finds the right one."""
    assert "gpt-4o-mini" in BOOK.near("gpt4o-mini")
    assert BOOK.near("gpt-4o", "anthropic") == [] or all(
        name.startswith("claude") for name in BOOK.near("gpt-4o", "anthropic")
    )


DISCOUNT = {"id": "ours", "provider": "openai", "names": ["gpt-4o*"], "percent": "85", "valid_from": "2026-01-01"}


def test_a_discount_takes_percent_of_what_stands_behind_it(tmp_path):
    """Every tier of every model that it names, from its day on; exact rows of the same file go before it."""
    own = {"id": "contract", "provider": "openai", "names": ["gpt-4o-mini"], "rates": {"input": "1"}}
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"rows": [DISCOUNT, own]}))
    book = Book.load(path)
    plain, cheaper = BOOK.tariff("openai", "gpt-4o", AT), book.tariff("openai", "gpt-4o-2024-08-06", AT)
    assert (cheaper.row, cheaper.rate_femto("input")) == ("openai/gpt-4o*85%", plain.rate_femto("input") * 85 // 100)
    assert cheaper.rates(0, "batch")[0].femto[0] == plain.rates(0, "batch")[0].femto[0] * 85 // 100
    assert book.tariff("openai", "gpt-4o-mini", AT).row == "contract"
    assert book.tariff("openai", "gpt-4o", 1_735_000_000).row == "openai/gpt-4o"
    assert book.tariff("openai", "gpt-4o-made-up", AT) is None
    again = Book.unpack(book.packed)
    assert again.version == book.version != BOOK.version
    assert again.tariff("openai", "gpt-4o", AT) == book.tariff("openai", "gpt-4o", AT)


def test_hours_are_looked_up_by_the_second_and_remembered():
    """The memory is by day; what it holds is not."""
    day = 1_794_960_000
    assert [BOOK.tariff("deepseek", "deepseek-v4-pro", day + hour * 3600).row.partition("#")[2] for hour in (0, 1, 4, 6, 1)] == [
        "", "01:00-04:00", "", "06:00-10:00", "01:00-04:00",
    ]  # fmt: skip


def test_only_what_is_asked_for_is_made():
    """Two thousand rows would take a tenth of a second."""
    book = Book.load()
    assert all(not shelf._made for shelf in book._shelves)
    book.prime(["openai"])
    assert [list(shelf._made) for shelf in book._shelves] == [["openai"]]


def test_what_unknown_models_cost_can_be_declared(tmp_path):
    """A row for ``*`` stands in for what no other row knows, and for nothing else; with ``percent`` it is for all."""
    rows = [
        {"id": "unknown", "provider": "openai", "names": ["*"], "rates": {"input": "7", "output": "9"}},
        {"id": "less", "provider": "anthropic", "names": ["*"], "percent": "90"},
    ]
    (tmp_path / "prices.json").write_text(json.dumps({"rows": rows}))
    book = Book.load(tmp_path / "prices.json")
    assert book.charge("openai", "", "never-heard-of", AT).row == "unknown"
    assert book.charge("openai", "", "gpt-4o", AT).row == "openai/gpt-4o"
    assert book.charge("mistral", "", "never-heard-of", AT).unpriced
    assert book.charge("anthropic", "", "claude-haiku-4-5", AT).row == "anthropic/claude-haiku-4-5*90%"
    assert book.charge("anthropic", "", "never-heard-of", AT).unpriced
