"""What watching costs: the figures are of as many baselines as get labels of their own."""

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from mad.bench.scrape.costs import bookkeeping_us, crowd, scrape_cpu
from mad.bench.scrape.windows import PERIODS_S, Window, compared
from mad.metrics import MAX_BASELINES, Metrics
from tests.service.running import live
from tests.worlds import tiny_world


def test_a_crowd_has_every_label_and_none_too_many() -> None:
    world = tiny_world()
    judgement = world.monitor.judge(live())
    registry = CollectorRegistry()
    metrics = Metrics(registry, model="tiny", false_alarm_rates=[0.05])
    crowd(metrics, judgement.verdicts)
    metrics.scored("tiny", "live", judgement.verdicts)
    cpu_ms, lines = scrape_cpu(world.monitor, judgement, times=2)
    scored = next(one for one in registry.collect() if one.name == "mad_inputs_scored")
    assert len({sample.labels["baseline"] for sample in scored.samples}) == MAX_BASELINES
    assert registry.get_sample_value("mad_metrics_label_overflow_total", {"model": "tiny"}) == 0
    assert lines > 400 * MAX_BASELINES
    assert cpu_ms > 0
    assert bookkeeping_us(world.monitor, judgement, times=300) > 0


def test_each_kind_of_window_is_held_against_the_bare_ones_of_its_block() -> None:
    rng = np.random.default_rng(0)
    bare = [Window(rng.gamma(4.0, 5.0, size=50) + level, ()) for level in range(8)]
    slower = [Window(one.taken_ms + 3.0, (0.1, 0.2)) for one in bare]
    windows = {kind: slower if kind == "often" else bare for kind in PERIODS_S}
    found = compared(windows, chance=rng)
    assert not found["control"].p99_more_ms.is_told_apart
    assert not found["control"].window_p99_more_ms.is_told_apart
    for more in (found["often"].p99_more_ms, found["often"].window_p99_more_ms):
        assert more.is_told_apart
        assert more.middle == pytest.approx(3.0)
    assert (found["often"].scrapes, found["often"].requests) == (16, 400)
