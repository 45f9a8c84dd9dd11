"""The command line: what each command prints, and its exit status."""

import json
import socket
import time

import pytest
from click.testing import CliRunner

from gateway.admission.keys import FORM, hash_of
from gateway.cli import COMMANDS, demonstration, main
from gateway.kinds import MOMENT, READERS
from gateway.loading import load
from gateway.settings import GatewayKey


def read_moment(text):
    """Unix seconds."""
    return READERS["moment"](MOMENT, text)


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
    assert "sample_rate: 1.0" in result.output
    assert "!!" not in result.output
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


def test_a_demo_on_a_machine_that_is_too_slow_says_so(run, monkeypatch):
    """A time-out is an OSError without words."""
    monkeypatch.setattr(demonstration, "WAIT_FOR_RECORD_S", 0.0)
    result = run("demo", "--once", "--port", "0", "--admin-port", "0")
    assert result.exit_code == 1
    assert "did not come into the books in time" in result.stderr


def test_serve_says_in_a_sentence_why_it_cannot_start(run, tmp_path):
    """A store in a folder that is not there, a port that is taken: one line, exit status 3 and 1, no stack."""
    path = tmp_path / "t.yaml"
    path.write_text(f'store: {{url: "sqlite:///{tmp_path}/nowhere/books.db"}}\nadmin: {{port: 0}}\n')
    result = run("serve", "--config", str(path), "--port", "0")
    assert (result.exit_code, result.exception.__class__) == (3, SystemExit)
    assert (
        result.stderr
        == "tollgate: error: cannot start: The store cannot be opened: the folder does not exist or may not be used.\n"
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "--port", str(port), "--admin-port", "0")
    assert result.exit_code == 1
    assert "cannot start" in result.stderr
    assert str(port) in result.stderr
    assert "tollgate serve --port 9080 --admin-port 9081" in result.stderr


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


# -- keys -----------------------------------------------------------------------------------------------------------------


def test_a_key_that_was_made_opens_what_its_line_in_the_config_says(run, tmp_path):
    """The line is the config's as it stands; the key is found by it, and it is not in it."""
    result = run(
        "keys", "create", "--name", "search: prod", "--team", "équipe", "--user", "no", "--models", "gpt-*, o4-mini",
        "--upstreams", "openai", "--cidr", "10.0.0.0/8,::1", "--expires", "2099-01-01", "--print-config-line",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    key, line = result.output.splitlines()[0], result.output.splitlines()[-1]
    assert FORM.fullmatch(key.encode())
    assert key not in line
    (tmp_path / "tollgate.yaml").write_text(f"keys:\n{line}\n")
    (entry,) = load(tmp_path / "tollgate.yaml", {}).keys
    assert entry == GatewayKey(
        "search: prod", hash_of(key), "équipe", "no", ("gpt-*", "o4-mini"), ("openai",), 4_070_908_800, ("10.0.0.0/8", "::1/128")
    )  # fmt: skip


def test_no_two_keys_are_the_same(run):
    """And --json has the parts for a script."""
    made = [json.loads(run("keys", "create", "--name", "a", "--print-config-line", "--json").output) for _ in range(20)]
    assert len({each["key"] for each in made}) == 20
    assert all(each["entry"] == {"name": "a", "hash": hash_of(each["key"])} for each in made)


@pytest.mark.parametrize("line", [(), ("--print-config-line",)])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--name", ""), "--name: must not be empty"),
        (("--name", "a", "--team", "x" * 129), "--team: must have at most 128"),
        (("--name", "a", "--expires", "2001-01-01"), "--expires: is over already"),
        (("--name", "a", "--expires", "soon"), "such as 2027-01-01"),
        (("--name", "a", "--expires", "90"), "or so long from now: 90d"),
        (("--name", "a", "--cidr", "10.0.0.1/8"), "--cidr[0]: has bits set"),
        ((), "--name"),
    ],
)
def test_a_key_that_could_not_be_is_not_made(run, options, said, line):
    """Exit status 2, the option named."""
    result = run("keys", "create", *options, *line)
    assert result.exit_code == 2
    assert said in result.output
    assert "tg-" not in result.output


def test_an_expiry_can_be_so_long_from_now(run):
    """To the second."""
    expires = json.loads(
        run("keys", "create", "--name", "a", "--expires", "90d", "--print-config-line", "--json").output
    )["entry"]["expires"]
    left_s = read_moment(expires) - time.time()
    assert 90 * 86400 - 60 < left_s <= 90 * 86400


def test_keys_are_listed_with_their_state(run, tmp_path):
    """A table for people, JSON for scripts; twelve digits of a hash and no more."""
    digits = "0123456789abcdef" * 4
    config = f"keys:\n  - {{name: one, hash: {digits}, team: search, models: ['gpt-*', o3]}}\n"
    config += f"  - {{name: two, hash: {digits[::-1]}, expires: 2020-01-01}}\n"
    (tmp_path / "tollgate.yaml").write_text(config)
    told = run("keys", "list").output
    assert "No call needs a key: auth.mode is passthrough" in told
    (tmp_path / "tollgate.yaml").write_text(config + "auth: {mode: keys}\n")
    lines = run("keys", "list").output.splitlines()
    assert lines[0].split() == [
        "name",
        "team",
        "user",
        "models",
        "upstreams",
        "cidr",
        "expires",
        "state",
        "source",
        "id",
        "hash",
    ]
    assert lines[1].split() == [
        "one",
        "search",
        "-",
        "gpt-*,o3",
        "-",
        "-",
        "-",
        "active",
        "config",
        f"c_{digits[:12]}",
        digits[:12],
    ]
    assert lines[2].split() == [
        "two",
        "-",
        "-",
        "-",
        "-",
        "-",
        "2020-01-01",
        "expired",
        "config",
        f"c_{digits[::-1][:12]}",
        digits[::-1][:12],
    ]
    found = json.loads(run("keys", "list", "--json").output)
    assert found["mode"] == "keys"
    assert [(each["name"], each["state"]) for each in found["keys"]] == [("one", "active"), ("two", "expired")]
    assert digits not in json.dumps(found)


def test_a_config_without_keys_says_how_to_make_one(run):
    """And other words for what can be done are answered with the right one."""
    assert "tollgate keys create" in run("keys", "list").output
    for word, meant in (("delete", "revoke"), ("add", "create"), ("replace", "rotate")):
        result = run("keys", word, "search")
        assert result.exit_code == 2
        assert f"tollgate keys {meant}" in result.output
