"""The server's alert log, as its own values: messages in, alerts with their ledgers out."""

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import Message

from mad.client import Client
from mad.demo.stream import image_of
from mad.types import Charge, Part, Term


@dataclass(frozen=True)
class LoggedAlert:
    """An alert as the server's log remembers it; ``charges`` come most surprising first."""

    alert_id: str
    kind: str
    image: int
    predicted: int
    surprise_bits: float
    p_value: float
    parts: tuple[Part, ...]
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
                p_value=alert.verdict.p_value,
                parts=tuple(
                    Part(part.site, _term(part), part.bits) for part in alert.verdict.parts
                ),
                charges=tuple(
                    Charge(
                        site=charge.site,
                        term=_term(charge),
                        index=charge.index,
                        bits=charge.bits,
                        typical_bits=charge.typical_bits,
                        magnitude=charge.magnitude,
                        trusted_rate=(
                            charge.trusted_rate if charge.HasField("trusted_rate") else None
                        ),
                    )
                    for charge in alert.explanation.charges
                ),
            )
        token = page.next_page_token
        if not token:
            return


def _term(message: Message) -> Term:
    # Only the edge may import the generated enum, but a message knows the names of its own values.
    values = {field.name: number for field, number in message.ListFields()}
    names = message.DESCRIPTOR.fields_by_name["term"].enum_type
    assert names is not None
    return "set" if names.values_by_number[values["term"]].name == "TERM_SET" else "residual"
