"""``mad calibration``: whether the promised false-alarm rate is kept, and what has moved."""

from typing import Annotated

import typer

from mad.cli import screen
from mad.cli.alerts import explained
from mad.cli.remote import At, connect
from mad.config import Address

RATES = ("nominal", "inputs at or under", "observed", "at least", "at most")
DRIFTS = ("view", "component", "trusted", "observed", "bits an input")


def calibration(
    address: At = "127.0.0.1:8001",
    *,
    baseline: Annotated[
        str, typer.Option(help="name or name@version; default: the server's.")
    ] = "",
    traffic: Annotated[str, typer.Option(help="live, trusted or canary.")] = "live",
    top: Annotated[int, typer.Option(help="Components to name.")] = 10,
) -> None:
    """Show how often inputs alarmed beside what was promised, and components used otherwise."""
    import grpc

    server = Address.parse(address)
    try:
        with connect(server) as client:
            shown = client.calibration(baseline, traffic=traffic, max_components=top)
    except grpc.RpcError as error:
        raise explained(error, server) from error
    since = f"{shown.begin_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
    title = (
        f"{shown.inputs} inputs of {traffic} traffic since {since}, by {shown.baseline_revision}"
    )
    screen.table(
        title,
        RATES,
        [
            (
                f"{rate.nominal:g}",
                str(rate.alarms),
                f"{rate.observed:.2g}",
                f"{rate.observed_low:.2g}",
                f"{rate.observed_high:.2g}",
            )
            for rate in shown.rates
        ],
    )
    screen.table(
        "Components whose use has moved furthest",
        DRIFTS,
        [
            (
                drift.view,
                str(drift.component),
                f"{drift.trusted_rate:.2g}",
                f"{drift.observed_rate:.2g}",
                f"{drift.saved_bits:.2g}",
            )
            for drift in shown.drifts
        ],
    )
    if shown.recent.inputs:
        moved = "; ".join(f"{one.site} {one.saved_bits:.2g}" for one in shown.recent.site_drifts)
        screen.say(
            f"the last {shown.recent.inputs} inputs: {shown.recent.rates[0].observed:.2%} at or "
            f"under {shown.recent.rates[0].nominal:g}, gap to the reference "
            f"{shown.recent.gap:.2g}, drift in bits an input by site: {moved or 'none'}"
        )
    if traffic == "trusted":
        screen.say(
            f"wealth against calibration: 10 ** {shown.wealth_log10:.1f}, by chance with at most "
            f"{min(1.0, 10.0**-shown.wealth_log10):.1g}"
        )
    screen.say(shown.summary)
