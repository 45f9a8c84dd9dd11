"""docs/reference is what the code declares, and docs/focus.md tells each column."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import watch
from gateway.admission import identity
from gateway.errors import MEANINGS, RETRY_FIELDS, WHEN, Kind, Refusal, retry_headers
from gateway.focus import COLUMNS

ROOT = Path(__file__).parents[2]
FOCUS = (ROOT / "docs" / "focus.md").read_text()
PAGES = ("cli", "config", "metrics", "headers", "errors")


def test_the_reference_is_up_to_date() -> None:
    """scripts/reference writes it."""
    result = subprocess.run(
        [sys.executable, "scripts/reference", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_tables_that_hold_together(name: str) -> None:
    """As many cells in each row as in the head, no empty sentence in the last one, no path of this machine."""
    text = (ROOT / "docs" / "reference" / f"{name}.md").read_text()
    assert str(ROOT) not in text
    width = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        width = width or len(cells)
        assert len(cells) == width, line


def test_every_header_field_has_its_sentence() -> None:
    """Those that are read, those that are added, those of errors."""
    assert {name.encode() for name in identity.SAYS} == set(identity.FIELDS)
    written = set(re.findall(r'b"(x-[a-z-]+)"', Path(watch.__file__).read_text()))
    assert written == set(watch.SAYS)
    refusal = Refusal(Kind.BUDGET_EXCEEDED, "", window="day", resets_at=2_000_000_000, retry_after_ms=5)
    assert {name.decode() for name, _ in retry_headers(refusal, 1.0)} == set(RETRY_FIELDS)


def test_every_error_says_when() -> None:
    """In a sentence."""
    assert set(WHEN) == set(MEANINGS) == set(Kind)
    assert all(says.endswith(".") for says in WHEN.values())


def test_every_column_of_focus_is_told() -> None:
    """And no other one is promised."""
    cells = re.findall(r"^\| (`[A-Zx][^|]*`) \|", FOCUS, re.MULTILINE)
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(COLUMNS)
