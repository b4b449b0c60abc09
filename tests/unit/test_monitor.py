"""The monitor refuses what it was not fitted for, and says what a verdict is made of."""

import itertools
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from mad.baseline.bundle import InputSpec
from mad.capture.model import MonitoredModel
from mad.components.unexplained import Unexplained
from mad.errors import BaselineError, InputError
from mad.fit import split
from mad.monitor import Monitor
from mad.types import MECHANISM_TERMS
from tests.worlds import PLAN, World, ordinary, strange, tiny_module, tiny_world


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


def test_a_baseline_of_another_model_is_refused(world: World) -> None:
    other = MonitoredModel.of(tiny_module(seed=9), name="other", inputs=["x"])
    with pytest.raises(BaselineError, match=r"fitted on another model .* fit again"):
        Monitor.bind(other, world.decomposition, world.baseline)


def test_a_baseline_of_inputs_in_another_order_is_refused(world: World) -> None:
    specs = tuple(InputSpec(name, "float32", (8,)) for name in ("a", "b"))
    baseline = replace(world.baseline, manifest=replace(world.baseline.manifest, inputs=specs))
    model = replace(world.model, inputs=("b", "a"))
    with pytest.raises(BaselineError, match=r"on inputs \['a', 'b'\], .* given \['b', 'a'\]"):
        Monitor.bind(model, world.decomposition, baseline)


def test_a_baseline_of_another_decomposition_is_refused(world: World) -> None:
    with pytest.raises(BaselineError, match="fitted on another decomposition"):
        Monitor.bind(world.model, Unexplained("3"), world.baseline)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"y": torch.ones(1, 8)}, r"inputs are \['y'\]; the model takes \['x'\]"),
        ({}, r"inputs are \[\]"),
        ({"x": torch.ones(1, 8).double()}, "'x' is float64; the model takes float32"),
        ({"x": torch.ones(1, 9)}, r"shape \(1, 9\); expected \(batch, 8\)"),
        ({"x": torch.ones(8)}, r"shape \(8,\)"),
        ({"x": torch.tensor(1.0)}, r"shape \(\)"),
        ({"x": torch.ones(0, 8)}, "empty batch; send at least one input"),
        ({"x": torch.ones(3, 8).index_fill(0, torch.tensor(2), torch.nan)}, "first in row 2"),
        ({"x": torch.full((1, 8), -torch.inf)}, "NaN or infinite numbers, first in row 0"),
    ],
)
def test_inputs_unlike_the_trusted_ones_are_refused(
    world: World, inputs: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        world.monitor.check(inputs)


def test_inputs_of_one_number_each_are_checked_too(world: World) -> None:
    manifest = replace(world.baseline.manifest, inputs=(InputSpec("x", "float32", ()),))
    monitor = replace(world.monitor, baseline=replace(world.baseline, manifest=manifest))
    with pytest.raises(InputError, match="NaN or infinite numbers, first in row 1"):
        monitor.check({"x": torch.tensor([1.0, torch.nan])})


def test_inputs_like_the_trusted_ones_pass(world: World) -> None:
    world.monitor.check({"x": ordinary(3, seed=1)})


def test_a_verdict_names_context_and_active_components(world: World) -> None:
    x = ordinary(6, seed=2)
    labels = world.model.module(x).argmax(dim=1).tolist()
    verdicts = world.monitor.judge({"x": x}).verdicts
    assert [verdict.context for verdict in verdicts] == labels
    assert all(0 < verdict.active_components <= 8 for verdict in verdicts)
    assert [(part.site, part.term) for part in verdicts[0].parts] == [
        ("1", "set"),
        ("1", "output"),
        ("1", "residual"),
        ("1", "neighbours"),
        ("3", "set"),
        ("3", "output"),
        ("3", "residual"),
        ("3", "neighbours"),
    ]


def test_an_alert_is_exactly_a_p_value_at_or_under_the_rate(world: World) -> None:
    x = torch.cat([ordinary(200, seed=3), strange(50, seed=4)])
    manifest = world.baseline.manifest
    for verdict in world.monitor.judge({"x": x}).verdicts:
        assert verdict.is_alert == (verdict.p_value <= manifest.false_alarm_rate)
        assert verdict.is_alert == (verdict.surprise_bits > manifest.threshold_bits)


def test_charges_are_ranked_within_a_part_by_bits_above_typical(world: World) -> None:
    _, explanation = world.monitor.explain({"x": strange(1, seed=5)}, max_charges=500)
    # Two sites, each of 32 components, twice, 16 coordinates and one neighbourhood.
    assert len(explanation.charges) == 2 * (2 * 32 + 16 + 1)
    by_part: dict[tuple[str, str], list[float]] = {}
    for charge in explanation.charges:
        excess = charge.bits - charge.typical_bits
        by_part.setdefault((charge.site, charge.term), []).append(excess)
    assert len(by_part) == 8
    assert all(excess == sorted(excess, reverse=True) for excess in by_part.values())


def test_the_rarest_part_is_explained_first(world: World) -> None:
    verdict, explanation = world.monitor.explain({"x": strange(1, seed=5)}, max_charges=6)
    rarest = max(verdict.parts, key=lambda part: part.rarity_bits)
    first = explanation.charges[0]
    assert (first.site, first.term) == (rarest.site, rarest.term)


@pytest.mark.parametrize("measure", ["mechanism", "novelty"])
def test_what_alerts_go_by_is_told_before_all_else(
    measure: Literal["mechanism", "novelty"],
) -> None:
    watched = tiny_world(replace(PLAN, alert_on=measure)).monitor
    told = watched.explain({"x": strange(1, seed=5)}, max_charges=500)[1].charges
    above = [one for one in told if one.term != "neighbours" and one.bits > one.typical_bits]
    leads = [(one.term in MECHANISM_TERMS) == (measure == "mechanism") for one in above]
    assert leads == sorted(leads, reverse=True)
    assert 0 < sum(leads) < len(leads)


def test_the_bits_of_a_set_split_into_rare_components_and_their_combination(world: World) -> None:
    x = {"x": strange(1, seed=5)}
    (verdict,) = world.monitor.judge(x).verdicts
    sets = [part for part in verdict.parts if part.term == "set"]
    assert len(sets) == 2
    for part in sets:
        assert part.rare_components_bits is not None
        assert part.rare_combination_bits == part.bits - part.rare_components_bits
    others = [part for part in verdict.parts if part.term != "set"]
    assert {part.rare_combination_bits for part in others} == {None}


def test_an_explanation_shows_the_trusted_input_with_the_most_similar_set(world: World) -> None:
    row = int(split(600, PLAN).fitting[5])
    _, explanation = world.monitor.explain(world.trusted.take(torch.tensor([row])), max_charges=5)
    assert list(explanation.nearest) == ["1", "3"]
    for neighbour in explanation.nearest.values():
        # Another trusted input may have the same set; none can be nearer.
        assert neighbour.distance == 0
        assert (neighbour.missing, neighbour.extra) == ((), ())
        assert 1 <= len(neighbour.shared) <= 4


def test_a_neighbourhood_names_the_nearest_trusted_input(world: World) -> None:
    row = int(split(600, PLAN).fitting[3])
    verdict, explanation = world.monitor.explain(
        world.trusted.take(torch.tensor([row])), max_charges=500
    )
    nearest = [charge for charge in explanation.charges if charge.term == "neighbours"]
    assert [charge.index for charge in nearest] == [row, row]
    assert [charge.magnitude for charge in nearest] == pytest.approx([1, 1])
    assert not verdict.is_alert


def test_a_charge_for_a_component_has_a_trusted_rate_and_one_for_a_coordinate_none(
    world: World,
) -> None:
    _, explanation = world.monitor.explain({"x": strange(1, seed=5)}, max_charges=500)
    rates = [charge.trusted_rate for charge in explanation.charges if charge.term == "set"]
    assert len(rates) == 2 * 32
    assert all(rate is not None and 0 < rate < 1 for rate in rates)
    others = [charge.trusted_rate for charge in explanation.charges if charge.term == "residual"]
    assert set(others) == {None}


def test_stages_are_timed_with_the_given_clock(world: World) -> None:
    ticks = itertools.count(0.0)
    seconds = world.monitor.judge(
        {"x": ordinary(1, seed=6)}, clock=lambda: next(ticks)
    ).stage_seconds
    assert seconds == {
        "forward": 1,
        "components": 1,
        "codes": 1,
        "calibration": 1,
        "explanations": 1,
    }


def test_two_baselines_judge_one_run_of_the_model(world: World) -> None:
    stricter = replace(
        world.baseline, manifest=replace(world.baseline.manifest, false_alarm_rate=0.01)
    )
    other = Monitor.bind(world.model, world.decomposition, stricter)
    x = {"x": torch.cat([ordinary(20, seed=8), strange(4, seed=8)])}
    observed = world.monitor.scorer.observe(x)
    for monitor in (world.monitor, other):
        assert monitor.judge_observed(observed).verdicts == monitor.judge(x).verdicts


def test_without_charges_nothing_is_explained(world: World) -> None:
    observed = world.monitor.scorer.observe({"x": strange(3, seed=8)})
    judgement = world.monitor.judge_observed(observed, max_charges=0)
    assert all(verdict.is_alert for verdict in judgement.verdicts)
    assert judgement.explanations == {}


def test_a_rate_can_be_read_from_a_rebound_baseline(world: World) -> None:
    stricter = replace(
        world.baseline, manifest=replace(world.baseline.manifest, false_alarm_rate=0.01)
    )
    monitor = Monitor.bind(world.model, world.decomposition, stricter)
    x = {"x": ordinary(500, seed=7)}
    loose = sum(verdict.is_alert for verdict in world.monitor.judge(x).verdicts)
    assert sum(verdict.is_alert for verdict in monitor.judge(x).verdicts) < loose
