"""Training by description length: what the bits are, and that they find the number of latents."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.base import Forward, Step
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kinds.bits import (
    BitsLearner,
    Usage,
    magnitude_bits,
    residual_bits,
    set_bits,
)
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.train import figures, train_autoencoder
from mad.fit.description import description_bits

NONE_DEAD = torch.zeros(0, dtype=torch.int64)


def test_sets_that_use_latents_at_the_running_rates_cost_the_coins_entropies() -> None:
    rates = torch.tensor([0.5, 0.1, 0.01])
    nats = sum(float(stats.bernoulli(float(rate)).entropy()) for rate in rates)
    assert float(set_bits(rates, rates)) == pytest.approx(nats / math.log(2), rel=1e-5)


def test_one_more_active_latent_costs_its_log_odds() -> None:
    rates = torch.tensor([0.5, 0.2, 0.01], requires_grad=True)
    set_bits(rates, torch.tensor([0.5, 0.125, 0.02])).backward()
    assert rates.grad is not None
    assert rates.grad.tolist() == pytest.approx([0, math.log2(7), math.log2(49)], rel=1e-5)


def test_a_latent_never_seen_costs_finitely_many_bits() -> None:
    assert set_bits(torch.ones(2), torch.zeros(2)).isfinite()


def drawn_latents() -> tuple[Latents, Tensor]:
    """Return values of three latents, the second at two and a half on average, and a table."""
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(400, 3, generator=generator) * torch.tensor([1.0, 3.0, 0.2]) + 1
    table = table * (torch.rand(400, 3, generator=generator) < torch.tensor([0.9, 0.5, 0.1]))
    return Latents.where(table > 0, table), table


def seen(latents: Latents) -> Usage:
    usage = Usage.begin(3, active=1, magnitude=9.0)
    for _ in range(1_000):
        usage.saw(latents)
    return usage


def test_usage_comes_to_the_rates_means_and_variances() -> None:
    latents, table = drawn_latents()
    usage = seen(latents)
    for latent in range(3):
        values = table[:, latent][table[:, latent] > 0]
        assert float(usage.rate[latent]) == pytest.approx(len(values) / 400, rel=1e-3)
        assert float(usage.mean[latent]) == pytest.approx(float(values.mean()), rel=1e-3)
        assert float(usage.variance[latent]) == pytest.approx(
            float(values.var(correction=0)), rel=1e-2
        )


def test_magnitudes_cost_their_gaussian_densities_on_the_grid() -> None:
    latents, table = drawn_latents()
    usage, step = seen(latents), 0.05
    rates = (table > 0).float().mean(dim=0)
    forward = Forward(torch.zeros(400, 2), latents, rates=rates)
    nats = 0.0
    for latent in range(3):
        values = table[:, latent][table[:, latent] > 0].double()
        spread = math.sqrt(float(values.var(correction=0)) + step**2)
        density = stats.norm(float(values.mean()), spread)
        nats -= float((density.logpdf(values) + math.log(step)).sum())
    found = float(magnitude_bits(forward, usage, torch.ones(3), step=step))
    assert found == pytest.approx(nats / math.log(2) / 400, rel=1e-3)


def test_one_more_magnitude_costs_what_a_value_at_the_threshold_would() -> None:
    latents, _ = drawn_latents()
    usage, step = seen(latents), 0.05
    rates = torch.tensor([0.9, 0.5, 0.1], requires_grad=True)
    threshold = torch.tensor([1.1, 0.8, 1.0])
    forward = Forward(torch.zeros(400, 2), latents, rates=rates)
    magnitude_bits(forward, usage, threshold, step=step).backward()
    spread = (usage.variance + step**2).sqrt()
    density = stats.norm(usage.mean.double(), spread.double())
    wanted = -(density.logpdf(threshold.double()) + math.log(step)) / math.log(2)
    assert rates.grad is not None
    assert rates.grad.tolist() == pytest.approx(wanted.tolist(), rel=1e-4)


def test_errors_cost_the_entropies_of_their_gaussians_on_the_grid() -> None:
    error = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    error = error * torch.tensor([0.1, 1.0, 3.0, 0.0])
    deviations = (error.double().square().mean(dim=0) + 0.01).sqrt()
    nats = sum(float(stats.norm(0, float(one)).entropy()) - math.log(0.1) for one in deviations)
    assert float(residual_bits(error, step=0.1)) == pytest.approx(nats / math.log(2), rel=1e-5)


def test_once_begun_the_loss_is_the_share_of_the_bits_without_latents() -> None:
    generator = torch.Generator().manual_seed(0)
    decoder = functional.normalize(torch.randn(16, 8, generator=generator), dim=1)
    start = Start(decoder.T.clone(), torch.zeros(16), decoder, threshold=torch.tensor(1e6))
    learner = BitsLearner.begin(start, DictionaryPlan(kind="bits", width=16, k=2))
    source = torch.randn(64, 8, generator=generator)
    forward = learner.forward(source)
    assert forward.latents.components.numel() == 0
    penalty = learner.penalty(forward, Examples.own(source), Step(0.5, NONE_DEAD))
    # Nothing is active: the error is the target, and the set says so by sixteen coins of 1/8.
    silence = 16 * math.log2(8 / 7)
    gaussian = float(residual_bits(source, step=0.01))
    assert float(penalty.detach()) + 1 == pytest.approx(1 + silence / gaussian, rel=1e-5)


def sums(count: int) -> tuple[Tensor, Tensor]:
    """Return sums of six of 128 directions in 64 dimensions, and the directions."""
    generator = torch.Generator().manual_seed(0)
    directions = functional.normalize(torch.randn(128, 64, generator=generator), dim=1)
    chosen = torch.rand(count, 128, generator=generator).topk(6, dim=1).indices
    strengths = 1 + torch.rand(count, 6, 1, generator=generator)
    return (directions[chosen] * strengths).sum(dim=1), directions


def trained(vectors: Tensor, plan: DictionaryPlan) -> Dictionary:
    return train_autoencoder("site", vectors, plan, step_done=lambda *_: None)


def described(dictionary: Dictionary, vectors: Tensor) -> float:
    """Return the bits of held-out vectors by codes that know nothing of the training."""
    step = 0.01 * float(vectors.std())
    return description_bits(
        dictionary, vectors[:6_000], vectors[6_000:], step=step, inputs=len(vectors)
    )


@pytest.mark.slow
@pytest.mark.parametrize("first", [3, 16])
def test_description_length_finds_how_many_latents_are_active(first: int) -> None:
    """Six are, whether training begins with three or sixteen, either of which costs more bits."""
    vectors, directions = sums(8_000)
    plan = DictionaryPlan(
        kind="bits", width=256, k=first, steps=500, batch_size=512, learning_rate=4.5e-3
    )
    dictionary = trained(vectors, plan)
    assert figures(dictionary, vectors).active_latents == pytest.approx(6, rel=0.2)
    cosines = dictionary.decoder @ directions.T
    assert (cosines.amax(dim=0) > 0.95).float().mean() > 0.95
    fixed = trained(vectors, replace(plan, kind="topk"))
    assert described(dictionary, vectors) < described(fixed, vectors) - 10
