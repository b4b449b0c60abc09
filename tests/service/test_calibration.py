"""Observed alarm rates beside promised ones, over a bounded memory, and what is used otherwise."""

from datetime import UTC, datetime

import grpc
import numpy as np
import pytest

from mad.client import request
from mad.judgement import Judgement
from mad.service.observed import SAMPLE, Observations
from mad.v1 import scoring_pb2 as pb
from tests.service.running import Running, anomalies, live
from tests.worlds import World

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def score(
    service: Running, count: int, *, seed: int, traffic: "pb.Traffic.ValueType"
) -> None:
    options = pb.ScoreOptions(traffic=traffic)
    inputs = (anomalies if traffic == pb.TRAFFIC_CANARY else live)(count, seed=seed)
    await service.client.score(request(inputs, options=options))


async def test_nothing_seen_is_said(service: Running) -> None:
    found = await service.client.calibration()
    assert (found.baseline_revision, found.inputs) == ("tiny@1", 0)
    assert found.rates[0].nominal == 0.05
    assert (found.rates[0].observed_low, found.rates[0].observed_high) == (0, 1)
    assert not found.drifts
    assert "no inputs yet" in found.summary


async def test_ordinary_traffic_alarms_as_promised_and_canaries_do_not_join_it(
    service: Running,
) -> None:
    for seed in range(100, 110):
        await score(service, 60, seed=seed, traffic=pb.TRAFFIC_LIVE)
    for seed in range(3):
        await score(service, 20, seed=seed, traffic=pb.TRAFFIC_CANARY)
    ordinary = await service.client.calibration("tiny")
    assert ordinary.inputs == 600
    assert [rate.nominal for rate in ordinary.rates] == [0.05, 0.001, 0.005, 0.01, 0.1]
    own = ordinary.rates[0]
    assert own.observed_low <= own.alarms / 600 <= own.observed_high
    assert own.observed_low < 0.05
    assert own.chance_low <= own.observed <= own.chance_high
    assert own.chance_low < 0.05 < own.chance_high
    assert "within chance" in ordinary.summary
    assert ordinary.recent.inputs == 600
    assert [rate.alarms for rate in ordinary.recent.rates] == [r.alarms for r in ordinary.rates]
    assert ordinary.recent.gap == pytest.approx(ordinary.gap)
    assert ordinary.wealth_log10 == 0
    canaries = await service.client.calibration(traffic="canary", max_components=3)
    assert (canaries.inputs, canaries.rates[0].alarms) == (60, 60)
    assert canaries.gap_p_value < 1e-6
    assert "more than chance explains" in canaries.summary
    assert len(canaries.drifts) == 3
    bits = [drift.saved_bits for drift in canaries.drifts]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] > 1
    sites = [drift.saved_bits for drift in canaries.recent.site_drifts]
    assert sites == sorted(sites, reverse=True)
    assert sites[0] > bits[0] / 2


async def test_rates_of_use_are_those_of_what_was_scored(service: Running, world: World) -> None:
    inputs = live(64, seed=3)
    await service.client.score(inputs)
    seen = world.monitor.scorer.observe(inputs).activity
    found = await service.client.calibration(max_components=100)
    assert found.drifts
    for drift in found.drifts:
        activity = seen[drift.view]
        assert drift.observed_rate == int((activity.components == drift.component).sum()) / 64


async def test_what_cannot_be_told_is_refused(service: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="max_components is 101") as refused:
        await service.client.calibration(max_components=101)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError, match="'other' is not loaded") as unknown:
        await service.client.calibration("other")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_long_stream_is_counted_whole_and_sampled_evenly(world: World) -> None:
    observations = Observations(clock=lambda: NOW, chance=np.random.default_rng(0))
    alarming, ordinary = (world.monitor.judge(each(64)) for each in (anomalies, live))
    rounds = SAMPLE // 64 + 200
    for judgement in (alarming, ordinary):
        for _ in range(rounds):
            observations.feed(world.baseline, "live", Judgement(**vars(judgement)))
    _, seen = observations.look(world.baseline, "live")
    assert seen.inputs == 2 * 64 * rounds
    assert seen.alarms[0] >= 64 * rounds
    assert len(seen.sample) == SAMPLE
    # Half of all inputs were alarming; the sample's own deviation is 0.005.
    assert (seen.sample <= 0.05).mean() == pytest.approx(seen.alarms[0] / seen.inputs, abs=0.03)
