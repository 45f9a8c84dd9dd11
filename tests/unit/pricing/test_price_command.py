"""``tollgate price``: a person sees the sum and how it came about; a script gets the same."""

import json

import pytest
from click.testing import CliRunner

from gateway.cli.price import price
from pricing.book import Book


def run(*arguments):
    return CliRunner().invoke(price, arguments)


def test_the_lines_add_up_to_the_cost():
    """Unit, count, rate, amount, in a table that a terminal shows."""
    result = run("gpt-4o", "--input", "1500", "--cached", "500", "--output", "200", "--at", "2026-11-18")
    assert result.exit_code == 0
    words = [line.split() for line in result.output.splitlines()]
    assert result.output.startswith("gpt-4o: $0.005125 at openai on 2026-11-18\n")
    assert ["input", "1,000", "2.50", "1M", "0.0025"] in words
    assert ["cached_input", "500", "1.25", "1M", "0.000625"] in words
    assert ["output", "200", "10.00", "1M", "0.002"] in words
    assert ["total", "0.005125"] in words
    assert ["row", "openai/gpt-4o"] in words
    assert ["book", Book.load().version] in words
    assert "seen 2026-11-10" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_amounts_line_up_at_the_decimal_point():
    """Money in a column is read from there."""
    lines = run("gpt-6-sol", "--input", "1", "--output", "123456", "--searches", "3").output.splitlines()
    points = {
        line.rindex(".")
        for line in lines
        if line.split()[:1] and line.split()[0] in ("input", "output", "searches", "total")
    }
    assert len(points) == 1


def test_parts_of_the_input_are_counted_once():
    """As providers report them: cached and written tokens are among the input tokens."""
    told = json.loads(
        run(
            "claude-opus-4-5", "--input", "100", "--cached", "70", "--cache-write", "20", "--searches", "1", "--json"
        ).output
    )
    counts = {line["unit"]: line["count"] for line in told["lines"]}
    assert counts == {"input": 10, "cached_input": 70, "cache_write": 20, "searches": 1}


@pytest.mark.parametrize("parts", [("--cached", "2"), ("--cache-write", "2"), ("--cached", "1", "--cache-write", "1")])
def test_a_part_is_not_more_than_the_whole(parts):
    """Misuse, not a negative count."""
    assert run("gpt-4o", "--input", "1", *parts).exit_code == 2


def test_a_script_gets_exact_decimals():
    """Strings for dollars, an integer for nano-dollars."""
    told = json.loads(run("gpt-4o", "--input", "3", "--tier", "batch", "--at", "2026-11-18", "--json").output)
    assert (told["cost_usd"], told["cost_nanousd"], told["rows"]) == ("0.00000375", 3750, ["openai/gpt-4o#batch"])
    assert told["lines"] == [{"unit": "input", "count": 3, "rate_usd": "1.25", "per": "1M", "usd": "0.00000375"}]
    assert told["at"] == "2026-11-18T00:00:00+00:00"


def test_the_date_chooses_the_row():
    """o3 became cheaper on 2025-06-10."""
    assert json.loads(run("o3", "--input", "1000000", "--at", "2025-06-09", "--json").output)["cost_usd"] == "10.00"
    assert json.loads(run("o3", "--input", "1000000", "--at", "2025-06-10", "--json").output)["cost_usd"] == "2.00"


def test_an_unknown_model_is_said_to_be_unknown():
    """Exit status 1, and names that look like it; no price is made up."""
    result = run("gpt-4oo", "--input", "5")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no price for 'gpt-4oo'" in result.stderr
    assert "gpt-4o" in result.stderr.splitlines()[1]
    told = json.loads(run("gpt-4oo", "--json").output)
    assert told["error"] == "no price"
    assert "gpt-4o" in told["near"]


def test_marks_are_explained():
    """A tier without rates and a long context are told in words."""
    assert "no rates for this service tier" in run("gpt-4o", "--tier", "turbo").output
    assert "long context" in run("gpt-6-sol", "--input", "300000").output


def test_a_model_with_several_sellers_names_the_others():
    """The maker's price is shown."""
    result = run("claude-opus-4-5", "--input", "1")
    assert "at anthropic" in result.output
    assert "also sold by google" in result.output
    assert "at google" in run("claude-opus-4-5", "--provider", "google").output


def test_overrides_are_asked_first_and_checked(tmp_path):
    """What is wrong with them is told, with exit status 2."""
    path = tmp_path / "prices.json"
    path.write_text(
        json.dumps({"rows": [{"id": "ours", "provider": "openai", "names": ["gpt-4o"], "rates": {"input": "1"}}]})
    )
    told = json.loads(run("gpt-4o", "--input", "1000000", "--overrides", str(path), "--json").output)
    assert (told["cost_usd"], told["rows"]) == ("1.00", ["ours"])
    path.write_text('{"rows": [{"id": "ours"}]}')
    result = run("gpt-4o", "--overrides", str(path))
    assert result.exit_code == 2
    assert "row 1 (ours): provider: a name is needed" in result.stderr


def test_any_unit_can_be_priced():
    """Sound by the second at ten seconds the least, speech by the character, a region, an hour of the day."""
    assert "$0.000308333" in run("whisper-large-v3", "--provider", "groq", "--unit", "seconds", "3").output
    assert run("tts-1", "--unit", "characters", "1000").output.startswith("tts-1: $0.015 at openai")
    assert "@us" in run("claude-opus-5-5", "--input", "10", "--tier", "standard@us").output
    peak = run("deepseek-v4-pro", "--provider", "deepseek", "--input", "1000000", "--at", "2026-11-18T02:00").output
    assert peak.startswith("deepseek-v4-pro: $1.32 at deepseek")
    wrong = run("tts-1", "--unit", "charcters", "5")
    assert wrong.exit_code == 2
    assert "Did you mean 'characters'?" in wrong.output


def test_overrides_can_be_yaml(tmp_path):
    """As in the guide: dates as YAML has them, a discount beside a row."""
    (tmp_path / "prices.yaml").write_text(
        "rows:\n"
        "  - {id: contract, provider: openai, names: [gpt-4o], percent: '85', valid_from: 2026-01-01}\n"
        "  - id: ours\n    provider: self-hosted\n    names: [llama]\n    rates: {input: '0.10', output: '0.40'}\n"
    )
    found = run("gpt-4o", "--input", "1000000", "--overrides", str(tmp_path / "prices.yaml"))
    assert found.output.startswith("gpt-4o: $2.125 at openai")
    assert "openai/gpt-4o*85%" in found.output
    assert run("llama", "--output", "10", "--overrides", str(tmp_path / "prices.yaml")).output.startswith(
        "llama: $0.000004"
    )
