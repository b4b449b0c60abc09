"""Two usages, two sets of codes and two matrices held against each other: bits known by hand."""

import json
import math
from dataclasses import replace

import pytest
import torch

from mad.codes.magnitudes import MagnitudeCode
from mad.components.joined import Joined
from mad.components.parameters.decomposition import ParameterDecomposition
from mad.components.parameters.importance import ScalarImportance
from mad.components.parameters.layers import MatrixLayer, matrix_layer, matrix_of
from mad.components.parameters.subcomponents import Subcomponents
from mad.errors import ConfigError
from mad.fit import FitPlan, fit
from mad.report.diff import (
    Diff,
    Expressed,
    Rows,
    Usage,
    as_json,
    diff_baselines,
    diff_models,
    diff_sheet,
    expressed,
    moves,
    weights_of,
)
from tests.worlds import CREATED, World, quiet, tiny_module, tiny_world

GAUSSIAN = 1e7
"""Degrees of freedom at which Student's density is the Gaussian one, to six digits."""


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


def usage(
    rates: list[float], location: float = 0.0, scale: float = 1.0, *, inputs: int = 1_000
) -> Usage:
    """Return coins of some rates, magnitudes all alike."""
    row = torch.ones(1, len(rates), dtype=torch.float64)
    rate = torch.tensor(rates, dtype=torch.float64)
    code = MagnitudeCode(
        torch.zeros(0, dtype=torch.int64),
        rate.unsqueeze(0),
        location * row,
        scale * row,
        GAUSSIAN * row,
        negative_rate=0.5,
    )
    return Usage(inputs, rate, code)


def test_two_coins_differ_by_their_divergence() -> None:
    """1/2 described at 1/4: half a bit saved, and half of log2(3/2) lost: 1 - log2(3)/2."""
    found = moves(usage([0.5, 0.25]), usage([0.25, 0.25]))
    assert found.rates.tolist() == pytest.approx([1 - math.log2(3) / 2, 0.0])


def test_a_magnitude_one_deviation_off_costs_half_a_nat_each_time_it_is_used() -> None:
    found = moves(usage([0.25]), usage([0.25], location=1.0))
    assert found.magnitudes.tolist() == pytest.approx([0.25 * 0.5 / math.log(2)], rel=1e-5)


def test_a_magnitude_of_twice_the_spread_costs_a_bit_less_what_it_gains() -> None:
    """Gaussians of spread 1 and 2: ln 2 + 1/8 - 1/2 nats."""
    found = moves(usage([1 - 1e-9]), usage([1 - 1e-9], scale=2.0))
    nats = math.log(2) + 1 / 8 - 1 / 2
    assert found.magnitudes.tolist() == pytest.approx([nats / math.log(2)], rel=1e-5)


def test_what_chance_does_to_thousands_of_rates_is_next_to_nothing() -> None:
    """Ten inputs in a thousand are ten either way of chance; halves become quarters by none."""
    few = moves(usage([0.010] * 2_000, inputs=1_000), usage([0.012] * 2_000, inputs=1_000))
    assert float(few.rates.sum()) > 0.4
    assert few.beyond_chance < 0.01
    one = moves(usage([0.5]), usage([0.25]))
    assert one.beyond_chance == pytest.approx(1 - math.log2(3) / 2, abs=0.02)


def test_magnitudes_that_nobody_described_are_unknown() -> None:
    bare = replace(usage([0.5]), magnitudes=None)
    found = moves(bare, usage([0.25]))
    assert found.magnitudes.isnan().all()
    assert found.total.tolist() == found.rates.tolist()


def test_usages_of_other_components_are_refused() -> None:
    with pytest.raises(ConfigError, match="one has 1 components and the other 2"):
        moves(usage([0.5]), usage([0.5, 0.5]))


def parts(v: list[list[float]], u: list[list[float]]) -> Subcomponents:
    """Return subcomponents of a layer called ``a``; importance is of no account here."""
    columns, rows = torch.tensor(v).float().T, torch.tensor(u).float()
    width = len(rows)
    importance = ScalarImportance(
        torch.ones(width, 1), torch.ones(width, 1), torch.ones(width, 1), torch.ones(width)
    )
    layer = MatrixLayer("a", "linear", columns.shape[0], rows.shape[1])
    return Subcomponents(layer, columns, rows, importance)


def test_a_stronger_subcomponent_is_found_and_the_rest_is_what_is_left() -> None:
    """The first is half as strong again; 3 and 4 are in directions that are not decomposed."""
    pieces = parts([[1, 0, 0], [0, 1, 0]], [[2, 0], [0, 1]])
    first = pieces.v @ pieces.u
    second = first + torch.tensor([[1.0, 3.0], [0.0, 0.0], [0.0, 4.0]])
    found = expressed(pieces, first, second)
    assert found.factors.tolist() == pytest.approx([0.5, 0.0], abs=1e-9)
    assert found.explained == pytest.approx(1 / 26)
    assert found.change == pytest.approx(26 / 5)
    assert found.sizes.tolist() == pytest.approx([1 / math.sqrt(26), 0.0], abs=1e-9)


def test_twins_share_what_either_could_have_done() -> None:
    """Of the combinations that leave as little, the smallest: two thirds by equal twins."""
    pieces = parts([[1, 0], [1, 0]], [[1, 0], [1, 0]])
    first = pieces.v @ pieces.u
    found = expressed(pieces, first, first + torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert found.factors.tolist() == pytest.approx([0.5, 0.5])
    assert found.explained == pytest.approx(1.0)


def test_weights_that_are_the_same_have_nothing_to_explain() -> None:
    pieces = parts([[1, 0]], [[1, 0]])
    found = expressed(pieces, torch.eye(2), torch.eye(2))
    assert (found.change, found.factors.tolist()) == (0.0, [0.0])
    assert math.isnan(found.explained)


def test_every_layer_of_a_decomposition_is_expressed() -> None:
    """The second model's first layer has a subcomponent doubled; its last is as it was."""
    first, second = tiny_module(), tiny_module()
    pieces = []
    for name in ("0", "4"):
        layer = matrix_layer(first, name)
        left, values, right = torch.linalg.svd(matrix_of(first, layer), full_matrices=False)
        ones = torch.ones(len(values), 1)
        importance = ScalarImportance(ones, ones, ones, ones[:, 0])
        pieces.append(Subcomponents(layer, left * values, right, importance))
    with torch.no_grad():
        extra = torch.outer(pieces[0].v[:, 3], pieces[0].u[3])
        second.get_parameter("0.weight").add_(extra.T)
    decomposition = Joined((ParameterDecomposition.of(first, pieces),))
    one, two = weights_of(decomposition, first, second)
    assert one.factors.tolist() == pytest.approx([0, 0, 0, 1, 0, 0, 0, 0], abs=1e-5)
    assert one.explained == pytest.approx(1.0)
    assert two.change == 0.0


def rows(world: World) -> Rows:
    """Return some trusted inputs."""
    return Rows(world.trusted, torch.arange(0, 100))


def test_a_baseline_has_not_moved_from_itself(world: World) -> None:
    found = diff_baselines(
        world.monitor.scorer, world.baseline, world.baseline, rows(world), progress=quiet
    )
    assert {one.more for one in found.lengths} == {0.0}
    assert all(abs(float(one.moves.total.sum())) < 1e-9 for one in found.views)
    assert [one.view for one in found.views] == list(world.decomposition.views)


def test_lengths_are_those_that_either_baseline_gives(world: World) -> None:
    """Fitted on half as much, with another rule for contexts and another code of sets."""
    plan = FitPlan(name="other", false_alarm_rate=0.05, context="none", set_code="independent")
    other = fit(
        world.model, world.decomposition, world.trusted, plan, created=CREATED, progress=quiet
    )
    monitor = world.monitor
    found = diff_baselines(monitor.scorer, world.baseline, other, rows(world), progress=quiet)
    inputs = world.trusted.take(torch.arange(0, 100))
    ours = monitor.scorer.score(inputs).ledger
    theirs = (
        replace(monitor, baseline=other)
        .bind(world.model, world.decomposition, other)
        .scorer.score(inputs)
        .ledger
    )
    first = dict(zip(ours.keys, ours.bits.mean(dim=0).tolist(), strict=True))
    second = dict(zip(theirs.keys, theirs.bits.mean(dim=0).tolist(), strict=True))
    for one in found.lengths:
        key = (one.site, one.term)
        assert one.first == pytest.approx(first[key]) if key in first else math.isnan(one.first)
        assert one.second == pytest.approx(second[key]) if key in second else math.isnan(one.second)
    assert {(one.site, one.term) for one in found.lengths} == first.keys() | second.keys()


def test_baselines_of_other_components_or_rules_are_refused(world: World) -> None:
    manifest = world.baseline.manifest
    scorer = world.monitor.scorer
    for changed, said in (
        (replace(manifest, decomposition_fingerprint="no"), "of another decomposition"),
        (replace(manifest, activity="effect"), "different rules, effect and magnitude"),
    ):
        other = replace(world.baseline, manifest=changed)
        with pytest.raises(ConfigError, match=said):
            diff_baselines(scorer, world.baseline, other, rows(world), progress=quiet)


def of_models(world: World, *, seed: int) -> Diff:
    """Hold the world's model against one of other weights."""
    scorer = world.monitor.scorer
    other = replace(world.model, module=tiny_module(seed).eval())
    return diff_models(
        scorer,
        replace(scorer, model=other),
        rows(world),
        names=("one", "two"),
        progress=quiet,
    )


def test_the_same_weights_use_the_same_components(world: World) -> None:
    found = of_models(world, seed=0)
    assert {one.more for one in found.lengths} == {0.0}
    assert all(abs(float(one.moves.total.sum())) < 1e-9 for one in found.views)


def test_other_weights_cost_more_under_the_first_ones_codes(world: World) -> None:
    found = of_models(world, seed=9)
    sets = [one for one in found.lengths if one.term == "set"]
    assert all(one.more > 3 * one.error > 0 for one in sets)
    assert all(one.moves.beyond_chance > 0 for one in found.views)


def test_a_page_and_figures_tell_what_moved(world: World) -> None:
    found = replace(
        of_models(world, seed=9),
        weights=(
            Expressed("0", 0.5, 0.25, torch.tensor([0.125]).double(), torch.tensor([0.5]).double()),
            Expressed("2", 0.0, math.nan, torch.zeros(1).double(), torch.zeros(1).double()),
        ),
    )
    sheet = diff_sheet(found, top=3)
    titles = [section.title for section in sheet.sections]
    assert titles == [
        "Lengths by site and term",
        "Components that moved",
        "Weights of 0",
        "Weights of 2",
    ]
    moved = sheet.sections[1].tables[1].rows
    assert len(moved) == 3
    assert sheet.sections[2].tables[0].rows == (("0:0", "12.5 %", "50 %"),)
    assert "account for 25 % of it" in sheet.sections[2].prose
    assert sheet.sections[3].prose == "They are the same."
    figures = json.loads(json.dumps(as_json(found), allow_nan=False))
    view = next(iter(world.decomposition.views))
    component = int(moved[0][0].rpartition(":")[2])
    assert moved[0][0].rpartition(":")[0] in figures["views"]
    assert len(figures["views"][view]["components"]) > component
