"""What users rely on is written down: metrics, errors, header fields and commands, each where a user looks for it."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.admission.identity import FIELDS
from gateway.cli import COMMANDS, main
from gateway.errors import MEANINGS, Kind
from gateway.observe.metrics import Metrics
from gateway.observe.names import COUNTERS, GAUGES, HISTOGRAMS
from tests.harness.listener import listener

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide.md").read_text()
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", [*COUNTERS, *GAUGES, *HISTOGRAMS])
def test_every_metric_is_in_the_guide(name: str) -> None:
    """And no metric is named without the prefix of its family."""
    assert f"`{name}`" in GUIDE
    assert name.startswith(("llm_", "tollgate_", "process_"))


def test_the_guide_names_no_metric_that_is_not_there() -> None:
    """A dashboard built from the guide has no empty panel."""
    assert set(re.findall(r"`((?:llm|tollgate|process)_\w+)`", GUIDE)) == {*COUNTERS, *GAUGES, *HISTOGRAMS}


def test_what_is_exposed_is_what_is_declared() -> None:
    """Families as Prometheus' own parser reads them."""
    metrics = Metrics(("team", "agent", "call_type"), 10)
    metrics.watch(lambda: {name: {tuple("x" for _ in labels): 1.0} for name, (_, labels) in GAUGES.items()})
    found = {family.name for family in text_string_to_metric_families(metrics.render().decode())}
    assert found == {name.removesuffix("_total") for name in (*COUNTERS, *GAUGES, *HISTOGRAMS)}


@pytest.mark.parametrize("kind", list(Kind))
def test_every_error_of_ours_is_in_the_guide_with_its_status_and_advice(kind: Kind) -> None:
    """One row each: status, code, when, whether to try again."""
    meaning = MEANINGS[kind]
    row = next(line for line in GUIDE.splitlines() if f"| `{meaning.code}` |" in line)
    assert row.startswith(f"| {meaning.status} |")
    assert row.endswith("| yes |" if meaning.retry else "| no |")


@pytest.mark.parametrize("field", sorted(name.decode() for name in FIELDS))
def test_every_request_header_is_in_the_guide(field: str) -> None:
    """Those that say who spends, and those that tie calls together."""
    assert f"`{field}`" in GUIDE


def test_every_path_of_the_admin_listener_is_in_the_guide() -> None:
    """Without a list of them nobody finds them."""
    server = listener()
    for route in server.api:
        assert f"`{route.path}`" in GUIDE, route.path


def test_every_path_of_the_admin_listener_has_an_example() -> None:
    """A heading and a curl below it, for each path; no parameter that there is not, and none left out."""
    sections = re.split(r"^### ", (ROOT / "docs" / "admin.md").read_text(), flags=re.MULTILINE)[1:]
    server = listener()
    for route in server.api:
        section = next((each for each in sections if f"`{route.path}`" in each.splitlines()[0]), "")
        before_variable = route.path.partition("{")[0]
        assert re.search(rf"curl [^\n]*{re.escape(before_variable)}", section), route.path
        for parameter in route.query:
            assert parameter.name in section, (route.path, parameter.name)


def test_every_command_is_named_somewhere_a_newcomer_reads() -> None:
    """README or guide."""
    for name in COMMANDS:
        assert f"tollgate {name}" in README + GUIDE, name


def test_every_option_of_a_command_says_what_it_does() -> None:
    """``--help`` is the manual."""
    options = 0
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                options += 1
                assert parameter.help, f"{name} {parameter.name}"
    assert options >= 10
