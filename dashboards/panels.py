"""Kinds of panels: how a number, a curve, bars, a table and a heatmap look here. A panel has a sentence, a unit and a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models import heatmap as h
from grafana_foundation_sdk.models import prometheus as q

PROMETHEUS = d.DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, WARN, BAD, PLAIN = "green", "orange", "red", "blue"
DOLLARS, SECONDS, SHARE, COUNT, CALLS_PER_SECOND = "currencyUSD", "s", "percentunit", "short", "reqps"
TOKENS_PER_SECOND = "suffix: tok/s"
Steps = Sequence[tuple[float, str]]
"""From which value on which colour; below the first, green."""

P = TypeVar("P", stat.Panel, table.Panel, timeseries.Panel, bargauge.Panel, heatmap.Panel)


@dataclass(frozen=True, slots=True)
class Ask:
    """A query and what its series are called."""

    expr: str
    legend: str = "__auto"
    exemplars: bool = False


def number(title: str, says: str, expr: str, unit: str, steps: Steps = (), colour: str = GOOD) -> stat.Panel:
    """One figure of the whole time that is looked at."""
    panel = stat.Panel().graph_mode(c.BigValueGraphMode.NONE).color_mode(c.BigValueColorMode.VALUE)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return _of(panel, title, says, unit, steps, colour).with_target(_target(0, Ask(expr), instant=True))


def states(title: str, says: str, asks: Ask, words: tuple[str, str], unit: str = COUNT) -> stat.Panel:
    """One light for each series: ``words`` for 0 and for 1."""
    panel = stat.Panel().graph_mode(c.BigValueGraphMode.NONE).color_mode(c.BigValueColorMode.BACKGROUND)
    panel = panel.text_mode(c.BigValueTextMode.VALUE_AND_NAME)
    options = {
        str(value): d.ValueMappingResult(text=word, color=colour, index=value)
        for value, word, colour in ((0, words[0], BAD), (1, words[1], GOOD))
    }
    panel = panel.mappings([d.ValueMap(options=options)])
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return _of(panel, title, says, unit, [(1, GOOD)], BAD).with_target(_target(0, asks, instant=True))


def curves(
    title: str, says: str, asks: Sequence[Ask], unit: str, steps: Steps = (), *, stacked: bool = False
) -> timeseries.Panel:
    """Lines over time; ``stacked`` ones add up."""
    panel = timeseries.Panel().line_width(1).show_points(c.VisibilityMode.NEVER).axis_soft_min(0)
    panel = panel.fill_opacity(40 if stacked else 8)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL).group("A"))
    if steps:
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED))
    return _drawn(panel, title, says, asks, unit, steps)


def happenings(title: str, says: str, asks: Sequence[Ask], unit: str = COUNT) -> timeseries.Panel:
    """Bars over time: what is rare and should not be missed."""
    panel = timeseries.Panel().draw_style(c.GraphDrawStyle.BARS).fill_opacity(80).axis_soft_min(0)
    panel = panel.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL).group("A"))
    return _drawn(panel, title, says, asks, unit, ())


def bars(
    title: str, says: str, asks: Sequence[Ask], unit: str, steps: Steps = (), colour: str = PLAIN
) -> bargauge.Panel:
    """One bar for each series, of the whole time that is looked at."""
    panel = bargauge.Panel().orientation(c.VizOrientation.HORIZONTAL).display_mode(c.BarGaugeDisplayMode.BASIC)
    panel = panel.min(0).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel = _of(panel, title, says, unit, steps, colour)
    for index, ask in enumerate(asks):
        panel = panel.with_target(_target(index, ask, instant=True))
    return panel


def rows(title: str, says: str, columns: Sequence[tuple[str, str, str]], unit: str) -> table.Panel:
    """A table: its columns by name, query and unit, joined by the labels that they share."""
    panel = _of(table.Panel().show_header(True), title, says, unit, [(0.8, WARN), (1, BAD)], "text")
    names: dict[str, object] = {}
    for index, (name, expr, of_column) in enumerate(columns):
        panel = panel.with_target(_target(index, Ask(expr), instant=True).format(q.PromQueryFormat.TABLE))
        names[f"Value #{_letter(index)}" if len(columns) > 1 else "Value"] = name
        look = [d.DynamicConfigValue(id_val="unit", value=of_column)]
        if of_column == SHARE:
            look.append(d.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
        panel = panel.override_by_name(name, look)
    panel = panel.with_transformation(d.DataTransformerConfig(id_val="merge", options={}))
    shown = {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": names}
    return panel.with_transformation(d.DataTransformerConfig(id_val="organize", options=shown))


def spread(title: str, says: str, histogram: str, selector: str, unit: str) -> heatmap.Panel:
    """A histogram over time, with a dot for each call whose trace is known."""
    source = f"{histogram}_bucket{{{selector}}}" if selector else f"{histogram}_bucket"
    colours = heatmap.HeatmapColorOptions().mode(h.HeatmapColorMode.SCHEME).scheme("Blues").steps(64)
    panel = heatmap.Panel().calculate(calculate=False).color(colours).exemplars_color("orange").show_legend()
    panel = (
        panel.y_axis(heatmap.YAxisConfig().unit(unit)).cell_gap(1).filter_values(heatmap.FilterValueRange().le(1e-9))
    )
    target = _target(0, Ask(f"sum by (le) (increase({source}[$__rate_interval]))", "{{le}}", exemplars=True))
    return _of(panel, title, says, unit, (), GOOD).with_target(target.format(q.PromQueryFormat.HEATMAP))


def _drawn(
    panel: timeseries.Panel, title: str, says: str, asks: Sequence[Ask], unit: str, steps: Steps
) -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(show_legend=True).placement(c.LegendPlacement.BOTTOM)
    legend = legend.display_mode(c.LegendDisplayMode.TABLE).calcs(["lastNotNull", "max"])
    panel = panel.legend(legend).tooltip(
        common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING)
    )
    panel = panel.color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel = _of(panel, title, says, unit, steps, GOOD)
    for index, ask in enumerate(asks):
        panel = panel.with_target(_target(index, ask))
    return panel


def _of(panel: P, title: str, says: str, unit: str, steps: Steps, lowest: str) -> P:
    """What every panel has. A threshold without a value is the lowest."""
    colours = [d.Threshold(value=None, color=lowest), *(d.Threshold(value=value, color=name) for value, name in steps)]
    limits = dashboard.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(colours)
    return panel.title(title).description(says).unit(unit).datasource(PROMETHEUS).thresholds(limits)


def _target(index: int, ask: Ask, *, instant: bool = False) -> prometheus.Dataquery:
    query = (
        prometheus.Dataquery().ref_id(_letter(index)).datasource(PROMETHEUS).expr(ask.expr).legend_format(ask.legend)
    )
    query = query.exemplar(ask.exemplars).editor_mode(q.QueryEditorMode.CODE)
    return query.instant() if instant else query.range()


def _letter(index: int) -> str:
    return "ABCDEFGHIJ"[index]
