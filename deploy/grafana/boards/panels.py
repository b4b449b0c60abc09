"""What the dashboards share: their variables, their selectors, and panels that look alike.

Rules of Grafana's dashboard-linter hold by construction: every panel asks ``$datasource``, every
selector matches ``$job`` and ``$instance``, and every panel has a unit and a description. A rate is
over ``$__rate_interval``, an increase over that or the range shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, final

from grafana_foundation_sdk.builders import (
    bargauge,
    common as make,
    dashboard as build,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common, dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Panel = TypeVar("Panel", timeseries.Panel, stat.Panel)
SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="$datasource")
SERVER: Final = 'job=~"$job", instance=~"$instance"'
MODEL: Final = SERVER + ', model=~"$model"'
BASELINE: Final = MODEL + ', baseline=~"$baseline"'
LIVE: Final = BASELINE + ', traffic="live"'
THIRD: Final = 8
HALF: Final = 12
SIXTH: Final = 4


@final
@dataclass(frozen=True)
class Query:
    """One expression, and what each of its series is called."""

    expr: str
    legend: str = "__auto"


def rate(series: str, where: str = MODEL) -> str:
    """Return the rate of a counter."""
    return f"rate({series}{{{where}}}[$__rate_interval])"


def gained(series: str, where: str = MODEL) -> str:
    """Return what a counter gained in the range shown."""
    return f"increase({series}{{{where}}}[$__range])"


def quantile(share: float, histogram: str, by: str, where: str = MODEL) -> Query:
    """Return a quantile of a histogram."""
    buckets = f"sum by (le, {by}) ({rate(histogram + '_bucket', where)})"
    return Query(f"histogram_quantile({share}, {buckets})", f"p{share * 100:g} {{{{{by}}}}}")


def board(uid: str, title: str, description: str) -> build.Dashboard:
    """Begin a dashboard with the variables that all have, and links to the others."""
    return (
        build.Dashboard(f"mad / {title}")
        .uid(f"mad-{uid}")
        .description(description)
        .tags(["mad"])
        .readonly()
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            build.DashboardLink("mad")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["mad"])
            .as_dropdown(False)  # the builder's own form
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(
            build.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(_chosen("job", "label_values(mad_build_info, job)"))
        .with_variable(_chosen("instance", 'label_values(mad_build_info{job=~"$job"}, instance)'))
        .with_variable(_chosen("model", f"label_values(mad_baseline_info{{{SERVER}}}, model)"))
        .with_variable(_chosen("baseline", f"label_values(mad_baseline_info{{{MODEL}}}, baseline)"))
    )


def row(title: str) -> build.Row:
    """Head the panels that follow."""
    return build.Row(title)


def lines(  # what a panel says
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    span: int = THIRD,
    stacked: bool = False,
    log: bool = False,
) -> timeseries.Panel:
    """Draw series over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(8)
        .fill_opacity(30 if stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            make.VizLegendOptions()
            .show_legend(True)  # the builder's own form
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
        )
        .tooltip(make.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel = panel.stacking(make.StackingConfig().mode(common.StackingMode.NORMAL))
    if log:
        scale = make.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        panel = panel.scale_distribution(scale)
    return _asking(panel, queries)


def number(title: str, description: str, query: Query, *, unit: str) -> stat.Panel:
    """Show the latest value large, with its course behind it."""
    panel = stat.Panel().title(title).description(description).datasource(SOURCE).unit(unit)
    panel = panel.span(SIXTH).height(4).color_mode(common.BigValueColorMode.NONE)
    return _asking(panel.thresholds(_plain()), [query])


def alarming(title: str, description: str, query: Query, *, unit: str, from_: float) -> stat.Panel:
    """Show a number that turns red from some value on."""
    steps = [model.Threshold(value=None, color="green"), model.Threshold(value=from_, color="red")]
    thresholds = build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
    panel = number(title, description, query, unit=unit)
    return panel.color_mode(common.BigValueColorMode.VALUE).thresholds(thresholds)


def heat(title: str, description: str, histogram: str, where: str, *, unit: str) -> heatmap.Panel:
    """Draw a histogram over time."""
    buckets = f"sum by (le) (increase({histogram}_bucket{{{where}}}[$__rate_interval]))"
    query = prometheus.Dataquery().expr(buckets).legend_format("{{le}}").datasource(SOURCE)
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(THIRD)
        .height(8)
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_label(histogram.removeprefix("mad_")))
        .color(heatmap.HeatmapColorOptions().scheme("Oranges").steps(64))
        .with_target(query.format(PromQueryFormat.HEATMAP).range().ref_id("A"))
    )


def bars(
    title: str, description: str, query: Query, *, unit: str, span: int = THIRD
) -> bargauge.Panel:
    """Show one bar a series, of the range shown."""
    asked = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).datasource(SOURCE)
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(8)
        .min(0)
        .orientation(common.VizOrientation.HORIZONTAL)
        .display_mode(common.BarGaugeDisplayMode.BASIC)
        .thresholds(_plain())
        .with_target(asked.format(PromQueryFormat.TIME_SERIES).instant().ref_id("A"))
    )


def listing(title: str, description: str, query: Query, *, span: int = HALF) -> table.Panel:
    """List the labels of series, a row each."""
    asked = prometheus.Dataquery().expr(query.expr).datasource(SOURCE)
    hidden = dict.fromkeys(("Time", "Value", "__name__"), True)
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("none")
        .span(span)
        .height(8)
        .with_transformation(
            model.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden})
        )
        .with_target(asked.format(PromQueryFormat.TABLE).instant().ref_id("A"))
    )


def _chosen(name: str, query: str) -> build.QueryVariable:
    return (
        build.QueryVariable(name)
        .label(name.title())
        .datasource(SOURCE)
        .query({"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
        .multi(True)  # the builder's own form
        .include_all(True)
        .all_value(".+")
        .current(model.VariableOption(text="All", value="$__all"))
    )


def _asking(panel: Panel, queries: Sequence[Query]) -> Panel:
    for place, query in enumerate(queries):
        asked = prometheus.Dataquery().expr(query.expr).legend_format(query.legend)
        panel = panel.with_target(asked.datasource(SOURCE).range().ref_id(chr(ord("A") + place)))
    return panel


def _plain() -> build.ThresholdsConfig:
    steps = [model.Threshold(value=None, color="blue")]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
