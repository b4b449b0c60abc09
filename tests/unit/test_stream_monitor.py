"""A stream of surprises, its two channels, and what they remember."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from jaxtyping import Float64

from mad.streams.monitor import Stream, StreamMonitor

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def monitor() -> StreamMonitor:
    reference = np.sort(np.random.default_rng(0).standard_normal(2000))
    return StreamMonitor.of(reference, false_alarm_rate=0.01, inputs_per_false_alarm=100_000)


def ordinary(count: int) -> Float64[np.ndarray, " batch"]:
    return np.random.default_rng(1).standard_normal(count)


def begun(monitor: StreamMonitor) -> Stream:
    return monitor.start(seed=7, now=NOW)


def test_a_stream_begins_without_evidence(monitor: StreamMonitor) -> None:
    fast, never_false = monitor.readings(begun(monitor))
    assert (fast.channel, fast.evidence_bits, fast.alarm) == ("fast", 0.0, None)
    assert (never_false.channel, never_false.evidence_bits) == ("never_false", 0.0)
    assert fast.threshold_bits == pytest.approx(math.log2(100_001))
    # Half of one percent is left for the stream: the other half is for an unlucky reference.
    assert never_false.threshold_bits == pytest.approx(math.log2(200))


def test_an_ordinary_stream_raises_no_alarm(monitor: StreamMonitor) -> None:
    stream = monitor.advance(begun(monitor), ordinary(3000), now=NOW)
    assert stream.alarms == {}
    assert stream.inputs == 3000


def test_anomalies_after_a_long_ordinary_stream_raise_both(monitor: StreamMonitor) -> None:
    stream = monitor.advance(begun(monitor), ordinary(3000), now=NOW)
    later = NOW + timedelta(hours=1)
    stream = monitor.advance(stream, np.full(100, 6.0), now=later)
    fast, never_false = (reading.alarm for reading in monitor.readings(stream))
    assert fast is not None
    assert never_false is not None
    assert 3000 < fast.at_input < never_false.at_input <= 3100
    assert fast.time == never_false.time == later


def test_an_alarm_stays_as_it_was_first_raised(monitor: StreamMonitor) -> None:
    alarmed = monitor.advance(begun(monitor), np.full(60, 6.0), now=NOW)
    later = monitor.advance(alarmed, ordinary(3000), now=NOW + timedelta(days=1))
    assert set(alarmed.alarms) == {"fast", "never_false"}
    assert later.alarms == alarmed.alarms


def test_unremarkable_inputs_alone_are_never_evidence(monitor: StreamMonitor) -> None:
    stream = monitor.advance(begun(monitor), np.full(5000, -9.0), now=NOW)
    fast, never_false = monitor.readings(stream)
    assert fast.alarm is None
    assert never_false.evidence_bits < 0


def test_an_infinite_surprise_is_one_more_anomaly(monitor: StreamMonitor) -> None:
    stream = monitor.advance(begun(monitor), np.full(60, math.inf), now=NOW)
    assert set(stream.alarms) == {"fast", "never_false"}
    assert math.isfinite(stream.detector.bits)


def test_inputs_one_by_one_give_the_stream_of_the_batch(monitor: StreamMonitor) -> None:
    surprise = np.concatenate([ordinary(100), np.full(40, 5.0)])
    whole = monitor.advance(begun(monitor), surprise, now=NOW)
    single = begun(monitor)
    for one in surprise:
        single = monitor.advance(single, np.array([one]), now=NOW)
    assert single.alarms == whole.alarms
    assert (single.counts == whole.counts).all()
    assert single.detector.bits == pytest.approx(whole.detector.bits)
    assert single.martingale.bits == pytest.approx(whole.martingale.bits)


def test_no_inputs_change_nothing(monitor: StreamMonitor) -> None:
    stream = monitor.advance(begun(monitor), ordinary(50), now=NOW)
    same = monitor.advance(stream, np.empty(0), now=NOW)
    assert monitor.readings(same) == monitor.readings(stream)


def test_a_long_stream_takes_no_more_room(monitor: StreamMonitor) -> None:
    stream = monitor.advance(begun(monitor), ordinary(4000), now=NOW)
    assert stream.counts.size == begun(monitor).counts.size
    assert stream.counts.sum() == 6000


def test_the_seed_decides_the_ties(monitor: StreamMonitor) -> None:
    surprise = np.full(20, 0.5)
    one, same, other = (
        monitor.advance(monitor.start(seed=seed, now=NOW), surprise, now=NOW) for seed in (1, 1, 2)
    )
    assert one.detector.bits == same.detector.bits != other.detector.bits
