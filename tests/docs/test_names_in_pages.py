"""Names of ours that a page writes in backticks or in a block are names: config keys, commands, options, fields, metrics."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

import click
import pytest

from gateway.cli import main
from gateway.observe.names import COUNTERS, GAUGES, HISTOGRAMS
from gateway.settings import Settings
from tests.harness.gateways import ROOT
from tests.harness.pages import pages

PAGES = [page for page in pages() if "/decisions/" not in page]
CODE = re.compile(r"`([^`\n]+)`")
SOURCE = "\n".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
METRICS = {*COUNTERS, *GAUGES, *(name + part for name in HISTOGRAMS for part in ("", "_bucket", "_sum", "_count"))}
BLOCKS = "|".join(Settings.__dataclass_fields__)
KEY = re.compile(rf"(?:{BLOCKS})(?:\.(?!ya?ml\b|md\b)[a-z_]+|\.NAME|\[\])+")


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def is_key(path: str) -> bool:
    """Whether a dotted path leads through the settings: NAME and [] stand for an entry of a mapping or list."""
    kind: Any = Settings
    for part in path.replace("[]", ".[]").split("."):
        if is_dataclass(kind) and isinstance(kind, type):
            hints = get_type_hints(kind)
            name = part.removesuffix("_file") if part not in hints else part
            if name not in hints:
                return False
            kind = hints[name]
        elif part in {"NAME", "[]"} and get_args(kind):
            kind = [each for each in get_args(kind) if each is not Ellipsis][-1]
        else:
            return False
    return True


def wrong_options(line: str) -> list[str]:
    """What of a command line ``tollgate`` does not have."""
    words = line.partition("#")[0].split()
    words = words[[word.endswith("tollgate") for word in words].index(True) + 1 :]
    command: click.Command = main
    wrong = []
    for word in words:
        if word in {"|", "&", "&&", ">", ">>"}:
            break
        if word in {"[OPTIONS]", "COMMAND", "[ARGS]..."}:  # a synopsis, as click writes it
            continue
        if isinstance(command, click.Group) and not word.startswith("-"):
            found = command.get_command(click.Context(command), word)
            if found is None:
                return [word]
            command = found
        elif word.startswith("--"):
            known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
            wrong += [word] if word.partition("=")[0] not in known else []
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_every_config_key_in_backticks_is_one(page: str) -> None:
    """``store.on_outage`` is one, ``store.on_outages`` is none."""
    found = {each for code in CODE.findall(text_of(page)) for each in [KEY.match(code)] if each}
    assert {each[0] for each in found if not is_key(each[0])} == set()


def test_a_key_that_is_none_is_found() -> None:
    """Through blocks, mappings and lists."""
    good = [
        "store.on_outage",
        "upstreams.NAME.models",
        "alerts.webhooks[].on",
        "observability.metrics.otlp.enabled",
        "admin.token_file",
    ]
    assert [is_key(path) for path in good] == [True] * 5
    bad = [
        "store.on_outages",
        "upstreams.NAME.model",
        "alerts.webhook",
        "observability.metrics.enabled",
        "targets.name",
    ]
    assert [is_key(path) for path in bad] == [False] * 5


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one(page: str) -> None:
    """With its options; in backticks and in blocks alike."""
    lines = [code for code in CODE.findall(text_of(page)) if re.match(r"(?:\.venv/bin/)?tollgate [a-z]", code)]
    lines += re.findall(r"^(?:\.venv/bin/)?tollgate [^\n]*", text_of(page), re.MULTILINE)
    assert {line: wrong_options(line) for line in lines if wrong_options(line)} == {}


def test_a_command_that_is_none_is_found() -> None:
    """Nor an option of another one."""
    assert wrong_options("tollgate serv") == ["serv"]
    assert wrong_options("tollgate keys creates --name x") == ["creates"]
    assert wrong_options("tollgate report --until 2026-01-01 --of x | less --nothing") == ["--of"]


@pytest.mark.parametrize("page", PAGES)
def test_every_metric_and_field_is_one(page: str) -> None:
    """Whatever begins like ours."""
    text = text_of(page)
    metrics = set(re.findall(r"\b(?:llm|tollgate)_[a-z_]*[a-z]\b(?![*_.-])", text)) - METRICS
    assert {name for name in metrics if not any(metric.startswith(f"{name}_") for metric in METRICS)} == set()
    fields = {name.rstrip("-") for name in re.findall(r"x-tollgate-[a-z-]+", text)}
    assert {name for name in fields if name not in SOURCE} == set()
