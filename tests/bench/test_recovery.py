"""Toys are what they say, and dictionaries find what is known to be in them."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from mad.bench.recovery import SETTINGS, Curve, Point, curve, draw, rows
from mad.bench.toys import Toy, correlated, gaussians, square, superposed
from mad.components.dictionaries.plan import Initial, Kind


def drawn(toy: Toy, count: int = 4_000, seed: int = 0) -> torch.Tensor:
    return toy.draw(count, torch.Generator().manual_seed(seed))


def occurring(toy: Toy, vectors: torch.Tensor) -> torch.Tensor:
    """Return which features vectors are sums of, where directions are independent."""
    assert toy.directions is not None
    strengths: torch.Tensor = vectors @ torch.linalg.pinv(toy.directions)
    return strengths > 0.25


def test_features_are_superposed_as_often_as_asked_for() -> None:
    toy = superposed(features=12, coordinates=16, active=3.0)
    occurs = occurring(toy, drawn(toy, 20_000))
    assert occurs.any(dim=1).all()
    # Twelve coins of a fourth, and one feature where none of them falls.
    expected = 3 + 0.75**12
    assert float(occurs.double().sum(dim=1).mean()) == pytest.approx(expected, abs=0.05)


def test_frequencies_follow_zipf_and_mandelbrot() -> None:
    toy = superposed(features=12, coordinates=16, active=3.0, rates="zipf")
    rates = occurring(toy, drawn(toy, 40_000)).double().mean(dim=0)
    assert float(rates[0] / rates[11]) == pytest.approx(22 / 11, rel=0.05)


def test_correlated_features_occur_together() -> None:
    toy = correlated(features=12, coordinates=16, active=2, groups=3)
    occurs = occurring(toy, drawn(toy, 20_000)).double()
    together = (occurs.T @ occurs / len(occurs)).fill_diagonal_(0)
    same = torch.block_diag(*[torch.ones(4, 4)] * 3) - torch.eye(12)
    inside = (together * same).sum() / same.sum()
    across = (together * torch.block_diag(*[torch.ones(4, 4)] * 3).logical_not()).sum() / 96
    assert inside > 3 * across > 0


def test_gaussians_lie_about_their_centres() -> None:
    toy = gaussians(clusters=5, coordinates=8, spread=0.1)
    assert toy.directions is not None
    away, place = torch.cdist(drawn(toy, 20_000), toy.directions).min(dim=1)
    assert float(away.square().mean().sqrt()) == pytest.approx(0.1, rel=0.02)
    assert place.bincount(minlength=5) / 20_000 == pytest.approx(torch.full((5,), 0.2), abs=0.02)


def test_points_fill_the_unit_square() -> None:
    points = drawn(square(), 20_000)
    assert square().directions is None
    assert 0 <= float(points.min()) < float(points.max()) <= 1
    assert float(points.var()) == pytest.approx(1 / 12, rel=0.02)


def test_no_training_starts_at_the_directions_to_find() -> None:
    toy = superposed(seed=0)
    assert toy.directions is not None
    start = torch.randn(toy.directions.shape, generator=torch.Generator().manual_seed(0))
    cosines = functional.normalize(start, dim=1) @ toy.directions.T
    assert float(cosines.max()) < 0.8


def test_the_same_seed_draws_the_same_vectors() -> None:
    for make in (superposed, correlated, gaussians, square):
        assert drawn(make(), 10).equal(drawn(make(), 10))
        assert not drawn(make(), 10).equal(drawn(make(), 10, seed=1))


def test_a_curve_is_measured_where_asked_and_after_the_last_step() -> None:
    toy = superposed(features=24, coordinates=16, active=2.0)
    plan = SETTINGS["superposed"].plan(width=48, k=3, steps=30, batch_size=128)
    found = curve(toy, plan, at=(1, 10))
    assert [one.steps for one in found.points] == [1, 10, 30]
    assert found.points[-1].unexplained_variance < found.points[0].unexplained_variance
    assert found.points == curve(toy, plan, at=(1, 10)).points


def test_where_nothing_is_known_nothing_is_recovered() -> None:
    plan = SETTINGS["square"].plan(steps=5, batch_size=128)
    found = curve(square(), plan, at=())
    assert math.isnan(found.points[-1].recovered)
    assert rows([found])[0][7:10] == ("n/a", "n/a", "n/a")


def test_steps_to_a_share_left_over_are_the_first_measured() -> None:
    points = tuple(Point(step, 1.0, 1 / step, 0.0, 0.0, 0.0) for step in (1, 2, 4))
    found = Curve("toy", "topk", "data", 0, points, None, 0.0)
    assert found.steps_to(0.5) == 2
    assert found.steps_to(0.1) == math.inf


def test_curves_are_drawn(tmp_path: Path) -> None:
    points = tuple(Point(step, 1.0, 1 / step, 0.5, 0.5, 0.5) for step in (1, 2, 4))
    curves = [Curve(toy, "topk", "data", 0, points, None, 0.0) for toy in ("one", "two")]
    draw(curves, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_small_dictionary_finds_a_dozen_gaussians() -> None:
    plan = SETTINGS["gaussians"].plan(steps=150, batch_size=256)
    found = curve(gaussians(), plan, at=())
    assert found.points[-1].recovered == 1


def recovered(kind: Kind, initial: Initial = "data", *, steps: int = 1_500) -> Curve:
    setting = SETTINGS["superposed"]
    return curve(setting.toy(), setting.plan(kind=kind, initial=initial, steps=steps))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
def test_superposed_features_are_recovered(kind: Kind) -> None:
    assert recovered(kind).points[-1].recovered >= 0.95


@pytest.mark.slow
def test_data_points_reach_a_share_left_over_in_fewer_steps_than_random_directions() -> None:
    data, anywhere = (recovered("topk", initial, steps=200) for initial in ("data", "random"))
    for share in (0.3, 0.2, 0.15):
        assert data.steps_to(share) < anywhere.steps_to(share)


@pytest.mark.slow
def test_an_l1_penalty_shrinks_and_says_how_much() -> None:
    found = recovered("relu", steps=400)
    assert found.shrunk is not None
    assert 0.5 < found.shrunk < 0.98
