"""``mad stream``: whether live traffic, taken together, is still like the trusted data."""

from datetime import datetime
from typing import Annotated

import typer

from mad.cli import screen
from mad.cli.alerts import explained
from mad.cli.remote import At, connect
from mad.config import Address

COLUMNS = ("channel", "evidence, bits", "alarm at", "alarm")


def stream(
    address: At = "127.0.0.1:8001",
    *,
    reset: Annotated[
        bool, typer.Option("--reset", help="Begin anew: evidence and alarms are gone for good.")
    ] = False,
) -> None:
    """Show the evidence that live traffic has changed, and the alarms that stand."""
    import grpc

    from mad.client import channel

    server = Address.parse(address)
    try:
        with connect(server) as client:
            shown = client.reset_evidence().ended if reset else client.evidence().stream
    except grpc.RpcError as error:
        raise explained(error, server) from error
    state = "Ended" if reset else "Live"
    since = f"{shown.begin_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
    title = f"{state}: {shown.inputs} inputs since {since}, against {shown.baseline_revision}"
    rows = [
        (
            channel(one),
            f"{one.evidence_bits:.1f}",
            f"{one.threshold_bits:.1f}",
            _raised(one.alarm.alarm_time.ToDatetime(), one.alarm.at_input)
            if one.HasField("alarm")
            else "none",
        )
        for one in shown.channels
    ]
    screen.table(title, COLUMNS, rows)


def _raised(time: datetime, at_input: int) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}, at input {at_input}"
