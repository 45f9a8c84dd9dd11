"""What commands print: whole figures at every width, no name that steers a terminal, JSON that is JSON."""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import output
from gateway.cli.output import Column, _unsteered, clean, progress, shorten, table, width_of
from tests.harness.terminals import PAINT, seen

COLUMNS = [
    Column("day", whole=True),
    Column("model"),
    Column("calls", "right"),
    Column("cost $", "point"),
    Column("state", styles={"failed": "red"}),
]
ROWS = [
    ["2026-11-21", "gpt-4o-mini", "1,234,567", "123456789012.5", "ok"],
    ["2026-11-20", "[bold]" + "x" * 60, "2", "0.000000001", "failed"],
    ["2026-11-20", "模型" * 8 + "\x1b[2J\n\u202e", "3", "-0.25", "ok"],
]
PROGRAM = (
    "import json, sys; from gateway.cli.output import *;"
    "columns, rows, foot = json.loads(sys.argv[1]);"
    "table([Column(*each) for each in columns], rows, foot)"
)


def shown(tmp_path: Path, columns: int, **env: str) -> str:
    """The table above in a terminal of that width."""
    shape = [[each.title, each.align, each.whole, dict(each.styles)] for each in COLUMNS]
    told = json.dumps([shape, ROWS, ["all", "", "1,234,572", "123456789012.250000001", ""]])
    status, text = seen([told], tmp_path, columns, env, (sys.executable, "-c", PROGRAM))
    assert status == 0, text
    return text


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["painted", "no colour", "dumb"])
@pytest.mark.parametrize("columns", [20, 40, 62, 80, 200])
def test_a_table_fits_its_terminal(tmp_path: Path, columns: int, env: dict[str, str]) -> None:
    """Names are shortened, figures never are; where not even that helps it is shown row by row."""
    text = shown(tmp_path, columns, **env)
    plain = PAINT.sub("", text)
    for line in plain.splitlines():
        assert width_of(line) <= max(columns, 32), line
    for figure in ("1,234,567", "0.000000001", "-0.25", "123456789012.250000001", "2026-11-21"):
        assert figure in plain
    if columns >= 80:
        rows = [line for line in plain.splitlines() if line.startswith(("2026", "all"))]
        assert len(rows) == 4
        assert len({width_of(line[: line.rindex(".")]) for line in rows}) == 1


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["painted", "no colour"])
def test_no_name_steers_the_terminal_or_is_markup(tmp_path: Path, env: dict[str, str]) -> None:
    """All that is left are colours of ours, and those only where there are any."""
    text = shown(tmp_path, 200, **env)
    assert ("\x1b[" in text) == (not env)
    plain = PAINT.sub("", text)
    assert all(letter == "\n" or letter.isprintable() for letter in plain)
    assert "[bold]xxx" in plain


def test_what_is_piped_is_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a row, for whoever reads it with awk."""
    table(COLUMNS, ROWS[:2])
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["day", "model", "calls", "cost", "$", "state"]
    assert first.split() == ["2026-11-21", "gpt-4o-mini", "1,234,567", "123456789012.5", "ok"]
    assert second.split()[1] == "[bold]" + "x" * 33 + "\u2026"
    assert first.index("2.5") + 1 == second.index("0.000000001") + 1
    table(["name"], [])
    assert capsys.readouterr().out == "name\n"


PROGRESS = (
    "import sys; from gateway.cli import output; output.SHOW_AFTER_S = output.REDRAW_S = 0.0;"
    "print(sum(output.progress(range(1000), 1000, 'calls')))"
)


def test_progress_shows_on_a_terminal_and_goes_away(tmp_path: Path) -> None:
    """What is printed is not mixed up with it, and with TERM=dumb there is none."""
    status, text = seen([], tmp_path, 80, {}, (sys.executable, "-c", PROGRESS))
    assert status == 0
    assert "calls" in text
    assert "/1000" in text
    assert PAINT.sub("", text).rstrip("\n").endswith("499500")
    assert seen([], tmp_path, 80, {"TERM": "dumb"}, (sys.executable, "-c", PROGRESS)) == (0, "499500\n")


def test_progress_in_a_pipe_is_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And hands everything through."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(output, "SHOW_AFTER_S", 0.0)
    monkeypatch.setattr(output, "REDRAW_S", 0.0)
    assert list(progress(iter(range(3)), 3, "calls")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


@given(st.text())
def test_a_cell_is_a_line_and_steers_nothing(text: str) -> None:
    """Whatever it says."""
    assert all(each.isprintable() for each in clean(text))
    assert len(clean(text)) == len(text)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 30))
def test_what_is_shortened_fits(text: str, room: int) -> None:
    """And what fits is not shortened."""
    short = shorten(clean(text), room)
    assert width_of(short) <= room
    assert short == clean(text) or (short.endswith("\u2026") and width_of(clean(text)) > room)


def test_wide_and_combining_letters() -> None:
    """As terminals show them."""
    assert width_of("模型") == 4
    assert width_of(unicodedata.normalize("NFD", "é")) == 1


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_is_the_same_and_steers_nothing(document: object) -> None:
    """What may steer is escaped, which changes no value."""
    text = _unsteered(json.dumps(document, indent=2, ensure_ascii=False))
    assert json.loads(text) == document
    assert all(each == "\n" or each.isprintable() for each in text)
