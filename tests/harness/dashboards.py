"""The committed dashboards, read: their panels, and every query that Grafana would send for them.

Must not know how dashboards are made: only the JSON that Grafana reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.observe.names import COUNTERS, GAUGES, HISTOGRAMS

FOLDER = Path(__file__).resolve().parents[2] / "config" / "grafana" / "dashboards"
FILES = sorted(FOLDER.glob("*.json"))

NOT_YET_DECLARED: dict[str, tuple[str, ...]] = {}
"""Metrics of dashboards that ``observe/names`` does not declare yet. A test is red while one stands here that is declared."""
OF_A_CALLER = ("team", "agent", "call_type")
OF_PROMETHEUS = {"up": (), "ALERTS": ("alertname", "alertstate", "severity")}
_NAME = re.compile(r"\b(?:(?:llm|tollgate|process)_[a-z_]+|up|ALERTS)\b")
_SELECTED = re.compile(r"\b([a-zA-Z_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*[=!]~?\s*"[^"]*"')
_BY = re.compile(r"\b(?:by|on) \(([^)]*)\)")


@dataclass(frozen=True, slots=True)
class Query:
    """``where``: file, panel and number of the query; ``expr`` with Grafana's macros in it."""

    where: str
    expr: str
    instant: bool = False

    @property
    def metrics(self) -> set[str]:
        """Names of metrics in it, as ``observe/names`` would write them."""
        bare = re.sub(r'"[^"]*"', "", _BY.sub("", self.expr))
        return {_declared(name) for name in _NAME.findall(bare)}

    @property
    def labels(self) -> set[tuple[str, str]]:
        """Metric and label, for each label that a selector names."""
        return {
            (_declared(metric), label)
            for metric, matchers in _SELECTED.findall(self.expr)
            for label in _MATCHER.findall(matchers)
        }

    @property
    def groups(self) -> set[str]:
        """Labels that it groups by or joins on."""
        return {label.strip() for labels in _BY.findall(self.expr) for label in labels.split(",") if label.strip()}

    def filled(self, values: Mapping[str, str]) -> str:
        """With every macro replaced; a variable that ``values`` does not name takes all."""
        text = self.expr
        for name in sorted(values, key=len, reverse=True):
            text = text.replace(f"${name}", values[name])
        return re.sub(r"\$[a-z_]+", ".*", text)


def load(path: Path) -> dict[str, Any]:
    """A dashboard."""
    board: dict[str, Any] = json.loads(path.read_text())
    return board


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Its panels, without the headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    """Every query of every panel."""
    for path in FILES:
        for panel in panels(load(path)):
            for target in panel["targets"]:
                where = f"{path.stem}: {panel['title']}: {target['refId']}"
                yield Query(where, target["expr"], target.get("instant", False))


def annotations() -> Iterator[Query]:
    """Every query of an annotation, once."""
    found = {mark["name"]: mark["target"]["expr"] for path in FILES for mark in load(path)["annotations"]["list"]}
    for name, expr in found.items():
        yield Query(name, expr)


def variables() -> Iterator[tuple[str, str, str]]:
    """Every variable that asks for label values: where, what series, which label."""
    for path in FILES:
        for variable in load(path)["templating"]["list"]:
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
                yield f"{path.stem}: {variable['name']}", series, label


def labels_of(metric: str) -> set[str] | None:
    """The labels that a metric has, besides those of its target; None for one that nobody declares."""
    tables = {name: labels for name, (_, labels) in {**COUNTERS, **GAUGES}.items()}
    tables |= {name: (*labels, "le") for name, (_, labels, _) in HISTOGRAMS.items()}
    tables |= NOT_YET_DECLARED | OF_PROMETHEUS
    if metric not in tables:
        return None
    return {each for label in tables[metric] for each in (OF_A_CALLER if label == "caller" else (label,))}


def _declared(name: str) -> str:
    """The family of a series: a histogram's parts are declared as one."""
    for part in ("_bucket", "_sum", "_count"):
        family = name.removesuffix(part)
        if family != name and (family in HISTOGRAMS or family in NOT_YET_DECLARED):
            return family
    return name
