"""What the server says of its alerts, as our own values: messages in, alerts and charges out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from mad.client import Client, term
from mad.demo.stream import image_of
from mad.demo.traffic import Images
from mad.types import Charge, Part, Term

SHOWN_ALERTS = 3
EVERY_CHARGE = 1024


@dataclass(frozen=True)
class LoggedAlert:
    """An alert as the server's log remembers it: which image of which kind of traffic, and why."""

    alert_id: str
    kind: str
    image: int
    predicted: int
    surprise_bits: float
    mechanism_bits: float
    novelty_bits: float
    p_value: float
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class ExplainedAlert:
    """An alert with every charge of its image, those that account for most of its rarity first."""

    alert: LoggedAlert
    charges: tuple[Charge, ...]


def read_alerts(client: Client) -> Iterator[LoggedAlert]:
    """Read the whole alert log, page by page, newest first."""
    token = ""
    while True:
        page = client.alerts(page_size=1000, page_token=token)
        for alert in page.alerts:
            kind, image = image_of(alert.request_id, alert.input_index)
            yield LoggedAlert(
                alert_id=alert.alert_id,
                kind=kind,
                image=image,
                predicted=alert.verdict.context,
                surprise_bits=alert.verdict.surprise_bits,
                mechanism_bits=alert.verdict.mechanism_bits,
                novelty_bits=alert.verdict.novelty_bits,
                p_value=alert.verdict.p_value,
                parts=tuple(
                    Part(
                        part.site,
                        cast("Term", term(part)),
                        part.bits,
                        part.rarity_bits,
                        part.rare_components_bits
                        if part.HasField("rare_components_bits")
                        else None,
                    )
                    for part in alert.verdict.parts
                ),
            )
        token = page.next_page_token
        if not token:
            return


def explain_some(
    client: Client, alerts: Sequence[LoggedAlert], images: Images
) -> tuple[ExplainedAlert, ...]:
    """Ask for all charges of the first, middle and last of some alerts about ``images``."""
    last = len(alerts) - 1
    places = {round(last * step / (SHOWN_ALERTS - 1)) for step in range(SHOWN_ALERTS)}
    chosen = [alerts[place] for place in sorted(places)] if alerts else []
    return tuple(
        ExplainedAlert(alert, _charges(client, images[alert.image : alert.image + 1]))
        for alert in chosen
    )


def _charges(client: Client, image: Images) -> tuple[Charge, ...]:
    answer = client.explain({"image": image}, max_charges=EVERY_CHARGE)
    return tuple(
        Charge(
            site=charge.site,
            term=cast("Term", term(charge)),
            index=charge.index,
            bits=charge.bits,
            typical_bits=charge.typical_bits,
            magnitude=charge.magnitude,
            trusted_rate=charge.trusted_rate if charge.HasField("trusted_rate") else None,
        )
        for charge in answer.explanation.charges
    )
