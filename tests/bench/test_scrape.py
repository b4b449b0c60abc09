"""What watching costs: the figures are of as many baselines as get labels of their own."""

from prometheus_client import CollectorRegistry

from mad.bench.scrape import bookkeeping_us, crowd, scrape_cpu
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
