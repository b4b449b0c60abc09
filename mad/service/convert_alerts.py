"""Messages of AlertService to values of the alert log, and back."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from mad.alerts.acknowledging import Finding
from mad.alerts.values import Acknowledgement, Disposition, Incident, Recorded, Wanted
from mad.errors import InputError
from mad.service import convert
from mad.service.answering import MAX_REQUEST_ID
from mad.v1 import alerts_pb2 as pb

MAX_COMMENT: Final = 2000

_DISPOSITIONS: Final[Mapping["pb.Disposition.ValueType", Disposition]] = {
    pb.DISPOSITION_TRUE_POSITIVE: "true_positive",
    pb.DISPOSITION_FALSE_POSITIVE: "false_positive",
    pb.DISPOSITION_EXPECTED: "expected",
}
NUMBERS: Final[Mapping[Disposition, "pb.Disposition.ValueType"]] = {
    name: number for number, name in _DISPOSITIONS.items()
}


def wanted(request: pb.ListAlertsRequest) -> Wanted:
    """Read what a listing asks for; InputError for a field that cannot be."""
    asked = request.filter
    least = asked.least_surprise_bits
    if math.isnan(least):
        raise InputError("filter.least_surprise_bits is not a number; leave it out to ask for all")
    return Wanted(
        baseline=request.baseline,
        begin=_time(asked.begin_time, "begin_time") if asked.HasField("begin_time") else None,
        end=_time(asked.end_time, "end_time") if asked.HasField("end_time") else None,
        incident_id=asked.incident_id,
        request_id=asked.request_id,
        least_surprise_bits=least,
        is_acknowledged=asked.is_acknowledged if asked.HasField("is_acknowledged") else None,
        disposition=disposition(asked.disposition) if asked.disposition else None,
    )


def finding(request: pb.AcknowledgeAlertRequest, *, principal: str, time: datetime) -> Finding:
    """Read what somebody found; InputError for a field that cannot be."""
    target = request.WhichOneof("target")
    if target is None or not getattr(request, target):
        raise InputError("the request names no alert; set alert_id or incident_id")
    if not request.disposition:
        raise InputError(f"disposition is not given; use one of {', '.join(NUMBERS)}")
    if len(request.comment) > MAX_COMMENT or "\0" in request.comment:
        raise InputError(
            f"comment has {len(request.comment)} characters; send at most {MAX_COMMENT}, and no "
            "NUL among them"
        )
    if len(request.request_id) > MAX_REQUEST_ID or not request.request_id.isprintable():
        raise InputError(
            f"request_id {request.request_id[:MAX_REQUEST_ID]!r} has {len(request.request_id)} "
            f"characters; send at most {MAX_REQUEST_ID}, all printable"
        )
    said = Acknowledgement(disposition(request.disposition), request.comment, principal, time)
    return Finding(
        said=said,
        alert_id=request.alert_id,
        incident_id=request.incident_id,
        request_id=request.request_id,
    )


def disposition(number: "pb.Disposition.ValueType") -> Disposition:
    """Read a disposition; InputError for one that this server does not know."""
    if number not in _DISPOSITIONS:
        raise InputError(f"disposition {number} is unknown here; use one of {', '.join(NUMBERS)}")
    return _DISPOSITIONS[number]


def recorded(value: Recorded) -> pb.Alert:
    """Write an alert as it stands in the log."""
    alert = value.alert
    return pb.Alert(
        alert_id=alert.alert_id,
        raise_time=convert.timestamp(alert.time),
        model=alert.model,
        baseline_revision=f"{alert.baseline}@{alert.version}",
        request_id=alert.request_id,
        input_index=alert.input_index,
        input_digest=alert.input_digest,
        verdict=convert.verdict(alert.verdict),
        explanation=convert.explanation(alert.explanation),
        sequence=value.sequence,
        incident_id=value.incident_id,
        acknowledgement=acknowledgement(value.acknowledgement) if value.acknowledgement else None,
    )


def acknowledgement(value: Acknowledgement) -> pb.Acknowledgement:
    """Write what somebody found."""
    return pb.Acknowledgement(
        disposition=NUMBERS[value.disposition],
        comment=value.comment,
        principal=value.principal,
        acknowledge_time=convert.timestamp(value.time),
    )


def incident(value: Incident) -> pb.Incident:
    """Write an incident."""
    return pb.Incident(
        incident_id=value.incident_id,
        model=value.model,
        baseline=value.baseline,
        context=value.context,
        mechanisms=(
            pb.Mechanism(site=one.site, term=convert.TERMS[one.term], index=one.index)
            for one in value.mechanisms
        ),
        alerts=value.alerts,
        first_time=convert.timestamp(value.first_time),
        last_time=convert.timestamp(value.last_time),
        most_surprise_bits=value.most_surprise_bits,
        representative_alert_id=value.representative_alert_id,
        is_open=value.is_open,
    )


def _time(message: Timestamp, name: str) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"filter.{name} of {message.seconds} seconds is no time; send one since 0001-01-01"
        ) from error
