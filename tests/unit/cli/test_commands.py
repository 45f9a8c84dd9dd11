"""The command line: what each command prints, and its exit status."""

import json
import socket

import pytest
from click.testing import CliRunner

from gateway.cli import COMMANDS, main


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOLLGATE_CONFIG", raising=False)
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


def test_help_names_every_command(run):
    """And each has a help of its own."""
    assert all(name in run("--help").output for name in COMMANDS)
    for name in COMMANDS:
        result = run(name, "--help")
        assert result.exit_code == 0, result.output


def test_a_misspelt_command_is_answered_with_the_one_meant(run):
    """Exit status 2, as for every misuse."""
    result = run("serv")
    assert result.exit_code == 2
    assert "Did you mean 'serve'?" in result.output


def test_check_shows_what_a_config_resolves_to(run, tmp_path):
    """Secrets masked, version first; the file of this folder is found by itself."""
    (tmp_path / "tollgate.yaml").write_text("admin: {token: very-secret}\nbudgets: [{scope: global, limit_usd: 2.5}]\n")
    result = run("check")
    assert result.exit_code == 0
    assert "valid, version" in result.output
    assert "limit_usd: 2.5" in result.output
    assert "very-secret" not in result.output
    assert json.loads(run("check", "--json").output)["config"]["admin"]["token"] == "***"


def test_check_tells_every_problem_and_exits_with_2(run, tmp_path):
    """file:line: key: problem, a line each."""
    (tmp_path / "bad.yaml").write_text("front: {prot: 1}\nadmin: {port: -1}\n")
    result = run("check", "--config", "bad.yaml")
    assert result.exit_code == 2
    assert "bad.yaml:1: front.prot:" in result.output
    assert "bad.yaml:2: admin.port:" in result.output


def test_serve_refuses_a_bad_config_like_check(run, tmp_path):
    """Nothing is started."""
    (tmp_path / "bad.yaml").write_text("fron: 1\n")
    result = run("serve", "--config", "bad.yaml")
    assert result.exit_code == 2
    assert "did you mean front?" in result.output


def test_serve_says_in_a_sentence_why_it_cannot_start(run, tmp_path):
    """A store in a folder that is not there, a port that is taken: one line, exit status 1, no stack."""
    path = tmp_path / "t.yaml"
    path.write_text(f'store: {{url: "sqlite:///{tmp_path}/nowhere/books.db"}}\nadmin: {{port: 0}}\n')
    result = run("serve", "--config", str(path), "--port", "0")
    assert (result.exit_code, result.exception.__class__) == (1, SystemExit)
    assert (
        result.stderr
        == "tollgate: cannot start: The store cannot be opened: the folder does not exist or may not be used.\n"
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "--port", str(port), "--admin-port", "0")
    assert result.exit_code == 1
    assert "cannot start" in result.stderr
    assert str(port) in result.stderr


def test_price_shows_lines_source_and_book(run):
    """1000 input of which 400 cached, 200 output: 0.00009 + 0.00003 + 0.00012 dollars at gpt-4o-mini's rates."""
    result = run("price", "gpt-4o-mini", "--input", "1000", "--cached", "400", "--output", "200")
    assert result.exit_code == 0
    assert "gpt-4o-mini: $0.00024" in result.output
    assert "https://" in result.output
    explained = json.loads(run("price", "gpt-4o-mini", "--input", "1000", "--json").output)
    assert explained["cost_nanousd"] == 150_000


def test_price_of_an_unknown_model_is_an_error_with_near_names(run):
    """Never a zero."""
    result = run("price", "gpt-4o-minni", "--input", "1")
    assert result.exit_code == 1
    assert "gpt-4o-mini" in result.output
    assert run("price", "gpt-4o", "--input", "1", "--cached", "2").exit_code == 2
