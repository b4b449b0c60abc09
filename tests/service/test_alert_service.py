"""AlertService: what the log says, what people say of its alerts, and who hears of that."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from mad.audit import records
from mad.client import Client, request
from mad.client.alerts import Disposition
from mad.errors import InputError
from mad.v1 import alerts_pb2 as pb, verdict_pb2
from tests.service.running import Running, anomalies


async def raised(service: Running, count: int = 1, *, request_id: str = "r") -> list[str]:
    answer = await service.client.score(request(anomalies(count), request_id=request_id))
    return [score.alert_id for score in answer.scores]


async def refused(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call  # type: ignore[misc]  # whatever call
    return refusal.value.code(), refusal.value.details() or ""


async def test_an_alert_says_where_it_stands(service: Running) -> None:
    first, second = await raised(service, 2)
    listed = {alert.alert_id: alert for alert in (await service.client.alerts()).alerts}
    found = await service.client.alert_log.get(second)
    assert found == listed[second]
    assert [listed[one].sequence for one in (first, second)] == [1, 2]
    assert found.incident_id
    assert not found.HasField("acknowledgement")


async def test_an_unknown_alert_is_not_found(service: Running) -> None:
    code, text = await refused(service.client.alert_log.get("nobody"))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "there is no alert 'nobody'" in text


@pytest.mark.parametrize("disposition", ["true_positive", "false_positive", "expected"])
async def test_an_acknowledgement_is_kept_counted_and_audited(
    service: Running, tmp_path: Path, disposition: Disposition
) -> None:
    alert_id, other = await raised(service, 2)
    answer = await service.client.alert_log.acknowledge(
        disposition, alert_id=alert_id, comment="a drill"
    )
    assert answer.alerts == 1
    number = pb.Disposition.Value(f"DISPOSITION_{disposition.upper()}")
    kept = (await service.client.alert_log.get(alert_id)).acknowledgement
    assert kept == answer.acknowledgement
    assert (kept.disposition, kept.comment, kept.principal) == (number, "a drill", "")
    assert not (await service.client.alert_log.get(other)).HasField("acknowledgement")
    labels = {"model": "tiny", "disposition": disposition}
    assert service.sample("mad_alerts_acknowledged_total", **labels) == 1
    record = list(records(tmp_path / "audit.jsonl"))[-1]
    assert (record.event, record.subject) == ("alert.acknowledged", alert_id)
    assert record.fields == {"disposition": disposition, "comment": "a drill"}


async def test_a_retry_of_an_acknowledgement_is_recorded_once(
    service: Running, tmp_path: Path
) -> None:
    (alert_id,) = await raised(service)
    log = service.client.alert_log
    first = await log.acknowledge("expected", alert_id=alert_id, request_id="once")
    again = await log.acknowledge("expected", alert_id=alert_id, request_id="once")
    assert first == again
    events = [record.event for record in records(tmp_path / "audit.jsonl")]
    assert events.count("alert.acknowledged") == 1
    labels = {"model": "tiny", "disposition": "expected"}
    assert service.sample("mad_alerts_acknowledged_total", **labels) == 1
    code, _ = await refused(log.acknowledge("true_positive", alert_id=alert_id, request_id="once"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_acknowledged_incident_is_closed(service: Running) -> None:
    ids = await raised(service, 6)
    log = service.client.alert_log
    (incident,) = (await log.incidents("tiny")).incidents
    assert (incident.alerts, incident.is_open, incident.model) == (6, True, "tiny")
    surprises = {
        one.alert_id: one.verdict.surprise_bits for one in (await service.client.alerts()).alerts
    }
    assert incident.most_surprise_bits == max(surprises.values())
    assert surprises[incident.representative_alert_id] == incident.most_surprise_bits
    answer = await log.acknowledge("expected", incident_id=incident.incident_id)
    assert answer.alerts == 6
    for alert_id in ids:
        assert (await log.get(alert_id)).acknowledgement == answer.acknowledgement
    assert not (await log.incidents()).incidents
    (closed,) = (await log.incidents(include_closed=True)).incidents
    assert not closed.is_open
    await raised(service, request_id="later")
    assert len((await log.incidents(include_closed=True)).incidents) == 2


async def test_an_incident_names_what_its_alerts_have_in_common(service: Running) -> None:
    await raised(service, 3)
    (incident,) = (await service.client.alert_log.incidents()).incidents
    alerts = (await service.client.alerts()).alerts
    charged = {
        (charge.site, charge.term, charge.index)
        for alert in alerts
        for charge in alert.explanation.charges
    }
    assert incident.mechanisms
    assert {(one.site, one.term, one.index) for one in incident.mechanisms} <= charged
    assert all(one.term != verdict_pb2.TERM_NEIGHBOURS for one in incident.mechanisms)


async def test_open_incidents_are_counted(service: Running) -> None:
    await raised(service)
    assert service.sample("mad_incidents_open", model="tiny") == 1


async def test_a_listing_can_be_narrowed(service: Running) -> None:
    (early,) = await raised(service, request_id="early")
    (late,) = await raised(service, request_id="late")
    await service.client.alert_log.acknowledge("expected", alert_id=early)

    async def narrowed(**only: object) -> list[str]:
        found = await service.client.alerts(only=pb.AlertFilter(**only))  # type: ignore[arg-type]
        return [alert.alert_id for alert in found.alerts]

    ahead = Timestamp()
    ahead.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    incident = (await service.client.alert_log.get(late)).incident_id
    assert await narrowed(request_id="late") == [late]
    assert await narrowed(is_acknowledged=True) == [early]
    assert await narrowed(is_acknowledged=False) == [late]
    assert await narrowed(disposition=pb.DISPOSITION_EXPECTED) == [early]
    assert await narrowed(disposition=pb.DISPOSITION_TRUE_POSITIVE) == []
    assert await narrowed(begin_time=ahead) == []
    assert await narrowed(end_time=ahead) == [late, early]
    assert await narrowed(least_surprise_bits=1e6) == []
    assert late in await narrowed(incident_id=incident)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (pb.AcknowledgeAlertRequest(disposition=pb.DISPOSITION_EXPECTED), "names no alert"),
        (pb.AcknowledgeAlertRequest(alert_id="a"), "disposition is not given"),
        (pb.AcknowledgeAlertRequest(alert_id="a", disposition=9), "disposition 9 is unknown"),  # type: ignore[arg-type]  # from a newer client
        (
            pb.AcknowledgeAlertRequest(
                alert_id="a", disposition=pb.DISPOSITION_EXPECTED, comment="x" * 2001
            ),
            "comment has 2001 characters",
        ),
        (
            pb.AcknowledgeAlertRequest(
                alert_id="a", disposition=pb.DISPOSITION_EXPECTED, request_id="x" * 129
            ),
            "has 129 characters",
        ),
    ],
)
async def test_a_bad_acknowledgement_is_refused(
    service: Running, message: pb.AcknowledgeAlertRequest, complaint: str
) -> None:
    code, text = await refused(service.client.alert.AcknowledgeAlert(message))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert complaint in text


@pytest.mark.parametrize(
    ("only", "complaint"),
    [
        (pb.AlertFilter(least_surprise_bits=float("nan")), "is not a number"),
        (pb.AlertFilter(begin_time=Timestamp(seconds=10**15)), "is no time"),
        (pb.AlertFilter(disposition=9), "disposition 9 is unknown"),  # type: ignore[arg-type]  # from a newer client
    ],
)
async def test_a_bad_filter_is_refused(
    service: Running, only: pb.AlertFilter, complaint: str
) -> None:
    code, text = await refused(service.client.alerts(only=only))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert complaint in text


async def test_a_client_says_what_it_needs(service: Running) -> None:
    with pytest.raises(InputError, match="either an alert_id or an incident_id"):
        await service.client.alert_log.acknowledge("expected")
    with pytest.raises(InputError, match="disposition 'odd' is unknown"):
        await service.client.alert_log.acknowledge("odd", alert_id="a")  # type: ignore[arg-type]  # the mistake in question


async def test_the_sync_client_does_the_same(service: Running) -> None:
    def ask() -> None:
        with Client(service.address) as client:
            answer = client.score(request(anomalies(1), request_id="sync"))
            alert_id = answer.scores[0].alert_id
            told = client.alert_log.acknowledge("expected", alert_id=alert_id)
            assert client.alert_log.get(alert_id).acknowledgement == told.acknowledgement
            assert client.alert_log.incidents().incidents[0].alerts == 1

    await asyncio.to_thread(ask)
