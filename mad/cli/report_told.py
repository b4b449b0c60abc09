"""What reports tell, from the alert log and from the messages of a server."""

from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import TYPE_CHECKING

from mad.cli.alert_rows import Question, message, named, opened, wanted

if TYPE_CHECKING:
    from mad.alerts.values import Recorded
    from mad.client import Client
    from mad.client.alerts import Alert
    from mad.client.calibration import AlarmRate, Calibration
    from mad.report.drawing import Rate
    from mad.report.of_alerts import ToldAlert
    from mad.report.of_calibration import Observed

PAGE = 500


def of_log(url: str, question: Question) -> Iterator["ToldAlert"]:
    """Read alerts from the log, newest first; ConfigError if there is none."""
    with opened(url) as log:
        token = ""
        while True:
            page, token = log.listing(wanted(question), PAGE, token)
            yield from map(_recorded, page)
            if not token:
                return


def of_server(client: "Client", question: Question) -> Iterator["ToldAlert"]:
    """Ask a server for alerts, newest first."""
    token = ""
    while True:
        page = client.alerts(
            question.baseline, page_size=PAGE, page_token=token, only=message(question)
        )
        yield from map(_sent, page.alerts)
        token = page.next_page_token
        if not token:
            return


def calibrated(shown: "Calibration", traffic: str) -> "Observed":
    """Return what a server says of one kind of traffic."""
    from mad.report.of_calibration import Moved, Observed

    return Observed(
        traffic=traffic,
        revision=shown.baseline_revision,
        begin=shown.begin_time.ToDatetime(tzinfo=UTC),
        inputs=shown.inputs,
        rates=_rates(shown.rates),
        gap=shown.gap,
        gap_p_value=shown.gap_p_value,
        moved=tuple(
            Moved(one.view, one.component, one.trusted_rate, one.observed_rate, one.saved_bits)
            for one in shown.drifts
        ),
        summary=shown.summary,
        wealth_log10=shown.wealth_log10,
        recent_inputs=shown.recent.inputs,
        recent_rates=_rates(shown.recent.rates),
        recent_gap=shown.recent.gap,
        site_drifts=tuple((one.site, one.saved_bits) for one in shown.recent.site_drifts),
    )


def _rates(rates: Iterable["AlarmRate"]) -> tuple["Rate", ...]:
    from mad.report.drawing import Rate

    return tuple(
        Rate(
            one.nominal,
            one.observed,
            one.observed_low,
            one.observed_high,
            one.chance_low,
            one.chance_high,
        )
        for one in rates
    )


def _recorded(one: "Recorded") -> "ToldAlert":
    from mad.report.of_alerts import ToldAlert, ToldCharge, ToldPart

    alert, verdict = one.alert, one.alert.verdict
    return ToldAlert(
        alert_id=alert.alert_id,
        time=alert.time,
        revision=f"{alert.baseline}@{alert.version}",
        request_id=alert.request_id,
        input_index=alert.input_index,
        p_value=verdict.p_value,
        surprise_bits=verdict.surprise_bits,
        mechanism_bits=verdict.mechanism_bits,
        novelty_bits=verdict.novelty_bits,
        found=one.acknowledgement.disposition if one.acknowledgement else "",
        incident_id=one.incident_id,
        parts=tuple(
            ToldPart(part.site, part.term, part.bits, part.rarity_bits) for part in verdict.parts
        ),
        charges=tuple(
            ToldCharge(named((it.site, it.term, it.index)), it.bits, it.typical_bits)
            for it in alert.explanation.charges
        ),
    )


def _sent(alert: "Alert") -> "ToldAlert":
    from mad.client import disposition, term
    from mad.report.of_alerts import ToldAlert, ToldCharge, ToldPart

    verdict = alert.verdict
    return ToldAlert(
        alert_id=alert.alert_id,
        time=alert.raise_time.ToDatetime(tzinfo=UTC),
        revision=alert.baseline_revision,
        request_id=alert.request_id,
        input_index=alert.input_index,
        p_value=verdict.p_value,
        surprise_bits=verdict.surprise_bits,
        mechanism_bits=verdict.mechanism_bits,
        novelty_bits=verdict.novelty_bits,
        found=disposition(alert),
        incident_id=alert.incident_id,
        parts=tuple(
            ToldPart(part.site, term(part), part.bits, part.rarity_bits) for part in verdict.parts
        ),
        charges=tuple(
            ToldCharge(named((it.site, term(it), it.index)), it.bits, it.typical_bits)
            for it in alert.explanation.charges
        ),
    )
