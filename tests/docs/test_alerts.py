"""Alerts that somebody is woken by: each has a section that says what to do, cases that show it, and metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.observe.names import COUNTERS, GAUGES, HISTOGRAMS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "config" / "prometheus"
TEXT = (ROOT / "docs" / "alerts.md").read_text()
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
CASES: list[dict[str, Any]] = [
    case
    for name in ("alerts_test.yml", "targets_test.yml")
    for test in yaml.safe_load((FOLDER / name).read_text())["tests"]
    for case in test["alert_rule_test"]
]
each_alert = pytest.mark.parametrize("name", ALERTS)
SECTION = ("means", "look at", "do")


def sections() -> dict[str, str]:
    """The text below each heading of the third level."""
    found = re.split(r"^### (.+)$", TEXT, flags=re.MULTILINE)
    return {heading: body.split("\n## ")[0] for heading, body in zip(found[1::2], found[2::2], strict=True)}


def test_there_are_alerts() -> None:
    """An empty list would make the others pass for nothing."""
    assert len(ALERTS) >= 20


@each_alert
def test_an_alert_says_what_to_do_about_it(name: str) -> None:
    """Its runbook is a section that is there: what it means, what to look at, what to do."""
    rule = ALERTS[name]
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{name.lower()}"
    for part in SECTION:
        assert f"**{part}**" in sections()[name].lower(), part


def test_no_section_is_about_an_alert_that_is_not_there() -> None:
    """A runbook for nothing."""
    assert {heading for heading in sections() if heading.startswith("Tollgate")} == set(ALERTS)


@each_alert
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    """What ``promtool test rules`` runs."""
    of_it = [bool(case["exp_alerts"]) for case in CASES if case["alertname"] == name]
    assert True in of_it
    assert False in of_it


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_speaks_of_metrics_that_are_there(rule: dict[str, Any]) -> None:
    """A misspelt name is silence, which nobody notices."""
    named = set(re.findall(r"(?<![:\w])(?:llm|tollgate)_\w+", rule["expr"]))
    histograms = {f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")}
    assert named <= {*COUNTERS, *GAUGES, *histograms}


def test_a_recorded_name_is_recorded() -> None:
    """And each is used."""
    used = {name for rule in ALERTS.values() for name in re.findall(r"\w+:\w+:\w+", rule["expr"])}
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    inner = {name for rule in RULES if "record" in rule for name in re.findall(r"\w+:\w+:\w+", rule["expr"])}
    assert used | inner == recorded


def test_alertmanager_speaks_of_alerts_that_are_there() -> None:
    """In what it routes and in what it keeps quiet."""
    text = (ROOT / "config" / "alertmanager" / "alertmanager.yml").read_text()
    for name in re.findall(r"alertname (?:!?=) (Tollgate\w+)", text):
        assert name in ALERTS
    for pattern in re.findall(r'alertname =~ "(Tollgate[^"]+)"', text):
        assert [name for name in ALERTS if re.fullmatch(pattern, name)], pattern
