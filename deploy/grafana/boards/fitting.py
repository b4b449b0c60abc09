"""Fitting and storage: fits over the API, what becomes active, and what is written to disk."""

from grafana_foundation_sdk.builders import dashboard as build

from boards.panels import (
    BASELINE,
    MODEL,
    Query,
    alarming,
    bars,
    board as begin,
    gained,
    lines,
    number,
    rate,
    row,
)


def board() -> build.Dashboard:
    """Return the dashboard."""
    return _storage(_fits(_numbers(begin("fitting", "Fitting and storage", __doc__ or ""))))


def _numbers(board: build.Dashboard) -> build.Dashboard:
    jobs = "mad_fit_jobs_total"
    return (
        board.with_panel(
            number(
                "Candidates",
                "Fits that came to a candidate in the range shown; nothing is active by it.",
                Query(f"sum({gained(jobs, MODEL + _state('candidate'))})", "fits"),
                unit="short",
            )
        )
        .with_panel(
            alarming(
                "Failed fits",
                "Fits that came to nothing in the range shown; `mad jobs` says why.",
                Query(f"sum({gained(jobs, MODEL + _state('failed'))})", "fits"),
                unit="short",
                from_=1,
            )
        )
        .with_panel(
            number(
                "Inputs not learnt from",
                "Trusted inputs refused or set aside in the range shown.",
                Query(f"sum({gained('mad_fit_samples_rejected_total')})", "inputs"),
                unit="short",
            )
        )
        .with_panel(
            alarming(
                "Alerts not yet written",
                "Alerts in memory alone, which a crash would lose.",
                Query(f"sum(mad_alert_log_pending{{{MODEL}}})", "alerts"),
                unit="short",
                from_=1,
            )
        )
        .with_panel(
            alarming(
                "Failed writes",
                "Of the alert log, the audit log and the stream's checkpoint, in the range shown.",
                Query(
                    f"sum({gained('mad_alert_log_errors_total')})"
                    f" + sum({gained('mad_audit_log_errors_total')})"
                    f" + sum({gained('mad_stream_checkpoint_errors_total')})",
                    "writes",
                ),
                unit="short",
                from_=1,
            )
        )
        .with_panel(
            alarming(
                "Changes not followed",
                "Versions that an alias points at and a server could not load, in the range shown.",
                Query(
                    "sum("
                    + gained("mad_baseline_reloads_total", MODEL + ', outcome="failed"')
                    + ")",
                    "changes",
                ),
                unit="short",
                from_=1,
            )
        )
    )


def _fits(board: build.Dashboard) -> build.Dashboard:
    mean = "mad_fit_duration_seconds"
    return (
        board.with_row(row("Fits"))
        .with_panel(
            bars(
                "Fits by state",
                "Fit jobs that came to each state in the range shown.",
                Query(f"sum by (state) ({gained('mad_fit_jobs_total')})", "{{state}}"),
                unit="short",
            )
        )
        .with_panel(
            bars(
                "Time of a fit",
                "Mean time of the fits that ended in the range shown.",
                Query(
                    f"sum by (model) ({gained(mean + '_sum')})"
                    f" / (sum by (model) ({gained(mean + '_count')}) > 0)",
                    "{{model}}",
                ),
                unit="s",
            )
        )
        .with_panel(
            bars(
                "Inputs not learnt from, by reason",
                "Quarantined ones are those that the active baseline finds most surprising.",
                Query(
                    f"sum by (reason) ({gained('mad_fit_samples_rejected_total')})", "{{reason}}"
                ),
                unit="short",
            )
        )
        .with_panel(
            bars(
                "What baselines stand on",
                "Trusted inputs that codes were fitted on, that weigh parts, and of the reference.",
                Query(
                    "max by (model, baseline, __name__) "
                    f'({{__name__=~"mad_baseline_(fit|weighing|reference)_samples", {BASELINE}}})',
                    "{{baseline}} {{__name__}}",
                ),
                unit="short",
            )
        )
        .with_panel(
            lines(
                "Changes of what scores",
                "Moved aliases that servers followed or could not, in each interval.",
                Query(
                    "sum by (alias, outcome) "
                    f"(increase(mad_baseline_reloads_total{{{MODEL}}}[$__rate_interval]))",
                    "{{alias}} {{outcome}}",
                ),
                unit="short",
            )
        )
        .with_panel(
            lines(
                "Failures of the shadow",
                "Runs of the shadow baseline that failed, a second; callers notice nothing of it.",
                Query(f"sum by (model) ({rate('mad_shadow_errors_total')})", "{{model}}"),
                unit="cps",
            )
        )
    )


def _storage(board: build.Dashboard) -> build.Dashboard:
    append = "mad_alert_log_append_seconds"
    errors = (
        ("alert_log", "alert log"),
        ("audit_log", "audit log"),
        ("stream_checkpoint", "stream"),
    )
    return (
        board.with_row(row("Storage"))
        .with_panel(
            lines(
                "Time of a write of the alert log",
                "99th percentile and mean; one write holds all alerts that wait.",
                Query(
                    f"histogram_quantile(0.99, sum by (le, model) ({rate(append + '_bucket')}))",
                    "{{model}} p99",
                ),
                Query(
                    f"sum by (model) ({rate(append + '_sum')})"
                    f" / (sum by (model) ({rate(append + '_count')}) > 0)",
                    "{{model}} mean",
                ),
                unit="s",
                log=True,
            )
        )
        .with_panel(
            lines(
                "Alerts not yet written",
                "Up to 4,096 wait in memory while the log cannot be written.",
                Query(f"mad_alert_log_pending{{{MODEL}}}", "{{instance}}"),
                unit="short",
            )
        )
        .with_panel(
            lines(
                "Failed writes",
                "A second, by what could not be written.",
                *(
                    Query(f"sum by (model) ({rate(f'mad_{one}_errors_total')})", called)
                    for one, called in errors
                ),
                unit="cps",
            )
        )
        .with_panel(
            lines(
                "Tokens and certificates read again",
                "Files of tokens and certificates that changed, in each interval. A failed one "
                "leaves the one before in force.",
                Query(
                    "sum by (what, outcome) "
                    f"(increase(mad_security_reloads_total{{{MODEL}}}[$__rate_interval]))",
                    "{{what}} {{outcome}}",
                ),
                unit="short",
            )
        )
        .with_panel(
            lines(
                "Inputs left out of the stream",
                "Live inputs that evidence about traffic never counted in, a second.",
                Query(f"sum by (model) ({rate('mad_stream_left_out_inputs_total')})", "{{model}}"),
                unit="cps",
            )
        )
        .with_panel(
            lines(
                "Alerts people spoke of",
                "Acknowledged, a second, by what they were found to be.",
                Query(
                    f"sum by (disposition) ({rate('mad_alerts_acknowledged_total')})",
                    "{{disposition}}",
                ),
                unit="cps",
            )
        )
    )


def _state(state: str) -> str:
    return f', state="{state}"'
