"""What all dashboards have in common: variables, annotations, links to each other, and panels laid out in rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as d

from panels import PROMETHEUS
from promql import events, first_seen

Panel = Any
Variable = tuple[str, str, str]
"""Name, the metric (with its selector) that has it as a label, and that label."""
Row = tuple[str, int, Sequence[tuple[int, Panel]]]
"""Heading, height, and panels each with its width; 24 is all of it."""

TEAM: Variable = ("team", "llm_requests_total", "team")
AGENT: Variable = ("agent", 'llm_requests_total{team=~"$team"}', "agent")
PROVIDER: Variable = ("provider", "llm_requests_total", "provider")
MODEL: Variable = ("model", 'llm_requests_total{provider=~"$provider"}', "model")
OF_CALLS = (TEAM, AGENT, PROVIDER, MODEL)

ANNOTATIONS = (
    ("Deployments", first_seen("tollgate_build_info"), "blue", "Gateway {{version}}", "a new version answers"),
    ("Config changes", first_seen("tollgate_config_version_info"), "purple", "Config {{version}}", "taken over"),
    (
        "Budget notices",
        events("llm_budget_notices_total", "budget, percent") + " > 0",
        "orange",
        "{{budget}}",
        "has come to {{percent}} % of its limit",
    ),
    (
        "Annotations",
        events("tollgate_annotations_total", "tag", over="max") + " > 0",
        "green",
        "{{tag}}",
        "an operator or a pipeline said so (tollgate annotate); its text: GET /api/v1/annotations",
    ),
    (
        "Alerts",
        'max by (alertname, severity) (ALERTS{alertname=~"Tollgate.*",alertstate="firing"})',
        "red",
        "{{alertname}}",
        "fires ({{severity}})",
    ),
)
"""Name, query, colour, and what the mark says."""


def framed(uid: str, title: str, says: str, variables: Sequence[Variable], rows: Sequence[Row]) -> str:
    """A dashboard as the text of its file."""
    board = dashboard.Dashboard(title).uid(f"tollgate-{uid}").description(says).tags(["tollgate"])
    board = board.time("now-6h", "now").refresh("30s").timezone("browser").tooltip(d.DashboardCursorSync.CROSSHAIR)
    others = dashboard.DashboardLink("Tollgate").type(d.DashboardLinkType.DASHBOARDS).tags(["tollgate"])
    board = board.link(others.as_dropdown(True).include_vars(True).keep_time(True))
    board = board.with_variable(dashboard.DatasourceVariable("datasource").label("data source").type("prometheus"))
    for variable in variables:
        board = board.with_variable(_choice(*variable))
    for name, _, colour, _, _ in ANNOTATIONS:
        mark = dashboard.AnnotationQuery().name(name).datasource(PROMETHEUS).enable(True)
        board = board.annotation(mark.icon_color(colour))
    _lay_out(board, rows)
    return _written(board.build())


def _choice(name: str, source: str, label: str) -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(name).query(f"label_values({source}, {label})").datasource(PROMETHEUS)
    variable = variable.multi(True).include_all(True).all_value(".*").sort(d.VariableSort.ALPHABETICAL_ASC)
    everything = d.VariableOption(selected=True, text=["All"], value=["$__all"])
    return variable.refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED).current(everything)


def _lay_out(board: dashboard.Dashboard, rows: Sequence[Row]) -> None:
    """Panels from left to right, rows from top to bottom; a number for each, in that order."""
    top, number = 0, 0
    for heading, height, panels in rows:
        number += 1
        board.with_row(dashboard.Row(heading).id(number).grid_pos(d.GridPos(x=0, y=top, w=24, h=1)))
        top, left = top + 1, 0
        for width, panel in panels:
            number += 1
            board.with_panel(panel.id(number).grid_pos(d.GridPos(x=left, y=top, w=width, h=height)))
            left += width
        top += height


def _written(board: d.Dashboard) -> str:
    """As JSON. The library knows no query of Prometheus in an annotation, and writes keys that only intervals have."""
    plain = json.loads(JSONEncoder().encode(board))
    for mark, (_, expr, _, title, text) in zip(plain["annotations"]["list"], ANNOTATIONS, strict=True):
        mark["target"] = {"refId": "Anno", "expr": expr, "interval": "", "legendFormat": ""}
        mark |= {"titleFormat": title, "textFormat": text}
    for variable in plain["templating"]["list"]:
        for name in ("auto", "auto_count", "auto_min"):
            variable.pop(name, None)
    return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
