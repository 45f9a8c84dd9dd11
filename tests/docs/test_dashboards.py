"""The dashboards are what their program makes, are laid out to be read, and ask for nothing that is not there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.observe.names import COUNTERS, GAUGES, HISTOGRAMS
from tests.harness.dashboards import (
    FILES,
    NOT_YET_DECLARED,
    Query,
    annotations,
    labels_of,
    load,
    panels,
    queries,
    variables,
)

ROOT = Path(__file__).parents[2]
BOARDS = ("budgets", "internals", "latency", "overview", "providers")
OVERVIEW = {
    "Total requests", "Cost, 24 h", "Cache hit rate", "Error rate", "Requests per agent", "Cost per team", "Latency",
    "Tokens by model", "Cache performance", "Errors by provider", "Cost by model", "Active requests", "Success rate",
}  # fmt: skip
EVERY_BOARD = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
ASKED = [*queries(), *annotations()]
BALANCE = r"(?:deriv\()?llm_budget_(?:limit|spent|held)_usd"
OF_TARGETS = {"job", "instance"}


def test_the_boards_are_there() -> None:
    """An empty folder would make every other test pass for nothing."""
    assert tuple(path.stem for path in FILES) == BOARDS
    assert len(ASKED) > 70


def test_the_files_are_what_their_program_writes() -> None:
    """Nobody has changed one by hand, or the program without running it."""
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk is not installed")
    command = [sys.executable, str(ROOT / "dashboards" / "make.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.real
def test_the_files_fit_grafanas_own_types() -> None:
    """As the TypeScript compiler sees them; without npm, or without its registry, this is skipped."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    done = subprocess.run(
        [ROOT / "scripts" / "check_dashboards"], capture_output=True, text=True, check=False, timeout=110
    )
    if done.stdout.startswith("skipped"):
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_overview_has_its_thirteen_panels() -> None:
    """Those that a newcomer looks for first."""
    assert {panel["title"] for panel in panels(load(ROOT / "config/grafana/dashboards/overview.json"))} == OVERVIEW


@EVERY_BOARD
def test_every_panel_says_what_it_shows_and_in_what(path: Path) -> None:
    """A title of its own, a sentence with advice, a unit, colours, a source that is a variable."""
    titles = [panel["title"] for panel in panels(load(path))]
    assert len(set(titles)) == len(titles)
    for panel in panels(load(path)):
        defaults = panel["fieldConfig"]["defaults"]
        assert re.fullmatch(r"[A-Z].{40,170}\.", panel["description"]), panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["thresholds"]["steps"], panel["title"]
        assert panel["targets"], panel["title"]
        for target in (panel, *panel["targets"]):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]


@EVERY_BOARD
def test_the_guide_says_what_a_dashboard_answers(path: Path) -> None:
    """By the title that Grafana shows."""
    assert f"| {load(path)['title']} |" in (ROOT / "docs" / "grafana.md").read_text()


@EVERY_BOARD
def test_nothing_lies_over_anything_else(path: Path) -> None:
    """A number for each, within 24 columns, rows filled to the edge."""
    board = load(path)
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) is panel["title"], (panel["title"], taken[x, y])
    depth = max(y for _, y in taken) + 1
    assert set(taken) == {(x, y) for x in range(24) for y in range(depth)}


@EVERY_BOARD
def test_nothing_is_tied_to_one_grafana(path: Path) -> None:
    """No address and no data source of anybody's: the first variable chooses it."""
    board = load(path)
    assert board["uid"] == f"tollgate-{path.stem}"
    first = board["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    assert set(re.findall(r'"uid": "([^"]*)"', path.read_text())) == {"${datasource}", board["uid"]}
    assert "http" not in path.read_text()


@EVERY_BOARD
def test_every_variable_is_used_and_every_used_one_is_there(path: Path) -> None:
    """A choice that changes nothing misleads; a name without a variable matches nothing."""
    board = load(path)
    chosen = {variable["name"] for variable in board["templating"]["list"]}
    text = " ".join(_texts(board["panels"]) + [str(each["query"]) for each in board["templating"]["list"]])
    used = {name for name in re.findall(r"\$\{?(\w+)", text) if not name.startswith("__")}
    assert used == chosen
    for variable in board["templating"]["list"][1:]:
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".*"), variable["name"]


@pytest.mark.parametrize("query", ASKED, ids=lambda query: query.where)
def test_a_query_asks_for_what_is_declared(query: Query) -> None:
    """Every metric is declared, and has every label that is chosen or grouped by."""
    assert query.metrics
    known = {"le", *OF_TARGETS}
    for metric in query.metrics:
        labels = labels_of(metric)
        assert labels is not None, metric
        known |= labels
    for metric, label in query.labels:
        assert label in (labels_of(metric) or set()) | OF_TARGETS, f"{metric} has no {label}"
    assert query.groups <= known


@pytest.mark.parametrize("query", ASKED, ids=lambda query: query.where)
def test_a_query_is_right_for_any_scrape_interval_and_any_number_of_replicas(query: Query) -> None:
    """``rate`` looks as far as Grafana knows to be enough; nothing shows one replica's figure as if it were all."""
    assert all(
        window in ("$__rate_interval", "1h") for window in re.findall(r"(?:rate|deriv)\([^][]*\[([^]]*)\]", query.expr)
    )
    assert not re.search(r"\birate\(", query.expr)
    assert re.search(r"\b(?:sum|min|max|count)(?: by \([^)]*\)|\()", query.expr)
    balances = re.findall(BALANCE, query.expr)
    assert balances == re.findall(rf"(?<=max by \(budget, scope, window\) \(){BALANCE}", query.expr)


def test_variables_and_marks_are_there() -> None:
    """Team, agent, provider and model can be chosen where calls are shown; deployments and budgets are marked everywhere."""
    names = {where for where, _, _ in variables()}
    for board in set(BOARDS) - {"internals"}:
        assert {f"{board}: {name}" for name in ("team", "agent", "provider", "model")} <= names
    for path in FILES:
        marks = {mark["name"] for mark in load(path)["annotations"]["list"]}
        assert {"Deployments", "Config changes", "Budget notices", "Annotations", "Alerts"} == marks


def test_latency_leads_to_traces() -> None:
    """Quantiles and heatmaps of whole calls show exemplars."""
    board = load(ROOT / "config/grafana/dashboards/latency.json")
    shown = {panel["title"] for panel in panels(board) if any(each.get("exemplar") for each in panel["targets"])}
    assert {"Whole duration", "Time to first token", "Durations", "First tokens", "Overhead"} <= shown


def test_what_is_declared_by_now_is_not_called_missing() -> None:
    """The list of metrics that others are building empties itself."""
    assert not set(NOT_YET_DECLARED) & {*COUNTERS, *GAUGES, *HISTOGRAMS}


def _texts(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for child in node.values() for text in _texts(child)]
    if isinstance(node, list):
        return [text for child in node for text in _texts(child)]
    return [node] if isinstance(node, str) else []
