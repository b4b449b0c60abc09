"""The serving overhead benchmark: what it measures, of both models, at a small size."""

import io
import math
from itertools import count

import pytest
from rich.console import Console

from mad.bench.serving_overhead import STAGES, Overhead, measure, run, show
from mad.bench.serving_worlds import MODELS, Size, watched

SMALL = Size(components=64, trusted=480, layers=6, width=16, heads=2, sequence=4)


def test_both_models_have_a_row_for_each_batch_with_every_stage() -> None:
    costs = run(MODELS, SMALL, batches=(1, 3), rounds=2)
    assert [(cost.model, cost.batch) for cost in costs] == [
        (name, batch) for name in MODELS for batch in (1, 3)
    ]
    for cost in costs:
        assert tuple(cost.stages) == STAGES
        figures = (cost.bare, cost.judged, cost.ratio, cost.wall_ratio, *cost.stages.values())
        assert all(math.isfinite(figure) for figure in figures)
        assert cost.bare > 0
        assert cost.ratio > 0
    printed = io.StringIO()
    show(costs, Console(file=printed, width=170))
    assert printed.getvalue().count("transformer") == 2


def test_a_ratio_is_of_one_pair_and_what_no_stage_took_is_the_rest() -> None:
    world = watched("transformer", SMALL, most=2)
    processor, wall = count(0.0), count(0.0)
    cost = measure(
        "transformer",
        world.monitor,
        world.live(2),
        rounds=3,
        cpu=lambda: next(processor),
        wall=lambda: next(wall),
    )
    # Two readings around the bare model; around the monitor two, and eight in between.
    assert (cost.bare, cost.judged, cost.ratio, cost.wall_ratio) == (1e3, 9e3, 9.0, 1.0)
    assert set(cost.stages.values()) == {1e3}
    assert cost.rest == pytest.approx(4e3)
    assert isinstance(cost, Overhead)
