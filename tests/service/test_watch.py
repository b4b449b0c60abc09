"""A running server watches its live traffic, says so everywhere, and remembers over restarts."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from mad.client import channel
from mad.errors import ConfigError
from mad.metrics import Metrics
from mad.service.watch import MAX_PENDING, StreamWatch, WatchPlan
from mad.streams.checkpoint import load
from mad.types import Verdict
from mad.v1 import scoring_pb2 as pb, streams_pb2
from tests.service.running import Running, anomalies, build, live
from tests.worlds import World

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def alarmed(stream: streams_pb2.Stream) -> list[str]:
    return [channel(each) for each in stream.channels if each.HasField("alarm")]


def verdicts(world: World, *surprises: float) -> list[Verdict]:
    """Return verdicts whose surprise in bits is what each number says."""
    assert world.baseline.manifest.alert_on == "surprise"
    return [Verdict(bits, 0.0, 0.0, 0.0, 0.5, False, (), -1, 4) for bits in surprises]


@asynccontextmanager
async def watching(
    world: World, plan: WatchPlan, *, collectors: CollectorRegistry | None = None
) -> AsyncIterator[StreamWatch]:
    metrics = Metrics(collectors or CollectorRegistry(), model="tiny", false_alarm_rates=[0.05])
    watch = StreamWatch(world.baseline, plan, metrics=metrics, clock=lambda: NOON)
    watch.start()
    try:
        yield watch
    finally:
        await watch.close()


def revision(world: World) -> str:
    return world.baseline.revision


async def test_a_server_begins_with_a_stream_without_evidence(service: Running) -> None:
    stream = (await service.client.evidence()).stream
    assert (stream.baseline_revision, stream.inputs) == ("tiny@1", 0)
    assert [channel(each) for each in stream.channels] == ["fast", "never_false"]
    assert [each.evidence_bits for each in stream.channels] == [0, 0]
    assert alarmed(stream) == []


async def test_every_live_input_counts_as_soon_as_it_is_answered(service: Running) -> None:
    await asyncio.gather(*(service.client.score(live(3, seed=seed)) for seed in range(5)))
    assert (await service.client.evidence()).stream.inputs == 15


@pytest.mark.parametrize(
    "options",
    [
        pb.ScoreOptions(traffic=pb.TRAFFIC_TRUSTED),
        pb.ScoreOptions(traffic=pb.TRAFFIC_CANARY),
        pb.ScoreOptions(dry_run=True),
    ],
)
async def test_only_what_may_raise_alerts_counts(
    service: Running, options: pb.ScoreOptions
) -> None:
    await service.client.score(anomalies(8), options=options)
    assert (await service.client.evidence()).stream.inputs == 0


async def test_anomalies_raise_alarms_that_stand_until_they_are_reset(
    service: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="mad.service.watch"):
        for seed in range(4):
            await service.client.score(anomalies(40, seed=seed))
        await service.client.score(live(40))
        stream = (await service.client.evidence()).stream
        assert alarmed(stream) == ["fast", "never_false"]
        labels = {"model": "tiny", "baseline": "tiny", "channel": "fast"}
        assert service.sample("mad_stream_alarms_total", **labels) == 1
        raised = service.sample("mad_stream_alarm_timestamp_seconds", **labels)
        assert raised == pytest.approx(stream.channels[0].alarm.alarm_time.ToMicroseconds() / 1e6)
        answer = await service.client.reset_evidence()
    assert alarmed(answer.ended) == ["fast", "never_false"]
    assert (answer.begun.inputs, alarmed(answer.begun)) == (0, [])
    assert (await service.client.evidence()).stream == answer.begun
    assert service.sample("mad_stream_alarm_timestamp_seconds", **labels) == 0
    own = [record for record in caplog.records if record.name == "mad.service.watch"]
    lines = [record.getMessage().partition(":")[0] for record in own]
    assert lines == ["stream alarm", "stream alarm", "stream reset"]


async def test_a_restart_goes_on_where_the_server_stopped(world: World, tmp_path: Path) -> None:
    plan = WatchPlan(checkpoint=tmp_path / "stream.json", checkpoint_s=3600.0)
    async with watching(world, plan) as watch:
        watch.feed(revision(world), verdicts(world, *([1e9] * 60)))
        before = await watch.look()
    collectors = CollectorRegistry()
    async with watching(world, plan, collectors=collectors) as watch:
        after = await watch.look()
    assert after.readings == before.readings
    assert {reading.alarm is not None for reading in after.readings} == {True}
    labels = {"model": "tiny", "baseline": "tiny", "channel": "fast"}
    raised = collectors.get_sample_value("mad_stream_alarm_timestamp_seconds", labels)
    assert raised == NOON.timestamp()
    # A restart raises nothing: the alarm was counted by the server that raised it.
    assert collectors.get_sample_value("mad_stream_alarms_total", labels) == 0


async def test_an_alarm_and_a_reset_are_on_disk_at_once(world: World, tmp_path: Path) -> None:
    path = tmp_path / "stream.json"
    async with watching(world, WatchPlan(checkpoint=path, checkpoint_s=3600.0)) as watch:
        watch.feed(revision(world), verdicts(world, 1.0))
        await watch.look()
        assert load(path) is None
        watch.feed(revision(world), verdicts(world, *([1e9] * 60)))
        await watch.look()
        kept = load(path)
        assert kept is not None
        assert (kept.stream.inputs, set(kept.stream.alarms)) == (61, {"fast", "never_false"})
        await watch.reset()
        begun = load(path)
        assert begun is not None
        assert (begun.stream.inputs, begun.stream.alarms) == (0, {})


async def test_without_an_hour_to_wait_every_look_is_on_disk(world: World, tmp_path: Path) -> None:
    path = tmp_path / "stream.json"
    async with watching(world, WatchPlan(checkpoint=path, checkpoint_s=0.0)) as watch:
        watch.feed(revision(world), verdicts(world, 1.0, 2.0))
        await watch.look()
        kept = load(path)
    assert kept is not None
    assert kept.stream.inputs == 2


async def test_another_baseline_begins_another_stream_and_says_so(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = WatchPlan(checkpoint=tmp_path / "stream.json")
    async with watching(world, plan) as watch:
        watch.feed(revision(world), verdicts(world, *([1e9] * 60)))
    manifest = replace(world.baseline.manifest, version=9)
    other = replace(world, baseline=replace(world.baseline, manifest=manifest))
    async with watching(other, plan) as watch:
        after = await watch.look()
    assert (after.stream.inputs, after.stream.alarms) == (0, {})
    assert "another baseline, so another stream" in caplog.text


async def test_inputs_of_another_baseline_do_not_count(world: World) -> None:
    async with watching(world, WatchPlan()) as watch:
        watch.feed("other@1", verdicts(world, 1.0))
        assert (await watch.look()).stream.inputs == 0


async def test_the_measure_is_the_one_that_alerts_go_by(world: World) -> None:
    manifest = replace(world.baseline.manifest, alert_on="novelty")
    other = replace(world, baseline=replace(world.baseline, manifest=manifest))
    ordinary = float(world.baseline.references[2].median())
    calm = [Verdict(1e9, 1e9, ordinary, 0.0, 0.5, False, (), -1, 4)] * 60
    async with watching(other, WatchPlan()) as watch:
        watch.feed(other.baseline.revision, calm)
        assert (await watch.look()).stream.alarms == {}


async def test_what_too_many_wait_for_is_left_out_and_counted(world: World) -> None:
    collectors = CollectorRegistry()
    async with watching(world, WatchPlan(), collectors=collectors) as watch:
        watch.feed(revision(world), verdicts(world, *([1.0] * MAX_PENDING)))
        watch.feed(revision(world), verdicts(world, 1.0, 2.0))
        assert (await watch.look()).stream.inputs == MAX_PENDING
    name = "mad_stream_left_out_inputs_total"
    assert collectors.get_sample_value(name, {"model": "tiny"}) == 2


async def test_a_closed_watch_takes_nothing_and_disturbs_nobody(world: World) -> None:
    collectors = CollectorRegistry()
    async with watching(world, WatchPlan(), collectors=collectors) as watch:
        pass
    watch.feed(revision(world), verdicts(world, 1.0))
    name = "mad_stream_left_out_inputs_total"
    assert collectors.get_sample_value(name, {"model": "tiny"}) == 1


async def test_a_checkpoint_that_cannot_be_written_stops_nothing(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collectors = CollectorRegistry()
    plan = WatchPlan(checkpoint=tmp_path / "gone" / "stream.json", checkpoint_s=0.0)
    async with watching(world, plan, collectors=collectors) as watch:
        watch.feed(revision(world), verdicts(world, 1.0))
        assert (await watch.look()).stream.inputs == 1
    name = "mad_stream_checkpoint_errors_total"
    assert (collectors.get_sample_value(name, {"model": "tiny"}) or 0) > 0
    assert "stream not checkpointed" in caplog.text


def test_a_server_refuses_a_damaged_checkpoint(world: World, tmp_path: Path) -> None:
    path = tmp_path / "stream.json"
    path.write_text(json.dumps({"format": 1}))
    with pytest.raises(ConfigError, match=r"stream.json is no stream checkpoint"):
        build(world, tmp_path, collectors=CollectorRegistry(), watch=WatchPlan(checkpoint=path))


async def test_ordinary_traffic_in_groups_of_any_size_is_no_evidence(world: World) -> None:
    reference = world.baseline.reference.numpy()
    ordinary = np.random.default_rng(0).choice(reference, 600)
    async with watching(world, WatchPlan()) as watch:
        for group in np.split(ordinary, [1, 10, 100, 101, 400]):
            watch.feed(revision(world), verdicts(world, *group))
        now = await watch.look()
    assert now.stream.inputs == 600
    assert now.stream.alarms == {}
    assert now.stream.began == NOON
