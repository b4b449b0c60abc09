"""Service: what each method and stage takes, what waits, what is refused, and what it costs."""

from grafana_foundation_sdk.builders import dashboard as build

from boards.panels import (
    HALF,
    MODEL,
    SERVER,
    Query,
    alarming,
    board as begin,
    gained,
    lines,
    listing,
    number,
    quantile,
    rate,
    row,
)

_METHOD = "{{grpc_method}}"


def board() -> build.Dashboard:
    """Return the dashboard."""
    return _process(_stages(_calls(_numbers(begin("service", "Service", __doc__ or "")))))


def _numbers(board: build.Dashboard) -> build.Dashboard:
    handled = rate("grpc_server_handled_total", SERVER)
    failing = 'grpc_code=~"INTERNAL|UNAVAILABLE|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|UNKNOWN"'
    failed = rate("grpc_server_handled_total", f"{SERVER}, {failing}")
    return (
        board.with_panel(
            alarming(
                "Servers that do not answer",
                "Servers that Prometheus knows of and cannot scrape.",
                Query(f"sum(1 - up{{{SERVER}}})", "servers"),
                unit="short",
                from_=1,
            )
        )
        .with_panel(
            number(
                "Calls", "Calls ended, a second.", Query(f"sum({handled})", "calls"), unit="reqps"
            )
        )
        .with_panel(
            alarming(
                "Failed calls",
                "Share of calls that ended for a reason of the server's, refusals when full too.",
                Query(f"sum({failed}) / (sum({handled}) > 0)", "failed"),
                unit="percentunit",
                from_=0.01,
            )
        )
        .with_panel(
            alarming(
                "Refused, to be retried",
                "Requests that were not taken on in the range shown: the queue was full, or they "
                "could not have been answered in time.",
                Query(f"sum({gained('mad_requests_shed_total')})", "requests"),
                unit="short",
                from_=1,
            )
        )
        .with_panel(
            number(
                "Waiting",
                "Inputs that wait to be scored.",
                Query(f"sum(mad_queue_depth{{{MODEL}}})", "inputs"),
                unit="short",
            )
        )
        .with_panel(
            number(
                "Requests in hand",
                "Requests that are being answered.",
                Query(f"sum(mad_requests_in_flight{{{MODEL}}})", "requests"),
                unit="short",
            )
        )
    )


def _calls(board: build.Dashboard) -> build.Dashboard:
    handled = rate("grpc_server_handled_total", SERVER)
    not_ok = SERVER + ', grpc_code!="OK"'
    unary = SERVER + ', grpc_type="unary"'
    times = "grpc_server_handling_seconds"
    return (
        board.with_row(row("Calls"))
        .with_panel(
            lines(
                "Calls by method",
                "Calls ended, a second.",
                Query(f"sum by (grpc_method) ({handled})", _METHOD),
                unit="reqps",
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Calls by outcome, but OK",
                "Calls that ended otherwise than OK, a second, by status.",
                Query(
                    f"sum by (grpc_code) ({rate('grpc_server_handled_total', not_ok)})",
                    "{{grpc_code}}",
                ),
                unit="reqps",
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Time of a call",
                "Median and 99th percentile by method; streams last as long as their callers keep "
                "them open.",
                quantile(0.5, times, "grpc_method", unary),
                quantile(0.99, times, "grpc_method", unary),
                unit="s",
                log=True,
            )
        )
        .with_panel(
            lines(
                "Refused, to be retried",
                "Requests not taken on, a second, by reason.",
                Query(f"sum by (reason) ({rate('mad_requests_shed_total')})", "{{reason}}"),
                unit="reqps",
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Unscored inputs",
                "Inputs answered without a score, a second, by reason.",
                Query(f"sum by (reason) ({rate('mad_unscored_inputs_total')})", "{{reason}}"),
                unit="cps",
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Bad requests and callers",
                "Requests that cannot be scored, and calls refused to their callers, a second.",
                Query(f"sum by (reason) ({rate('mad_invalid_inputs_total')})", "bad {{reason}}"),
                Query(f"sum by (reason) ({rate('mad_auth_failures_total')})", "caller {{reason}}"),
                unit="reqps",
            )
        )
    )


def _stages(board: build.Dashboard) -> build.Dashboard:
    seconds = "mad_stage_duration_seconds"
    own = f'{MODEL}, stage!="forward"'
    forward = f'{MODEL}, stage="forward"'
    return (
        board.with_row(row("Scoring"))
        .with_panel(
            lines(
                "Time of a stage, 99th percentile",
                "Of one run of the model, by stage; forward is the model's own time.",
                quantile(0.99, seconds, "stage"),
                unit="s",
                log=True,
            )
        )
        .with_panel(
            lines(
                "Where time goes",
                "Seconds of each stage a second.",
                Query(f"sum by (stage) ({rate(seconds + '_sum')})", "{{stage}}"),
                unit="none",
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "What watching costs",
                "Time of all stages but the model's own, over the model's own.",
                Query(
                    f"sum by (model) ({rate(seconds + '_sum', own)})"
                    f" / (sum by (model) ({rate(seconds + '_sum', forward)}) > 0)",
                    "{{model}}",
                ),
                unit="none",
            )
        )
        .with_panel(
            lines(
                "Inputs of one run",
                "Median and 99th percentile; single inputs cost the most each.",
                quantile(0.5, "mad_batch_size", "model"),
                quantile(0.99, "mad_batch_size", "model"),
                unit="short",
            )
        )
        .with_panel(
            lines(
                "Inputs that wait",
                "By server: one that waits alone is slower than the others.",
                Query(f"mad_queue_depth{{{MODEL}}}", "{{instance}}"),
                unit="short",
            )
        )
        .with_panel(
            lines(
                "Requests in hand",
                "By server.",
                Query(f"mad_requests_in_flight{{{MODEL}}}", "{{instance}}"),
                unit="short",
            )
        )
    )


def _process(board: build.Dashboard) -> build.Dashboard:
    return (
        board.with_row(row("Processes"))
        .with_panel(
            lines(
                "Processors",
                "Processors that each server uses.",
                Query(rate("process_cpu_seconds_total", SERVER), "{{instance}}"),
                unit="none",
            )
        )
        .with_panel(
            lines(
                "Memory",
                "Resident memory of each server: steady once warm.",
                Query(f"process_resident_memory_bytes{{{SERVER}}}", "{{instance}}"),
                unit="bytes",
            )
        )
        .with_panel(
            lines(
                "Open files, of those it may have",
                "Share of the limit that each server has open.",
                Query(
                    f"process_open_fds{{{SERVER}}} / process_max_fds{{{SERVER}}}", "{{instance}}"
                ),
                unit="percentunit",
            )
        )
        .with_panel(
            listing("What runs", "Versions, by server.", Query(f"mad_build_info{{{SERVER}}}"))
        )
        .with_panel(
            lines(
                "Time since start",
                "A saw tooth is a server that dies over and over.",
                Query(f"time() - process_start_time_seconds{{{SERVER}}}", "{{instance}}"),
                unit="s",
                span=HALF,
            )
        )
    )
