"""Completion in real shells: what comes when TAB is pressed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import COMMANDS, main
from gateway.cli.completion import SHELLS
from tests.harness.terminals import ROOT, seen


@pytest.fixture
def program(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``tollgate`` is a command, as after an installation."""
    path = tmp_path / "bin" / "tollgate"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m gateway "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "tollgate.yaml").write_text("spend: {by: [team, user, model]}\n")
    return {"PATH": f"{path.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}


LINES = [
    ("tollgate re", {"report", "reconcile"}),
    ("tollgate report --peri", {"--period"}),
    ("tollgate report --period ", {"day", "week", "month"}),
    ("tollgate report --by ", {"team", "user", "model"}),
    ("tollgate report --by team,", {"team,user", "team,model"}),
    ("tollgate report --by team,u", {"team,user"}),
    ("tollgate price gpt-4o-mini-r", {"gpt-4o-mini-realtime-preview"}),
    ("tollgate completion ", set(SHELLS)),
    ("tollgate keys c", {"create"}),
]
BASH = """
eval "$(tollgate completion bash)"
line=$1; read -ra COMP_WORDS <<< "$line"; case "$line" in *' ') COMP_WORDS+=('');; esac
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
declare -F _tollgate_completion > /dev/null && _tollgate_completion tollgate
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_bash(program: dict[str, str], tmp_path: Path, line: str, expected: set[str]) -> None:
    """The function that the script defines, called as bash calls it."""
    result = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", line],
        cwd=tmp_path, env=program, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert expected <= set(result.stdout.split()), result.stderr
    assert all(each.startswith(line.rpartition(" ")[2]) for each in result.stdout.split())


@pytest.mark.parametrize(("line", "expected"), LINES)
@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish(program: dict[str, str], tmp_path: Path, line: str, expected: set[str]) -> None:
    """fish itself says what it would offer."""
    script = f"tollgate completion fish | source; complete -C '{line}'"
    result = subprocess.run(
        ["fish", "--no-config", "-c", script], cwd=tmp_path, env=program, capture_output=True, text=True, timeout=60, check=True
    )  # fmt: skip
    assert expected <= {each.split("\t")[0] for each in result.stdout.splitlines()}, result.stderr


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh(program: dict[str, str], tmp_path: Path) -> None:
    """A person at a prompt: TAB completes what there is only one of."""
    (tmp_path / ".zshrc").write_text(
        "PROMPT='ready> '; autoload -Uz compinit; compinit -u; eval \"$(tollgate completion zsh)\"\n"
    )
    sent = 0

    def type_in(terminal: int, text: str) -> None:
        nonlocal sent
        steps = [("ready> ", b"tollgate recon\t"), ("reconcile", b"--toler\t"), ("--tolerance", b"\x15exit\r")]
        if sent < len(steps) and steps[sent][0] in text:
            os.write(terminal, steps[sent][1])
            sent += 1

    _, text = seen([], tmp_path, 100, program | {"ZDOTDIR": str(tmp_path)}, ("zsh", "-i"), type_in)
    assert "reconcile" in text, text
    assert "--tolerance" in text, text


def test_what_cannot_be_asked_offers_nothing(program: dict[str, str], tmp_path: Path) -> None:
    """A config that is wrong, a store that is not there: no message in the middle of a line that somebody types."""
    (tmp_path / "tollgate.yaml").write_text("spend: {by: 1}\n")
    for line in ("tollgate report --by ", "tollgate calls "):
        result = subprocess.run(
            ["bash", "--norc", "-c", BASH, "bash", line],
            cwd=tmp_path, env=program, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert (result.stdout.strip(), result.stderr) == ("", "")


def test_a_shell_that_is_not_known_is_guessed() -> None:
    """And every command is offered."""
    result = CliRunner().invoke(main, ["completion", "fsh"])
    assert (result.exit_code, "Did you mean 'fish'?" in result.stderr) == (2, True)
    assert set(COMMANDS) >= {"completion", "calls", "status"}
