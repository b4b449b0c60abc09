"""``mad incidents``: alerts that share a mechanism, grouped; and what people say of them."""

from typing import Annotated

import typer

from mad.cli import screen
from mad.cli.alert_rows import TOP, named
from mad.cli.alerts import As, Comment, asked, given
from mad.cli.remote import At

COLUMNS = (
    *("last seen", "first seen", "baseline", "context", "alerts", "most surprise"),
    *("what they share", "state", "representative", "incident"),
)


def incidents(  # noqa: PLR0913  # one option each
    *,
    address: At = "127.0.0.1:8001",
    baseline: Annotated[str, typer.Option(help="Only incidents of this baseline name.")] = "",
    limit: Annotated[int, typer.Option(help="Incidents to show.", min=1, max=1000)] = 20,
    closed: Annotated[bool, typer.Option("--closed", help="Closed ones, too.")] = False,
    acknowledge: Annotated[
        str,
        typer.Option(metavar="INCIDENT", help="Say what its alerts were found to be; closes it."),
    ] = "",
    as_: As = None,
    comment: Comment = "",
) -> None:
    """List incidents, those last seen first, or acknowledge one."""
    from mad.client import term

    with asked(address) as client:
        if acknowledge:
            said = given(as_)
            told = client.alert_log.acknowledge(said, incident_id=acknowledge, comment=comment)
            screen.say(f"{acknowledge}: {said}, {told.alerts} alerts")
            return
        page = client.alert_log.incidents(baseline, page_size=limit, include_closed=closed)
    rows = [
        (
            f"{one.last_time.ToDatetime():%Y-%m-%d %H:%M:%S}",
            f"{one.first_time.ToDatetime():%Y-%m-%d %H:%M:%S}",
            one.baseline,
            str(one.context) if one.context >= 0 else "none",
            str(one.alerts),
            f"{one.most_surprise_bits:.1f}",
            ", ".join(named((it.site, term(it), it.index)) for it in one.mechanisms[:TOP]),
            "open" if one.is_open else "closed",
            one.representative_alert_id,
            one.incident_id,
        )
        for one in page.incidents
    ]
    screen.table(f"Incidents, in bits, by {address}", COLUMNS, rows)
