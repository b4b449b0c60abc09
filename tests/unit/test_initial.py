"""Where training starts: as asked, at the length and activity asked for."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.initial import initial
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryPlan, Initial
from mad.components.dictionaries.train import train

PLAN = DictionaryPlan(width=96, k=3, seed=4)
STARTS = pytest.mark.parametrize("way", get_args(Initial))


def superposed(count: int = 6_000) -> Tensor:
    """Return sums of three of 64 directions in 32 dimensions, about the origin."""
    generator = torch.Generator().manual_seed(0)
    directions = functional.normalize(torch.randn(64, 32, generator=generator), dim=1)
    chosen = torch.rand(count, 64, generator=generator).topk(3, dim=1).indices
    strengths = 1 + torch.rand(count, 3, 1, generator=generator)
    vectors = (directions[chosen] * strengths).sum(dim=1)
    return (vectors - vectors.mean(dim=0)) / vectors.std()


VECTORS = superposed()
OWN, ACROSS = Examples.own(VECTORS), Examples(VECTORS, VECTORS[:, :20].contiguous())


@STARTS
@pytest.mark.parametrize("examples", [OWN, ACROSS], ids=["own", "across"])
def test_directions_have_unit_length_and_stand_where_they_belong(
    way: Initial, examples: Examples
) -> None:
    start = initial(examples, replace(PLAN, initial=way))
    assert start.encoder.shape == (32, 96)
    assert start.decoder.shape == (96, examples.target.shape[1])
    torch.testing.assert_close(start.decoder.norm(dim=1), torch.ones(96))
    lengths = start.encoder.norm(dim=0)
    torch.testing.assert_close(lengths, lengths[:1].expand(96))


@STARTS
def test_an_autoencoder_reads_what_it_writes(way: Initial) -> None:
    start = initial(OWN, replace(PLAN, initial=way))
    cosines = (functional.normalize(start.encoder, dim=0).T * start.decoder).sum(dim=1)
    torch.testing.assert_close(cosines, torch.ones(96))


@STARTS
def test_the_first_reconstruction_is_neither_too_long_nor_too_short(way: Initial) -> None:
    start = initial(OWN, replace(PLAN, initial=way))
    before = VECTORS @ start.encoder
    kept = before.topk(3, dim=1)
    explained = torch.zeros_like(before).scatter(1, kept.indices, kept.values.relu())
    explained = explained @ start.decoder
    length = (explained * VECTORS).sum() / explained.square().sum()
    assert float(length) == pytest.approx(1, abs=0.05)


@STARTS
def test_as_many_latents_as_asked_exceed_the_threshold(way: Initial) -> None:
    start = initial(OWN, replace(PLAN, initial=way))
    active = (VECTORS @ start.encoder > start.threshold).sum(dim=1).float().mean()
    assert float(active) == pytest.approx(3, abs=0.2)


@STARTS
def test_the_stretch_makes_up_for_a_threshold_that_is_subtracted(way: Initial) -> None:
    start = initial(OWN, replace(PLAN, initial=way))
    explained = start.stretch * (VECTORS @ start.encoder - start.threshold).relu() @ start.decoder
    length = (explained * VECTORS).sum() / explained.square().sum()
    assert float(length) == pytest.approx(1, abs=0.05)


def test_a_start_at_data_points_is_near_them() -> None:
    def nearest(way: Initial) -> Tensor:
        decoder = initial(OWN, replace(PLAN, initial=way)).decoder
        return (decoder @ functional.normalize(VECTORS, dim=1).T).amax(dim=1)

    # Noise of a tenth of the length leaves a cosine of about 1 / sqrt(1.01).
    assert nearest("data").min() > 0.98
    assert nearest("random").median() < 0.8


@pytest.mark.parametrize("examples", [OWN, ACROSS], ids=["own", "across"])
def test_a_principal_start_spans_the_axes_of_most_variance(examples: Examples) -> None:
    start = initial(examples, replace(PLAN, initial="pca", width=10))
    axes = torch.linalg.svd(VECTORS, full_matrices=False).Vh[:5]
    read = functional.normalize(start.encoder, dim=0)
    # Both ways along each: ten directions within the span of five.
    torch.testing.assert_close((axes @ read).norm(dim=0), torch.ones(10))
    assert torch.linalg.matrix_rank(read, atol=1e-3) == 5
    torch.testing.assert_close(read[:, 0::2], -read[:, 1::2])


def test_a_principal_start_of_more_latents_than_axes_varies_as_the_vectors_do() -> None:
    stretched = VECTORS * torch.linspace(3, 0.1, 32)
    start = initial(Examples.own(stretched), replace(PLAN, initial="pca", width=2_000))
    later = start.decoder[64:]
    share = later[:, :8].square().sum() / later.square().sum()
    expected = stretched[:, :8].square().sum() / stretched.square().sum()
    assert float(share) == pytest.approx(float(expected), abs=0.1)


def test_the_start_is_drawn_from_the_seed() -> None:
    for way in ("data", "random"):
        first, again = (initial(OWN, replace(PLAN, initial=way)) for _ in range(2))
        other = initial(OWN, replace(PLAN, initial=way, seed=5))
        assert torch.equal(first.encoder, again.encoder)
        assert not torch.equal(first.decoder, other.decoder)


def steps_to(share: float, way: Initial) -> int:
    plan = replace(PLAN, initial=way, steps=200, batch_size=256, learning_rate=3e-3)
    left: list[float] = []
    train(Look.at("site", "auto"), OWN, plan, step_done=lambda _, one: left.append(one.unexplained))
    return next(step for step, one in enumerate(left) if one < share)


def test_data_points_get_to_a_given_loss_in_fewer_steps_than_chance() -> None:
    assert steps_to(0.35, "data") < 0.8 * steps_to(0.35, "random")
