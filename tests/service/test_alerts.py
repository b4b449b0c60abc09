"""Alerts: durable before the caller hears of them, one for each input, for live traffic only."""

import asyncio
import hashlib
import uuid
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from mad.alerts.log import AlertLog
from mad.client import request
from mad.metrics import Metrics
from mad.service.alert_writer import AlertWriter, drafts
from mad.service.digests import digest
from mad.v1 import scoring_pb2 as pb
from tests.service.running import Running, anomalies
from tests.worlds import World


async def test_an_alert_is_on_disk_when_the_caller_hears_of_it(
    service: Running, tmp_path: Path
) -> None:
    answer = await service.client.score(request(anomalies(2), request_id="burglary"))
    reader = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    alerts, _ = reader.page("", 10, "")
    reader.close()
    assert {alert.alert_id for alert in alerts} == {score.alert_id for score in answer.scores}
    assert {(alert.request_id, alert.input_index) for alert in alerts} == {
        ("burglary", 0),
        ("burglary", 1),
    }


async def test_a_listed_alert_carries_verdict_and_explanation(service: Running) -> None:
    answer = await service.client.score(anomalies(1))
    (alert,) = (await service.client.alerts("tiny")).alerts
    uuid.UUID(alert.alert_id)
    assert alert.verdict == answer.scores[0].verdict
    charged = sum(charge.bits for charge in alert.explanation.charges)
    assert charged + alert.explanation.rest_bits == pytest.approx(alert.verdict.description_bits)
    assert (alert.model, alert.baseline_revision) == ("tiny", "tiny@1")
    assert alert.raise_time == answer.score_time


async def test_alerts_come_in_pages_newest_first(service: Running) -> None:
    for index in range(3):
        await service.client.score(request(anomalies(1), request_id=str(index)))
    first = await service.client.alerts(page_size=2)
    second = await service.client.alerts(page_size=2, page_token=first.next_page_token)
    assert [alert.request_id for alert in first.alerts] == ["2", "1"]
    assert [alert.request_id for alert in second.alerts] == ["0"]
    assert not second.next_page_token


async def test_a_retry_raises_no_second_alert(service: Running) -> None:
    message = request(anomalies(2))
    first, second = [await service.client.score(message) for _ in range(2)]
    assert [score.alert_id for score in first.scores] == [score.alert_id for score in second.scores]
    assert len((await service.client.alerts()).alerts) == 2
    assert service.sample("mad_alerts_total", model="tiny", baseline="tiny") == 2


@pytest.mark.parametrize(
    "options",
    [
        pb.ScoreOptions(dry_run=True),
        pb.ScoreOptions(traffic=pb.TRAFFIC_TRUSTED),
        pb.ScoreOptions(traffic=pb.TRAFFIC_CANARY),
    ],
    ids=["dry run", "trusted", "canary"],
)
async def test_other_than_live_traffic_raises_no_alert(
    service: Running, options: pb.ScoreOptions
) -> None:
    answer = await service.client.score(anomalies(1), options=options)
    assert answer.scores[0].verdict.is_alert
    assert not answer.scores[0].alert_id
    assert not (await service.client.alerts()).alerts


async def test_concurrent_alerts_share_commits_and_keep_their_own_ids(service: Running) -> None:
    answers = await asyncio.gather(
        *(
            service.client.score(request(anomalies(1, seed=seed), request_id=str(seed)))
            for seed in range(20)
        )
    )
    listed = {alert.request_id: alert.alert_id for alert in (await service.client.alerts()).alerts}
    assert listed == {answer.request_id: answer.scores[0].alert_id for answer in answers}
    commits = service.sample("mad_alert_log_append_seconds_count", model="tiny")
    assert 1 <= commits < 20


async def test_a_caller_that_leaves_takes_no_alert_back(world: World, tmp_path: Path) -> None:
    alert_log = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    metrics = Metrics(CollectorRegistry(), model="tiny", false_alarm_rates=[])
    writer = AlertWriter(alert_log, metrics)
    inputs = anomalies(2)
    judgement = world.monitor.judge(inputs)
    alerts = drafts(world.monitor, judgement, inputs, request_id="gone", time=datetime.now(UTC))
    caller = asyncio.create_task(writer.write(list(alerts.values())))
    await asyncio.sleep(0)
    caller.cancel()
    writer.start()
    await writer.close()
    kept, _ = alert_log.page("", 10, "")
    alert_log.close()
    assert caller.cancelled()
    assert {alert.alert_id for alert in kept} == {alert.alert_id for alert in alerts.values()}


def test_digest_of_an_input_is_the_sha256_of_its_bytes_in_order_of_name() -> None:
    inputs = {"b": torch.ones(2, 3), "a": torch.tensor([1, 2], dtype=torch.int64)}
    content = np.int64(2).tobytes() + np.ones(3, np.float32).tobytes()
    assert digest(inputs, 1) == hashlib.sha256(content).hexdigest()
