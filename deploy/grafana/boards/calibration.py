"""Calibration: whether the promised false-alarm rates are kept, and what has moved."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from boards.panels import (
    BASELINE,
    HALF,
    SIXTH,
    SOURCE,
    Query,
    bars,
    board as begin,
    gained,
    heat,
    lines,
    listing,
    number,
    rate,
    row,
)

_RATES = ("0.001", "0.01", "0.05", "0.1")
_BY = "sum by (model, baseline)"
_LATEST = "max by (model, baseline)"
_NAMED = "{{model}} {{baseline}}"
_CHOSEN = BASELINE + ', traffic="$traffic"'
_CANARY = BASELINE + ', traffic="canary"'
# Two-sided 99.9 % of a normal distribution.
_DEVIATIONS = 3.29


def board() -> build.Dashboard:
    """Return the dashboard."""
    started = begin("calibration", "Calibration", __doc__ or "")
    traffic = build.CustomVariable("traffic").label("Traffic").values("trusted,live,canary,shadow")
    started = started.with_variable(
        traffic.current(model.VariableOption(text="live", value="live"))
    )
    return _baselines(_moved(_kept(started.annotation(_revisions()))))


def _revisions() -> build.AnnotationQuery:
    info = f"mad_baseline_info{{{BASELINE}}}"
    return (
        build.AnnotationQuery()
        .name("Another version scores")
        .datasource(SOURCE)
        .enable(True)  # the builder's own form
        .icon_color("purple")
        .expr(f"{info} unless on (instance, revision, digest) {info} offset 1m")
    )


def _kept(board: build.Dashboard) -> build.Dashboard:
    return (
        board.with_row(row("Is the promise kept?  Traffic: $traffic"))
        .with_panel(
            lines(
                "Observed over promised rate",
                "Share of inputs whose p-value is at most each rate, over that rate: 1 is as "
                "promised. Rare rates are noisy: see the band beside.",
                *(
                    Query(f"{_share(one)} / {one}", f"{{{{model}}}} {{{{baseline}}}} at {one}")
                    for one in _RATES
                ),
                unit="none",
                span=HALF,
            )
        )
        .with_panel(
            lines(
                "Share at 1 %, and where chance leaves it",
                "Within the band 99.9 times of 100 if p-values are calibrated, by the number of "
                "inputs in each interval.",
                Query(_share("0.01"), f"{_NAMED} observed"),
                Query(f"clamp_min(0.01 - {_spread()}, 0)", f"{_NAMED} low"),
                Query(f"0.01 + {_spread()}", f"{_NAMED} high"),
                unit="percentunit",
                span=HALF,
            )
        )
        .with_panel(
            bars(
                "Inputs by p-value",
                "Share of inputs at or under each p-value, in the range shown: a bar as long as "
                "its name says is as promised.",
                Query(
                    f"sum by (le) ({gained('mad_p_value_bucket', _CHOSEN)})"
                    f" / on () group_left sum({gained('mad_p_value_count', _CHOSEN)})",
                    "{{le}}",
                ),
                unit="percentunit",
            )
        )
        .with_panel(
            heat(
                "P-values",
                "Evenly spread, for each width of a bin, if the promise is kept.",
                "mad_p_value",
                _CHOSEN,
                unit="percentunit",
            )
        )
        .with_panel(
            lines(
                "Planted anomalies found at 1 %",
                "Share of canaries whose p-value is at most 1 %. A fall says that anomalies of "
                "their kind would go by, whatever the false-alarm rate.",
                Query(_share("0.01", _CANARY), _NAMED),
                unit="percentunit",
            )
        )
    )


def _moved(board: build.Dashboard) -> build.Dashboard:
    return board.with_row(row("Has traffic moved?")).with_panel(
        lines(
            "Evidence against live traffic, over what alarms",
            "At 1 an alarm is raised, and stands until it is reset. The never-false channel is "
            "wrong at most with the chance set, in a stream of any length; the fast one now and "
            "then.",
            Query(
                f"max by (model, baseline, channel) (mad_stream_evidence_shannons{{{BASELINE}}})"
                " / max by (model, baseline, channel) "
                f"(mad_stream_threshold_shannons{{{BASELINE}}})",
                "{{baseline}} {{channel}}",
            ),
            unit="none",
        )
    )


def _baselines(board: build.Dashboard) -> build.Dashboard:
    return (
        board.with_row(row("Baselines"))
        .with_panel(
            listing(
                "What scores",
                "The active version of each baseline, by server. Servers of one store agree within "
                "promotion.poll_seconds.",
                Query(f"mad_baseline_info{{{BASELINE}}}"),
                span=HALF,
            )
        )
        .with_panel(
            number(
                "Reference",
                "Trusted inputs held out to rank others among: at a rate a, at least 1/a - 1.",
                Query(f"{_LATEST} (mad_baseline_reference_samples{{{BASELINE}}})", _NAMED),
                unit="short",
            )
            .span(SIXTH)
            .height(8)
        )
        .with_panel(
            number(
                "Nominal rate",
                "Share of ordinary inputs that raise an alert, as promised.",
                Query(f"{_LATEST} (mad_baseline_alpha_ratio{{{BASELINE}}})", _NAMED),
                unit="percentunit",
            )
            .span(SIXTH)
            .height(8)
        )
        .with_panel(
            number(
                "Inputs since the stream began",
                "Live inputs that the evidence above is of.",
                Query(f"{_LATEST} (mad_stream_inputs{{{BASELINE}}})", _NAMED),
                unit="short",
            )
            .span(SIXTH)
            .height(8)
        )
    )


def _share(rate_: str, where: str = _CHOSEN) -> str:
    """Return the share of inputs at or under a rate."""
    under = rate("mad_p_value_bucket", f'{where}, le="{rate_}"')
    return f"{_BY} ({under}) / ({_BY} ({rate('mad_p_value_count', where)}) > 0)"


def _spread() -> str:
    """Return how far from 1 % chance takes the share in one interval."""
    inputs = f"{_BY} (increase(mad_p_value_count{{{_CHOSEN}}}[$__rate_interval])) > 0"
    return f"{_DEVIATIONS} * sqrt(0.01 * 0.99 / ({inputs}))"
