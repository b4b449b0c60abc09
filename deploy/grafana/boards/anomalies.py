"""Anomalies: how much alerts, beside what was promised, and what is unusual about it."""

from grafana_foundation_sdk.builders import dashboard as build

from boards.panels import (
    BASELINE,
    LIVE,
    MODEL,
    Query,
    alarming,
    bars,
    board as begin,
    gained,
    heat,
    lines,
    number,
    rate,
    row,
)

_BY = "sum by (model, baseline)"
_ALERTS = f"{_BY} ({rate('mad_alerts_total', BASELINE)})"
_INPUTS = f"{_BY} ({rate('mad_inputs_scored_total', LIVE)})"
_PROMISED = f"max by (model, baseline) (mad_baseline_alpha_ratio{{{BASELINE}}})"
_NAMED = "{{model}} {{baseline}}"
_TAIL = f'{LIVE}, le="7.0"'


def board() -> build.Dashboard:
    """Return the dashboard."""
    return _shapes(_course(_numbers(begin("anomalies", "Anomalies", __doc__ or ""))))


def _numbers(board: build.Dashboard) -> build.Dashboard:
    return (
        board.with_panel(
            number(
                "Inputs scored",
                "Live inputs scored a second, over all servers chosen.",
                Query(f"sum({rate('mad_inputs_scored_total', LIVE)})", "inputs"),
                unit="cps",
            )
        )
        .with_panel(
            number(
                "Alerts",
                "Alerts written to the alert log in the range shown.",
                Query(f"sum({gained('mad_alerts_total', BASELINE)})", "alerts"),
                unit="short",
            )
        )
        .with_panel(
            alarming(
                "Alarms against promise",
                "Share of live inputs that alert over the nominal false-alarm rate, in the range "
                "shown, of the worst baseline. About 1 is as promised; a page comes at 14.4.",
                Query(
                    f"max({_BY} ({gained('mad_alerts_total', BASELINE)})"
                    f" / ({_BY} ({gained('mad_inputs_scored_total', LIVE)}) > 0) / {_PROMISED})",
                    "times",
                ),
                unit="none",
                from_=14.4,
            )
        )
        .with_panel(
            number(
                "Open incidents",
                "Incidents that a like alert would join. Servers of one alert log each count all.",
                Query(f"max by (model) (mad_incidents_open{{{MODEL}}})", "{{model}}"),
                unit="short",
            )
        )
        .with_panel(
            alarming(
                "Unscored inputs",
                "Inputs answered without a score in the range shown: an anomaly among them raises "
                "no alert. It should be 0.",
                Query(f"sum({gained('mad_unscored_inputs_total')})", "inputs"),
                unit="short",
                from_=1,
            )
        )
        .with_panel(
            alarming(
                "Callers who may be probing",
                "Suspicions raised in the range shown; the log names the caller.",
                Query(f"sum({gained('mad_probe_suspicions_total')})", "suspicions"),
                unit="short",
                from_=1,
            )
        )
    )


def _course(board: build.Dashboard) -> build.Dashboard:
    return (
        board.with_row(row("Alerts beside what was promised"))
        .with_panel(
            lines(
                "Alerts",
                "Alerts written to the alert log, a second.",
                Query(_ALERTS, _NAMED),
                unit="cps",
            )
        )
        .with_panel(
            lines(
                "Share of live inputs that alert",
                "Beside the nominal false-alarm rate: traffic like the trusted data stays near it.",
                Query(f"{_ALERTS} / ({_INPUTS} > 0)", f"{_NAMED} observed"),
                Query(_PROMISED, f"{_NAMED} promised"),
                unit="percentunit",
            )
        )
        .with_panel(
            lines(
                "Burn",
                "How many times the promised rate alerts come at. 14.4 for an hour is a page.",
                Query(f"{_ALERTS} / ({_INPUTS} > 0) / {_PROMISED}", _NAMED),
                unit="none",
            )
        )
        .with_panel(
            lines(
                "Novelty and mechanism above 7 bits",
                "Share of live inputs rarer than one trusted input in 128, by what is unusual: how "
                "components were used, or how unlike anything trusted the activity is. The promise "
                "is 0.8 %. Novelty alone is a shift, or a mechanism that no component stands for.",
                Query(_above("novelty"), "novelty {{baseline}}"),
                Query(_above("mechanism"), "mechanism {{baseline}}"),
                unit="percentunit",
            )
        )
        .with_panel(
            lines(
                "Open incidents",
                "Alerts that share a mechanism are one incident.",
                Query(f"max by (model) (mad_incidents_open{{{MODEL}}})", "{{model}}"),
                unit="short",
            )
        )
        .with_panel(
            bars(
                "What people found",
                "Alerts acknowledged in the range shown, by what they were found to be.",
                Query(
                    f"sum by (disposition) ({gained('mad_alerts_acknowledged_total')})",
                    "{{disposition}}",
                ),
                unit="short",
            )
        )
    )


def _shapes(board: build.Dashboard) -> build.Dashboard:
    return (
        board.with_row(row("How rare live inputs are"))
        .with_panel(
            heat(
                "Surprise",
                "Rarity in bits: half of all trusted inputs are below 1, one in 1,024 is above 10.",
                "mad_surprise_shannons",
                LIVE,
                unit="short",
            )
        )
        .with_panel(
            heat(
                "Mechanism",
                "Rarity, in bits, of how components were used.",
                "mad_mechanism_shannons",
                LIVE,
                unit="short",
            )
        )
        .with_panel(
            heat(
                "Novelty",
                "Rarity, in bits, of how unlike anything trusted the activity is.",
                "mad_novelty_shannons",
                LIVE,
                unit="short",
            )
        )
        .with_panel(
            heat(
                "P-values",
                "Even for traffic like the trusted data; a dark band at the bottom is a burst.",
                "mad_p_value",
                LIVE,
                unit="percentunit",
            )
        )
        .with_panel(
            heat(
                "Active components",
                "Components that an input used.",
                "mad_components_active",
                BASELINE,
                unit="short",
            )
        )
        .with_panel(
            heat(
                "Residual",
                "Bits of what the components leave unexplained; what no component sees is here.",
                "mad_residual_shannons",
                BASELINE,
                unit="short",
            )
        )
    )


def _above(measure: str) -> str:
    series = f"mad_{measure}_shannons"
    within, all_of = rate(f"{series}_bucket", _TAIL), rate(f"{series}_count", LIVE)
    return f"1 - {_BY} ({within}) / ({_BY} ({all_of}) > 0)"
