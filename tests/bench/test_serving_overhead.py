"""The serving overhead benchmark: what it measures, of both models, at a small size."""

import io
import math
from itertools import count

import pytest
from rich.console import Console

from mad.bench.serving_overhead import STAGES, measure, run, show
from mad.bench.serving_worlds import MODELS, Size, Watched, watched

SMALL = Size(components=64, trusted=400, layers=6, width=16, heads=2, sequence=4)


@pytest.fixture(scope="module")
def transformer() -> Watched:
    return watched("transformer", SMALL, most=3)


def test_each_batch_has_a_row_with_every_stage() -> None:
    costs = run(["demo"], SMALL, batches=(1, 3), rounds=2)
    assert [(cost.model, cost.batch) for cost in costs] == [("demo", 1), ("demo", 3)]
    for cost in costs:
        assert tuple(cost.stages) == STAGES
        figures = (cost.bare, cost.judged, cost.ratio, cost.wall_ratio, *cost.stages.values())
        assert all(math.isfinite(figure) for figure in figures)
        assert cost.bare > 0
    printed = io.StringIO()
    show(costs, Console(file=printed, width=170))
    assert printed.getvalue().count("demo") == 2


def test_a_ratio_is_of_one_pair_and_what_no_stage_took_is_the_rest(transformer: Watched) -> None:
    processor, wall = count(0.0), count(0.0)
    cost = measure(
        "transformer",
        transformer.monitor,
        transformer.live(2),
        rounds=3,
        cpu=lambda: next(processor),
        wall=lambda: next(wall),
    )
    # Two readings around the bare model; around the monitor two, and seven in between.
    assert (cost.bare, cost.judged, cost.ratio, cost.wall_ratio) == (1e3, 8e3, 8.0, 1.0)
    assert set(cost.stages.values()) == {1e3}
    assert cost.rest == 3e3


def test_the_benchmark_measures_the_demo_and_a_transformer(transformer: Watched) -> None:
    assert MODELS == ("demo", "transformer")
    assert transformer.live(3)["tokens"].shape == (3, SMALL.sequence)
    assert len(transformer.monitor.judge(transformer.live(3)).verdicts) == 3
