"""Exit statuses and errors: one list, one form, whatever the command."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gateway.cli import COMMANDS, main, output
from gateway.cli.manual import Command
from gateway.store.tables import UPGRADES
from tests.harness.gateways import ROOT
from tests.harness.terminals import seen

ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
READS_STORE = ("report", "audit", "correct", "calls")
READS_CONFIG = (*READS_STORE, "check", "serve", "status")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOLLGATE_CONFIG", raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(main, list(arguments))


def damage(path: Path) -> None:
    """A store of this version that can be opened, and in which nothing can be found."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for upgrade in UPGRADES:
            connection.executescript(upgrade)
        connection.execute(f"PRAGMA user_version = {len(UPGRADES)}")
        (root,) = connection.execute("SELECT min(rootpage) FROM sqlite_master WHERE rootpage > 1").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    raw = path.read_bytes()
    path.write_bytes(raw[: (root - 1) * size] + b"\xff" * (len(raw) - (root - 1) * size))


def complains(result: Result, status: int) -> None:
    """One form: what is wrong, and nothing on standard output."""
    assert result.exit_code == status, result.output
    assert result.stderr.startswith("tollgate: error: "), result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments", [("price", "gpt-4o", "--input", "1"), ("check",), ("--help",), ("--version",), ("completion", "zsh")]
)
def test_0_is_done(folder: Path, arguments: tuple[str, ...]) -> None:
    """With something on standard output."""
    result = run(*arguments)
    assert (result.exit_code, bool(result.stdout)) == (output.DONE, True)


def test_1_is_no(folder: Path) -> None:
    """A price that is not there; the other noes have tests at the front door."""
    complains(run("price", "no-such-model-at-all"), output.NO)


@pytest.mark.parametrize("name", COMMANDS)
def test_2_is_wrong_use(folder: Path, name: str) -> None:
    """An option that is not there, of each command, with where to read on."""
    result = run(name, "--no-such-thing")
    complains(result, output.WRONG_USE)
    assert re.search(r"Try '\w+ " + name + " --help'", result.stderr)


@pytest.mark.parametrize("name", READS_CONFIG)
def test_2_is_a_wrong_config(folder: Path, name: str) -> None:
    """Each problem with its place."""
    (folder / "bad.yaml").write_text("front: {prot: 1}\n")
    result = run(name, "--config", "bad.yaml")
    complains(result, output.WRONG_USE)
    assert "bad.yaml:1: front.prot:" in result.stderr


@pytest.mark.parametrize("name", READS_STORE)
@pytest.mark.parametrize("store", ["none", "no database", "damaged", "redis"])
def test_3_is_a_store_that_cannot_be_read(folder: Path, name: str, store: str) -> None:
    """Not there, no database, one whose pages are gone, a server that nobody runs."""
    url = "redis://127.0.0.1:1/0" if store == "redis" else f"sqlite:///{folder}/books.db"
    (folder / "tollgate.yaml").write_text(json.dumps({"store": {"url": url, "timeout": "200ms"}}))
    if store == "no database":
        (folder / "books.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)
    if store == "damaged":
        damage(folder / "books.db")
    result = run(name)
    complains(result, output.UNREACHABLE)
    assert url in result.stderr


def test_3_is_a_gateway_that_cannot_be_reached(folder: Path) -> None:
    """Nobody listens; and a server that speaks something else."""
    complains(run("status", "--url", "http://127.0.0.1:1"), output.UNREACHABLE)


@pytest.mark.parametrize("url", ["ftp://a", "http://me:secret@127.0.0.1", "http://", "http://a:port", "http://a?b=c"])
def test_2_is_an_address_that_is_none(folder: Path, url: str) -> None:
    """And what it may hold of a secret is not repeated."""
    result = run("status", "--url", url)
    complains(result, output.WRONG_USE)
    assert "secret" not in result.output


def test_70_is_a_bug(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a stack, unless one asks for it; never 1, which would be an answer."""
    monkeypatch.setitem(sys.modules, "gateway.canonical", None)
    complains(run("check"), output.BUG)
    monkeypatch.setenv("TOLLGATE_TRACEBACK", "1")
    assert isinstance(run("check").exception, ImportError)


def test_130_is_ctrl_c(folder: Path) -> None:
    """In a terminal, at any command that takes a while."""
    (folder / "tollgate.yaml").write_text(json.dumps({"store": {"url": f"sqlite:///{folder}/books.db"}}))
    program = (
        "import sys, time; from gateway.cli import main; from gateway.cli import check;"
        "check.read_config = lambda path: (print('waiting', flush=True), time.sleep(60));"
        "main(['check'])"
    )
    sent = []

    def interrupt(terminal: int, text: str) -> None:
        if "waiting" in text and not sent:
            sent.append(os.write(terminal, b"\x03"))

    status, text = seen([], folder, 80, {}, (sys.executable, "-c", program), interrupt)
    assert status == output.INTERRUPTED
    assert "tollgate: interrupted" in text
    assert "Traceback" not in text


def test_141_is_a_reader_that_went_away(folder: Path) -> None:
    """As head does: no word of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "check"], cwd=folder, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=30), told) == (output.NO_READER, b"")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_manual(name: str) -> None:
    """Examples and exit statuses that are in the list."""
    command = main.get_command(click.Context(main), name)
    if isinstance(command, click.Group):
        return
    assert isinstance(command, Command)
    assert command.examples
    assert all(line.split()[0] in {"tollgate", "eval", "until"} for _, line in command.examples)
    assert set(command.exits) <= set(output.EXITS)


def test_help_costs_little() -> None:
    """What --help and --version load: no HTTP, no config, no tables, whatever the command. (How long it takes is measured elsewhere.)"""
    heavy = ("aiohttp", "gateway.app", "gateway.loading", "rich", "yaml")
    for arguments in (["--version"], ["--help"], *([name, "--help"] for name in COMMANDS if name != "keys")):
        code = f"import sys; from gateway.cli import main\ntry: main({arguments})\nexcept SystemExit: pass\nprint(*(name for name in {heavy} if name in sys.modules), file=sys.stderr)"
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
        assert result.stderr.split() == [], arguments


def test_serving_loads_no_tables(folder: Path) -> None:
    """rich is for people at a terminal."""
    code = "import sys; import gateway.cli.serve, gateway.workers; print('rich' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "False"
