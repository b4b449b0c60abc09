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
    return _baselines(_moved(_lately(_kept(started.annotation(_revisions())))))


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


def _lately(board: build.Dashboard) -> build.Dashboard:
    by_alpha = "max by (model, baseline, alpha)"
    return (
        board.with_row(row("The last few thousand inputs of each server"))
        .with_panel(
            lines(
                "Share at or under each rate, with its interval",
                "The true share is between low and high with 99 % confidence: calibration is lost "
                "where a whole interval is above its alpha.",
                *(
                    Query(
                        f"{by_alpha} (mad_calibration_observed_{one}ratio{{{_CHOSEN}}})",
                        f"{{{{baseline}}}} {called} at {{{{alpha}}}}",
                    )
                    for one, called in (("", "observed"), ("low_", "low"), ("high_", "high"))
                ),
                unit="percentunit",
                span=HALF,
                log=True,
            )
        )
        .with_panel(
            lines(
                "Evidence of lost calibration",
                "Wealth of bets against the promise on trusted traffic, in powers of ten: the "
                "chance of ever reaching 2 is at most one in a hundred while the promise is kept, "
                "and of 4 one in ten thousand. Servers count as one, by the mean of their wealth.",
                Query(
                    "log10(avg by (model, baseline) "
                    f"(10 ^ mad_calibration_wealth_log10{{{BASELINE}}}))",
                    _NAMED,
                ),
                unit="none",
                span=HALF,
            )
        )
        .with_panel(
            lines(
                "Gap between p-values and the promise",
                "Largest distance (Kolmogorov and Smirnov) between the distribution of trusted "
                "traffic's p-values and that of the reference. It says little of few inputs.",
                Query(f"{_LATEST} (mad_calibration_ks_ratio{{{BASELINE}}})", _NAMED),
                unit="percentunit",
            )
        )
        .with_panel(
            lines(
                "Trusted inputs it is of",
                "Without trusted traffic nothing tells whether the promise is kept: send some.",
                Query(f"{_LATEST} (mad_calibration_window_samples{{{BASELINE}}})", _NAMED),
                unit="short",
            )
        )
        .with_panel(
            lines(
                "Components never used in trusted data",
                "Uses of them by live inputs, a second.",
                Query(f"{_BY} ({rate('mad_components_unseen_total', BASELINE)})", _NAMED),
                unit="cps",
            )
        )
    )


def _moved(board: build.Dashboard) -> build.Dashboard:
    by_channel = "max by (model, baseline, channel)"
    return (
        board.with_row(row("Has traffic moved?"))
        .with_panel(
            lines(
                "Evidence against live traffic, over what alarms",
                "At 1 an alarm is raised, and stands until it is reset. The never-false channel is "
                "wrong at most with the chance set, in a stream of any length; the fast one now "
                "and then.",
                Query(
                    f"{by_channel} (mad_stream_evidence_shannons{{{BASELINE}}})"
                    f" / {by_channel} (mad_stream_threshold_shannons{{{BASELINE}}})",
                    "{{baseline}} {{channel}}",
                ),
                unit="none",
                span=HALF,
            )
        )
        .with_panel(
            lines(
                "Drift of components, by site",
                "Bits an input that a code with today's rates of use would save, after paying for "
                "being told apart. `mad calibration` names the components.",
                Query(
                    f"max by (model, baseline, site) (mad_component_drift_shannons{{{_CHOSEN}}})",
                    "{{baseline}} {{site}}",
                ),
                unit="none",
                span=HALF,
            )
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
                "Age",
                "Since the baseline was fitted. The world it was fitted on may be gone by now.",
                Query(
                    f"time() - {_LATEST} (mad_baseline_fit_timestamp_seconds{{{BASELINE}}})",
                    _NAMED,
                ),
                unit="s",
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
