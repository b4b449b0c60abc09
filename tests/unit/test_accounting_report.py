"""Surprise accounting against closed forms: what describes trusted activations in how many bits."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from mad.arrays import Table
from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.kinds.topk import TopKEncoder
from mad.components.dictionaries.topk import topk_dictionary
from mad.components.unexplained import Unexplained
from mad.errors import ConfigError
from mad.report import Accounting, AccountingPlan, Rows, Source, account
from mad.report.accounting import SHARES
from tests.worlds import quiet

SITE = "0"
WIDTH = 16
COUNT = 3_000


@dataclass(frozen=True)
class Case:
    """Activations, and a decomposition to describe them with."""

    x: Tensor
    decomposition: Decomposition


def accounting(case: Case, *, relative_step: float = 0.01) -> Accounting:
    """Account for a model whose one site is its input; a third of the inputs is held out."""
    model = MonitoredModel.of(nn.Sequential(nn.Identity()), name="identity", inputs=["x"])
    every = torch.arange(len(case.x))
    rows = Rows.of(every[every % 3 > 0], inputs=len(every))
    source = Source(model, case.decomposition, Table({"x": case.x}), "none")
    return account(source, rows, AccountingPlan(relative_step=relative_step), progress=quiet)


@functools.cache
def found_in(case: Callable[[], Case]) -> Accounting:
    """Account for a case once for all tests that only read."""
    return accounting(case())


def bits(found: Accounting, vocabulary: str) -> float:
    return sum(found.per_input(vocabulary).values())


def mean_bits(found: Accounting, vocabulary: str) -> float:
    return sum(one.mean_bits for one in found.of(vocabulary))


def dictionary(directions: Tensor, *, k: int) -> Dictionary:
    """Return the dictionary of orthonormal directions."""
    return topk_dictionary(
        site=SITE,
        pooling="auto",
        k=k,
        encoder=directions.T.contiguous(),
        bias=torch.zeros(len(directions)),
        decoder=directions,
        centre=torch.zeros(directions.shape[1]),
        scale=torch.tensor(1.0),
    )


def gaussian_entropy(deviations: list[float]) -> float:
    """Return the entropy of independent Gaussians, in bits."""
    return sum(float(stats.norm(scale=one).entropy()) for one in deviations) / math.log(2)


def rotation(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    turned: Tensor = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator)).Q
    return turned


def sparse(count: int = COUNT) -> Case:
    """Return two of 16 hidden directions at a time, and a little noise; the dictionary is true."""
    generator = torch.Generator().manual_seed(1)
    hidden = rotation(0)
    chosen = torch.rand(count, WIDTH, generator=generator).topk(2, dim=1).indices
    strength = 1 + torch.rand(count, 2, generator=generator)
    z = torch.zeros(count, WIDTH).scatter(1, chosen, strength)
    noise = 0.01 * torch.randn(count, WIDTH, generator=generator)
    return Case(z @ hidden + noise, dictionary(hidden, k=2))


def correlated() -> Case:
    """Return a Gaussian with few strong directions, and a dictionary of others."""
    generator = torch.Generator().manual_seed(2)
    deviation = torch.logspace(0, -1, WIDTH)
    x = torch.randn(COUNT, WIDTH, generator=generator) * deviation @ rotation(3)
    return Case(x + 5, dictionary(rotation(4), k=4))


def independent() -> Case:
    """Return independent Gaussian coordinates, far enough from zero never to be silent."""
    generator = torch.Generator().manual_seed(5)
    deviation = torch.linspace(0.5, 2, WIDTH)
    x = 30 + torch.randn(COUNT, WIDTH, generator=generator) * deviation
    return Case(x, dictionary(rotation(4), k=4))


@pytest.mark.parametrize("case", [sparse, correlated, independent])
def test_every_vocabulary_describes_each_activation_to_within_half_a_grid_step(
    case: Callable[[], Case],
) -> None:
    errors = [one.largest_error_steps for one in found_in(case).sites]
    assert len(errors) == 3
    assert all(0.45 < error < 0.5 + 1e-6 for error in errors)


def test_the_true_generator_of_sparse_activations_describes_them_in_the_fewest_bits() -> None:
    found = found_in(sparse)
    assert bits(found, "dictionary") < min(bits(found, "PCA"), bits(found, "neurons")) - 10


def test_principal_directions_describe_correlated_gaussians_in_the_fewest_bits() -> None:
    found = found_in(correlated)
    assert bits(found, "PCA") < min(bits(found, "dictionary"), bits(found, "neurons")) - 1


def test_principal_directions_cost_the_entropy_of_a_gaussian() -> None:
    found = found_in(correlated)
    entropy = gaussian_entropy(np.logspace(0, -1, WIDTH).tolist())
    cells = WIDTH * math.log2(found.sites[0].step)
    # Estimated from 2,000 inputs, measured on 1,000 others: the tolerance is what chance does.
    assert mean_bits(found, "PCA") == pytest.approx(entropy - cells, abs=0.3)


def test_neurons_cost_the_entropy_of_independent_gaussians() -> None:
    found = found_in(independent)
    entropy = gaussian_entropy(np.linspace(0.5, 2, WIDTH).tolist())
    cells = WIDTH * math.log2(found.sites[0].step)
    assert mean_bits(found, "neurons") == pytest.approx(entropy - cells, abs=0.3)


def test_the_set_and_the_magnitudes_of_the_generator_cost_what_drawing_them_takes() -> None:
    found = found_in(sparse)
    (own,) = found.of("dictionary")
    assert own.set.code == "independent"
    assert own.active == pytest.approx(2)
    coin = float(stats.bernoulli(2 / WIDTH).entropy()) / math.log(2)
    assert own.set.mean_bits == pytest.approx(WIDTH * coin, abs=0.1)
    # A Gaussian code of uniform strengths: its cross-entropy is that of a Gaussian as wide.
    strength = gaussian_entropy([math.sqrt(1 / 12)])
    pitch = own.pitch_steps * own.step
    assert own.magnitudes.mean_bits == pytest.approx(2 * (strength - math.log2(pitch)), abs=0.2)


def test_a_grid_twice_as_fine_costs_a_bit_a_coordinate() -> None:
    coarse, fine = accounting(independent(), relative_step=0.02), found_in(independent)
    for vocabulary in ("neurons", "PCA"):
        finer = mean_bits(fine, vocabulary) - mean_bits(coarse, vocabulary)
        assert finer == pytest.approx(WIDTH, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("unused", [1, 5])
def test_an_unused_component_costs_exactly_its_parameters(unused: int) -> None:
    case = sparse()
    assert isinstance(case.decomposition, Dictionary)
    own = case.decomposition
    assert isinstance(own.encoder, TopKEncoder)
    more = replace(
        own,
        encoder=replace(
            own.encoder,
            weight=torch.cat([own.encoder.weight, torch.zeros(WIDTH, unused)], dim=1),
            bias=torch.cat([own.encoder.bias, torch.full((unused,), -1.0)]),
        ),
        decoder=torch.cat([own.decoder, rotation(9)[:unused]]),
    )
    (before,) = found_in(sparse).of("dictionary")
    (after,) = accounting(replace(case, decomposition=more)).of("dictionary")
    assert after.mean_bits == before.mean_bits
    # A direction, the set's coin, and the mean and spread of its magnitudes, at 1/2 log2 n each.
    expected = unused * (WIDTH + 1 + 2) * 0.5 * math.log2(COUNT)
    assert after.parameter_bits(COUNT) - before.parameter_bits(COUNT) == pytest.approx(expected)


def test_a_component_first_used_after_the_fit_stays_in_the_residual() -> None:
    case = sparse()
    assert isinstance(case.decomposition, Dictionary)
    x = case.x.clone()
    x[0] = 3 * case.decomposition.decoder[0] + 3 * rotation(9)[0]
    uses_first = (x @ case.decomposition.decoder[0]) > 0.5
    x = torch.cat([x[:1], x[1:][~uses_first[1:]]])  # input 0 is held out
    (own,) = accounting(replace(case, x=x)).of("dictionary")
    assert own.largest_error_steps < 0.5 + 1e-6
    assert math.isfinite(own.mean_bits)


def test_without_components_a_decomposition_is_its_principal_directions() -> None:
    found = accounting(replace(correlated(), decomposition=Unexplained(SITE)))
    (pca,), (nothing,) = found.of("PCA"), found.of("dictionary")
    assert nothing.parameters == pca.parameters
    assert nothing.mean_bits == pytest.approx(pca.mean_bits)


def test_more_inputs_share_the_parameters() -> None:
    few, many = accounting(sparse(600)), found_in(sparse)
    for vocabulary in few.vocabularies:
        assert many.per_input(vocabulary)["parameters"] < few.per_input(vocabulary)["parameters"]
    (own,) = many.of("dictionary")
    growth = own.parameter_bits(4 * COUNT) - own.parameter_bits(COUNT)
    assert growth == pytest.approx(own.parameters)  # half of log2 4 each


def test_shares_add_up_to_parameters_once_and_the_mean_for_every_input() -> None:
    found = found_in(sparse)
    for one in found.sites:
        whole = one.parameter_bits(COUNT) + COUNT * one.mean_bits
        assert found.total_bits(one.vocabulary) == pytest.approx(whole)
        assert set(found.per_input(one.vocabulary)) == set(SHARES)


def test_clusters_pay_where_components_come_together() -> None:
    generator = torch.Generator().manual_seed(6)
    group = torch.randint(4, (COUNT,), generator=generator)
    z = torch.eye(4)[group].repeat_interleave(4, dim=1)
    noise = 0.01 * torch.randn(COUNT, WIDTH, generator=generator)
    x = z * (1 + torch.rand(COUNT, WIDTH, generator=generator)) @ rotation(0) + noise
    (own,) = accounting(Case(x, dictionary(rotation(0), k=4))).of("dictionary")
    assert own.set.code == "mixture of 4"
    assert own.set.mean_bits == pytest.approx(2.0, abs=0.2)


def test_behind_a_rectifier_every_residual_is_told_which_coordinates_are_zero() -> None:
    generator = torch.Generator().manual_seed(7)
    patterns = torch.eye(4).repeat_interleave(4, dim=1) / 2
    strength = torch.randn(COUNT, 4, generator=generator).relu()
    x = strength @ patterns * (1 + 0.05 * torch.randn(COUNT, WIDTH, generator=generator))
    found = accounting(Case(x, dictionary(patterns, k=4)))
    for vocabulary in ("PCA", "dictionary"):
        (own,) = found.of(vocabulary)
        assert own.residual.code.startswith("gaussian where not zero")
    # A direction says once what four coordinates have in common, and a component only when it is.
    assert bits(found, "dictionary") < bits(found, "PCA") - 1 < bits(found, "neurons") - 5


def test_a_site_too_wide_for_a_covariance_is_refused_with_the_remedy() -> None:
    wide = torch.randn(12, 4_097, generator=torch.Generator().manual_seed(8))
    with pytest.raises(ConfigError, match="4097 coordinates"):
        accounting(Case(wide, Unexplained(SITE)))


def test_the_same_data_and_plan_give_the_same_accounting() -> None:
    assert accounting(sparse()) == found_in(sparse)


def test_activations_that_are_no_numbers_are_refused_by_site() -> None:
    case = correlated()
    case.x[7, 3] = torch.nan
    with pytest.raises(ConfigError, match="site '0' gives NaN"):
        accounting(case)
