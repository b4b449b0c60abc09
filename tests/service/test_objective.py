"""Calibration as an objective: what is sent, as trusted or as canaries, is what the series say."""

import grpc
import pytest

from mad.calibration.health import binomial_interval
from mad.client import request
from mad.metrics.exposition import exposition
from mad.service.lately import BLOCK
from mad.service.observed import Observations
from mad.v1 import scoring_pb2 as pb
from tests.service.running import Running, anomalies, live
from tests.worlds import World, numbered

OF = {"model": "tiny", "baseline": "tiny"}


async def send(service: Running, traffic: "pb.Traffic.ValueType", seeds: range, **of: bool) -> int:
    """Send batches of 50; return how many p-values are at or under the baseline's own rate."""
    options = pb.ScoreOptions(traffic=traffic)
    alarms = 0
    for seed in seeds:
        inputs = (anomalies if of.get("strange") else live)(50, seed=seed)
        answer = await service.client.score(request(inputs, options=options))
        alarms += sum(score.verdict.p_value <= 0.05 for score in answer.scores)
    return alarms


async def test_before_trusted_traffic_nothing_is_claimed(service: Running) -> None:
    for name in ("window_samples", "wealth_log10", "ks_ratio"):
        assert service.sample(f"mad_calibration_{name}", **OF) == 0
    trusted = {**OF, "traffic": "trusted", "alpha": "0.05"}
    assert service.collectors.get_sample_value("mad_calibration_observed_ratio", trusted) is None


async def test_trusted_traffic_as_promised_is_seen_to_be(service: Running) -> None:
    alarms = await send(service, pb.TRAFFIC_TRUSTED, range(20, 32))
    assert service.sample("mad_calibration_window_samples", **OF) == 600
    trusted = {**OF, "traffic": "trusted", "alpha": "0.05"}
    low, high = binomial_interval(alarms, 600)
    assert service.sample("mad_calibration_observed_ratio", **trusted) == alarms / 600
    assert service.sample("mad_calibration_observed_low_ratio", **trusted) == pytest.approx(low)
    assert service.sample("mad_calibration_observed_high_ratio", **trusted) == pytest.approx(high)
    assert service.sample("mad_calibration_wealth_log10", **OF) < 2
    assert service.sample("mad_calibration_ks_ratio", **OF) < 0.15
    for site in ("1", "3"):
        assert (
            service.sample("mad_component_drift_shannons", **OF, traffic="trusted", site=site) < 1
        )
    bucket = service.sample("mad_p_value_bucket", **OF, traffic="trusted", le="0.05")
    assert bucket == alarms


async def test_trusted_traffic_that_is_not_leaves_no_doubt(service: Running) -> None:
    await send(service, pb.TRAFFIC_TRUSTED, range(4), strange=True)
    assert service.sample("mad_calibration_wealth_log10", **OF) > 4
    assert service.sample("mad_calibration_ks_ratio", **OF) > 0.9
    drifts = [
        service.sample("mad_component_drift_shannons", **OF, traffic="trusted", site=site)
        for site in ("1", "3")
    ]
    assert max(drifts) > 1


async def test_canaries_are_found_and_are_no_evidence_against_calibration(service: Running) -> None:
    found = await send(service, pb.TRAFFIC_CANARY, range(4), strange=True)
    canaries = {**OF, "traffic": "canary", "alpha": "0.05"}
    assert found > 190
    assert service.sample("mad_calibration_observed_ratio", **canaries) == found / 200
    assert service.sample("mad_calibration_wealth_log10", **OF) == 0
    assert service.sample("mad_components_unseen_total", **OF) == 0


async def test_live_uses_of_components_that_trusted_data_never_used_are_counted_once(
    service: Running, world: World
) -> None:
    inputs = anomalies(40)
    never = {
        part.site: (part.marginal.rate * (world.baseline.manifest.fit_inputs + 1) < 0.75).nonzero()
        for part in world.baseline.parts
        if part.marginal is not None
    }
    seen = world.monitor.scorer.observe(inputs).activity
    uses = sum(
        int(seen[view].components.unsqueeze(1).eq(those.T).sum()) for view, those in never.items()
    )
    await service.client.score(inputs)
    assert uses > 0
    assert service.sample("mad_components_unseen_total", **OF) == uses
    assert service.sample("mad_components_unseen_total", **OF) == uses


async def test_an_alert_is_found_from_the_bucket_that_counted_it(service: Running) -> None:
    answer = await service.client.score(anomalies(1))
    written, _ = exposition(service.collectors, "application/openmetrics-text; version=1.0.0")
    raised = [line for line in written.decode().splitlines() if answer.scores[0].alert_id in line]
    assert [line.partition("{")[0] for line in raised] == [
        "mad_surprise_shannons_bucket",
        "mad_p_value_bucket",
    ]


async def test_messages_are_counted_each_way(service: Running) -> None:
    score = {"grpc_service": "mad.v1.ScoringService"}
    unary = {**score, "grpc_type": "unary", "grpc_method": "Score"}
    streamed = {**score, "grpc_type": "bidi_stream", "grpc_method": "ScoreStream"}
    await service.client.score(live(2))
    with pytest.raises(grpc.aio.AioRpcError):
        await service.client.score({})
    requests = [request(live(1, seed=seed)) for seed in range(3)]
    assert len([answer async for answer in service.client.stream(requests)]) == 3
    for name, of_unary in (("received", 2), ("sent", 1)):
        assert service.sample(f"grpc_server_msg_{name}_total", **unary) == of_unary
        assert service.sample(f"grpc_server_msg_{name}_total", **streamed) == 3


def test_another_revision_begins_anew(world: World) -> None:
    observations = Observations(clock=lambda: world.baseline.manifest.created)
    baselines = [numbered(world.baseline, number) for number in (1, 2)]
    observations.feed(baselines[0], "trusted", world.monitor.judge(anomalies(64)))

    def read(number: int) -> float:
        lately = observations.lately(baselines[number].revision)
        return lately["trusted"][0].wealth_log10 if lately else 0.0

    assert read(0) > 4
    assert read(1) == 0


def test_what_is_told_of_is_the_last_few_thousand(world: World) -> None:
    observations = Observations(clock=lambda: world.baseline.manifest.created)
    strange, ordinary = (world.monitor.judge(each(64)) for each in (anomalies, live))
    for judgement in (strange, ordinary):
        for _ in range(2 * BLOCK // 64 + 10):
            observations.feed(world.baseline, "live", judgement)
    seen, window = observations.lately(world.baseline.revision)["live"]
    assert BLOCK <= window.p.size <= 2 * BLOCK
    assert window.looked == window.p.size
    assert seen.inputs > 4 * BLOCK
    assert (window.p <= 0.05).mean() < 0.3
    for view, used in window.used.items():
        assert used.sum() == window.looked / 64 * ordinary.rows[0].components(view).size
