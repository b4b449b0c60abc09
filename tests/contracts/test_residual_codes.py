"""Residuals of wide sites, and residuals around the mean of their context."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.spatial.distance import mahalanobis
from torch import Tensor

from mad.codes import low_rank
from mad.codes.base import Code
from mad.codes.contexts import SHRINKAGE, ContextMeans
from mad.codes.low_rank import LowRankCode, WideMoments, probes
from mad.codes.residual import RELATIVE_RESOLUTION, GaussianCode
from mad.codes.statistics import ResidualMoments
from tests.contracts.test_codes import residual_activity

GENERATOR = torch.Generator().manual_seed(0)
WIDTH, INPUTS = 12, 600
MIXING = torch.randn(WIDTH, WIDTH, generator=GENERATOR) * torch.logspace(0.5, -1.5, WIDTH)
CONTEXT = torch.randint(3, (INPUTS,), generator=GENERATOR)
RESIDUALS = (
    torch.randn(INPUTS, WIDTH, generator=GENERATOR) @ MIXING.T
    + 2 * CONTEXT.unsqueeze(1) * torch.linspace(-1, 1, WIDTH)
).double()
TRUSTED = residual_activity(RESIDUALS)
MEANS = ContextMeans.of(TRUSTED, CONTEXT)


@pytest.fixture(autouse=True)
def few_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give four directions a variance of their own, out of twelve."""
    monkeypatch.setattr(low_rank, "RANK", 4)
    monkeypatch.setattr(low_rank, "PROBES", WIDTH)


def wide(residuals: Tensor, *, seed: int = 0) -> WideMoments:
    generator = torch.Generator().manual_seed(seed)
    return WideMoments.of(residual_activity(residuals), probes(residuals.shape[1], generator))


def full_or_low_rank(kind: str, *, means: ContextMeans | None = None) -> Code:
    if kind == "gaussian":
        return GaussianCode.fit(ResidualMoments.of(TRUSTED), means)
    return LowRankCode.fit(wide(RESIDUALS), means)


def centres() -> Tensor:
    """Return each context's mean, shrunk, and last the mean over all, one row each."""
    overall = RESIDUALS.mean(dim=0)
    rows = []
    for context in range(3):
        own = RESIDUALS[context == CONTEXT]
        rows.append((own.sum(dim=0) + SHRINKAGE * overall) / (len(own) + SHRINKAGE))
    return torch.stack([*rows, overall])


def low_rank_covariance(away: Tensor) -> Tensor:
    """Return the covariance of the code in closed form, by eigenvectors of the exact one."""
    covariance = away.T @ away / len(away)
    values, vectors = torch.linalg.eigh(covariance)
    own, directions = values[-4:], vectors[:, -4:]
    left = (values.sum() - own.sum()) / (WIDTH - 4)
    shrink, mean_square = 4 / INPUTS + RELATIVE_RESOLUTION**2, values.mean()
    identity = torch.eye(WIDTH, dtype=torch.float64)
    along: Tensor = directions @ torch.diag(own - left) @ directions.T
    shrunk: Tensor = (1 - shrink) * (along + left * identity) + shrink * mean_square * identity
    return shrunk


@pytest.mark.parametrize("by_context", [False, True])
def test_with_enough_probes_the_low_rank_code_is_mahalanobis_in_closed_form(
    by_context: bool,
) -> None:
    around = centres()[CONTEXT] if by_context else RESIDUALS.mean(dim=0).expand(INPUTS, -1)
    covariance = low_rank_covariance(RESIDUALS - around)
    inverse = torch.linalg.inv(covariance).numpy()
    squared = torch.tensor(
        [mahalanobis(r, m, inverse) ** 2 for r, m in zip(RESIDUALS, around, strict=True)]
    )
    mean_square = (RESIDUALS - around).square().mean().item()
    floor = 0.5 * (math.log2(2 * math.pi) * WIDTH + torch.logdet(covariance).item() / math.log(2))
    floor -= WIDTH * math.log2(RELATIVE_RESOLUTION * math.sqrt(mean_square))
    code = full_or_low_rank("low rank", means=MEANS if by_context else None)
    expected = floor + squared / (2 * math.log(2))
    torch.testing.assert_close(code.lengths(TRUSTED, CONTEXT), expected, rtol=1e-7, atol=0)


def test_the_full_code_takes_its_covariance_around_the_means_of_contexts() -> None:
    away = RESIDUALS - centres()[CONTEXT]
    covariance = torch.from_numpy(np.cov(away.T, aweights=np.ones(INPUTS), bias=True))
    mean = away.mean(dim=0)
    covariance += torch.outer(mean, mean)
    shrink = WIDTH / INPUTS + RELATIVE_RESOLUTION**2
    identity = covariance.diagonal().mean() * torch.eye(WIDTH)
    inverse = torch.linalg.inv((1 - shrink) * covariance + shrink * identity)
    squared = ((away @ inverse) * away).sum(dim=1)
    code = GaussianCode.fit(ResidualMoments.of(TRUSTED), MEANS)
    expected = code.floor_bits + squared / (2 * math.log(2))
    torch.testing.assert_close(code.lengths(TRUSTED, CONTEXT), expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("kind", ["gaussian", "low rank"])
@pytest.mark.parametrize("means", [None, MEANS], ids=["one mean", "by context"])
def test_contributions_add_up_and_are_typical_on_average(
    kind: str, means: ContextMeans | None
) -> None:
    code = full_or_low_rank(kind, means=means)
    contributions = code.contributions(TRUSTED, CONTEXT)
    lengths = code.lengths(TRUSTED, CONTEXT)
    torch.testing.assert_close(contributions.sum(dim=1), lengths, rtol=1e-10, atol=1e-10)
    typical = code.typical(CONTEXT)[0]
    assert typical.sum().item() == pytest.approx(lengths.mean().item(), rel=1e-3)
    torch.testing.assert_close(contributions.mean(dim=0), typical, rtol=0.02, atol=0)


@pytest.mark.parametrize("kind", ["gaussian", "low rank"])
def test_a_context_shortens_residuals_that_depend_on_it(kind: str) -> None:
    blind = full_or_low_rank(kind).lengths(TRUSTED, CONTEXT).mean()
    code = full_or_low_rank(kind, means=MEANS)
    assert code.lengths(TRUSTED, CONTEXT).mean() < blind
    assert code.lengths(TRUSTED, (CONTEXT + 1) % 3).mean() > blind


@pytest.mark.parametrize("kind", ["gaussian", "low rank"])
def test_an_unseen_context_has_the_mean_over_all(kind: str) -> None:
    code = full_or_low_rank(kind, means=MEANS)
    middle = residual_activity(RESIDUALS.mean(dim=0, keepdim=True))
    unseen = [code.lengths(middle, torch.tensor([context])).item() for context in (-1, 99)]
    floor = code.contributions(middle, torch.tensor([99])).sum().item()
    assert unseen == pytest.approx([floor, floor])
    assert floor < code.lengths(middle, torch.tensor([0])).item()


def test_no_length_is_negative_at_the_densest_point_of_the_grid() -> None:
    spike = torch.zeros(INPUTS, WIDTH).double()
    spike[:, 0] = torch.randn(INPUTS, generator=GENERATOR).double()
    code = LowRankCode.fit(wide(spike))
    middle = residual_activity(spike.mean(dim=0, keepdim=True))
    assert code.lengths(middle, torch.tensor([-1])).item() >= 0


def test_the_low_rank_code_sums_to_one_over_its_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_rank, "RANK", 1)
    two = (
        torch.randn(INPUTS, 2, generator=GENERATOR).double()
        @ torch.tensor([[2.0, 0.5], [0.0, 0.1]]).double()
    )
    code = LowRankCode.fit(wide(two))
    step = RELATIVE_RESOLUTION * two.sub(two.mean(dim=0)).square().mean().sqrt().item()
    middle = two.mean(dim=0)
    total = 0.0
    for x in range(-700, 701):
        line = torch.arange(-200, 201) + x // 4
        grid = middle + step * torch.stack([torch.full_like(line, x), line], dim=1)
        lengths = code.lengths(residual_activity(grid), torch.full((len(grid),), -1))
        total += torch.exp2(-lengths).sum().item()
    assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 1e8 / 7])
def test_a_constant_residual_still_has_a_code(value: float) -> None:
    code = LowRankCode.fit(wide(torch.full((300, WIDTH), value).double()))
    here = torch.full((2, WIDTH), value).double()
    here[1, 1] += max(1.0, value)
    lengths = code.lengths(residual_activity(here), torch.tensor([-1, -1]))
    assert torch.isfinite(lengths).all()
    assert lengths[1] > lengths[0] >= 0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, INPUTS - 1), min_size=1, max_size=4))
def test_statistics_of_shards_merge_to_those_of_all(cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), INPUTS]
    pairs = list(itertools.pairwise(edges))
    moments = [wide(RESIDUALS[a:b]) for a, b in pairs]
    means = [ContextMeans.of(residual_activity(RESIDUALS[a:b]), CONTEXT[a:b]) for a, b in pairs]
    total, mean = moments[-1], means[-1]
    for other, other_mean in zip(moments[:-1], means[:-1], strict=True):
        total, mean = other.merge(total), mean.merge(other_mean)
    whole = wide(RESIDUALS)
    assert total.inputs == INPUTS
    torch.testing.assert_close(total.squares, whole.squares, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(total.sketch, whole.sketch, rtol=1e-10, atol=1e-9)
    assert torch.equal(mean.inputs, MEANS.inputs)
    torch.testing.assert_close(mean.mean, MEANS.mean, rtol=1e-12, atol=1e-12)


def test_an_input_costs_the_same_alone_and_in_a_batch() -> None:
    code = full_or_low_rank("low rank", means=MEANS)
    alone = [code.lengths(TRUSTED.row(i), CONTEXT[i : i + 1]) for i in range(50)]
    together = code.lengths(TRUSTED, CONTEXT)[:50]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-12, atol=0)


def test_a_sketch_finds_the_leading_variances_of_the_exact_covariance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten strong directions over an even floor, from a sketch of thirty columns."""
    monkeypatch.setattr(low_rank, "RANK", 10)
    monkeypatch.setattr(low_rank, "PROBES", 30)
    strengths = torch.cat([torch.linspace(20, 5, 10), torch.full((290,), 0.3)])
    data = torch.randn(1500, 300, generator=GENERATOR).double() * strengths
    exact = torch.linalg.eigvalsh(torch.from_numpy(np.cov(data.T, bias=True))).flip(0)
    directions, variance = wide(data).leading(10)
    torch.testing.assert_close(directions.T @ directions, torch.eye(10).double())
    assert (variance <= exact[:10] * (1 + 1e-9)).all()
    tail, bound = exact[10:].sum(), 1 + 10 / (30 - 10 - 1)
    assert tail < exact.sum() - variance.sum() < bound * tail
    torch.testing.assert_close(variance, exact[:10], rtol=0.1, atol=0)


def test_a_sketch_orders_inputs_as_the_exact_covariance_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(low_rank, "RANK", 10)
    strengths = torch.linspace(1, 300, 300).reciprocal() ** 0.7
    data = torch.randn(1500, 300, generator=GENERATOR).double() * strengths
    lengths = {}
    for columns in (30, 300):
        monkeypatch.setattr(low_rank, "PROBES", columns)
        code = LowRankCode.fit(wide(data))
        lengths[columns] = code.lengths(residual_activity(data), torch.full((1500,), -1))
    correlation = torch.corrcoef(torch.stack([lengths[30], lengths[300]]))[0, 1].item()
    assert correlation > 0.9
    assert lengths[30].mean().item() == pytest.approx(lengths[300].mean().item(), rel=0.01)
