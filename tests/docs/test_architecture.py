"""ARCHITECTURE.md says what is so: its tables are compared with the tree and the code."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from gateway.call import Call

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
GUESSES = re.findall(r"^\| [^|]+ \| ((?:gateway|pricing|dashboards|config)/[^|]+) \|$", TEXT, re.MULTILINE)


def test_the_one_guess_table_is_there():
    """An empty list would make the next test pass for nothing."""
    assert len(GUESSES) > 20


@pytest.mark.parametrize("places", GUESSES)
def test_every_guess_leads_to_a_file(places):
    """What a newcomer is sent to exists."""
    for place in places.split(", "):
        assert (ROOT / place).exists(), place


def test_the_fields_of_the_call_are_the_fields_of_the_table():
    """One row a step, one field a row."""
    rows = re.findall(r"^\| [^|]+\? \| `(\w+)`|^\| [a-z ,]+ \| `(\w+)`", TEXT, re.MULTILINE)
    told = {name for row in rows for name in row if name} | {"refusal"}
    steps = {field.name for field in fields(Call) if field.default is None}
    assert told == steps


def test_every_room_has_a_law():
    """A folder is a law."""
    rooms = {path.name for path in (ROOT / "gateway").iterdir() if (path / "__init__.py").exists()}
    for room in rooms - {"admin", "cli"}:
        assert f"`{room}`" in TEXT, room


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "THREATS.md", "CHANGELOG.md"])
def test_links_and_named_files_exist(document):
    """A path in backticks or in a link that looks like one of ours is one of ours."""
    text = (ROOT / document).read_text()
    named = re.findall(r"`((?:docs|tests|scripts|benchmarks|config|dashboards|gateway|pricing)/[\w/.-]+)`", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    for place in named + linked:
        assert (ROOT / place).exists(), f"{document}: {place}"
