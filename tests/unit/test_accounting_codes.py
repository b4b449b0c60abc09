"""The codes of surprise accounting: each is a code, and says what theory says."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats
from torch import Tensor

from mad.codes.statistics import ResidualMoments, SetCounts
from mad.report.accounting import Described, bits_per_parameter, shortest
from mad.report.gaussian import Gaussians
from mad.report.magnitudes import MagnitudeCode, MagnitudeSums, Scale, log_mass
from mad.report.residuals import ResidualCodes, ResidualSums
from mad.report.sets import LabelCode
from mad.report.vocabularies import Directions, Neurons, Principal
from mad.types import Activity

FAR = 20_000


def activity(
    sets: list[list[int]], magnitudes: Tensor, x: Tensor, *, num_components: int
) -> Activity:
    counts = torch.tensor([0] + [len(one) for one in sets])
    return Activity(
        offsets=counts.cumsum(dim=0),
        components=torch.tensor(list(itertools.chain(*sets)), dtype=torch.int64),
        magnitudes=magnitudes,
        residual=x,
        activation=x,
        num_components=num_components,
    )


def said(numbers: Tensor) -> Activity:
    """Return one input for each number, all of the one component there is."""
    x = torch.zeros(len(numbers), 1)
    return activity([[0]] * len(numbers), numbers.double(), x, num_components=1)


def drawn(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    numbers = (40 + 15 * torch.randn(500, generator=generator, dtype=torch.float64)).round()
    return numbers[numbers != 0]


@pytest.mark.parametrize("scale", ["value", "logarithm"])
@pytest.mark.parametrize("shift", [0.0, -60.0])
def test_magnitudes_satisfy_kraft_with_equality(scale: Scale, shift: float) -> None:
    seen = drawn(0) + shift
    code = MagnitudeCode.fit(MagnitudeSums.of(said(seen[seen != 0])), scale)
    everything = torch.cat([torch.arange(-FAR, 0), torch.arange(1, FAR)])
    lengths = code.lengths(said(everything))
    assert torch.isfinite(lengths).all()
    assert float(torch.exp2(-lengths).sum()) == pytest.approx(1.0, abs=1e-3)
    assert float(torch.exp2(-lengths).sum()) <= 1 + 1e-9


def test_magnitudes_cost_the_mass_of_the_interval_that_rounds_to_them() -> None:
    numbers = drawn(1)
    code = MagnitudeCode.fit(MagnitudeSums.of(said(numbers)), "value")
    # One pseudo-entry drawn from all entries leaves mean and spread of one component as they are.
    bell = stats.norm(numbers.mean(), numbers.std(correction=0))
    mass = bell.cdf(numbers + 0.5) - bell.cdf(numbers - 0.5)
    not_zero = 1 - (bell.cdf(0.5) - bell.cdf(-0.5))
    expected = torch.as_tensor(-np.log2(mass / not_zero))
    assert torch.allclose(code.lengths(said(numbers)), expected, atol=1e-6)


@pytest.mark.parametrize("low", [-300.0, -5.0, 4.0, 300.0])
def test_mass_far_from_the_mean_is_not_lost(low: float) -> None:
    found = log_mass(torch.tensor([low]).double(), torch.tensor([low + 0.5]).double())
    near, far = sorted([abs(low), abs(low + 0.5)])
    tails = float(stats.norm.logsf(near)), float(stats.norm.logsf(far))
    expected = tails[0] + math.log1p(-math.exp(tails[1] - tails[0]))
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_sums_of_shards_merge_to_the_sums_of_all() -> None:
    numbers = drawn(2)
    whole = MagnitudeSums.of(said(numbers))
    merged = MagnitudeSums.of(said(numbers[:100])).merge(MagnitudeSums.of(said(numbers[100:])))
    assert torch.equal(merged.value_square, whole.value_square)
    assert torch.equal(merged.entries, whole.entries)
    assert torch.allclose(merged.logarithm_square, whole.logarithm_square, rtol=1e-12)


def plane(seed: int = 3) -> ResidualMoments:
    """Return moments of points on a plane, much wider one way than the other."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(400, 2, generator=generator, dtype=torch.float64)
    points = points @ torch.tensor([[3.0, 1.0], [0.0, 0.2]], dtype=torch.float64)
    return ResidualMoments.of(activity([[]] * 400, torch.empty(0), points, num_components=0))


@pytest.mark.parametrize("step", [0.1, 0.5, 4.0])
@pytest.mark.parametrize("choice", range(4))
def test_residuals_satisfy_kraft_on_a_grid_anywhere(step: float, choice: int) -> None:
    code = Gaussians.fit(plane(), step=step)
    reach = int(40 / step) + 20
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64) * step + 0.3 * step
    points = torch.cartesian_prod(axis, axis)
    away = points - code.mean
    along = away @ code.frame
    by_coordinate = away.square() / (2 * code.variance)
    squared = [
        along.square().sum(dim=1) / (2 * code.shared[0]),
        along[:, 0] ** 2 / (2 * code.along[0]) + along[:, 1] ** 2 / (2 * code.shared[1]),
        (along.square() / (2 * code.along)).sum(dim=1),
        by_coordinate.sum(dim=1),
    ][choice]
    # The mean length of the one point at the mean is the part that no point escapes.
    at_mean = list(code.candidates(code.squares(code.mean.unsqueeze(0))))[choice].whole.mean_bits
    lengths = at_mean + squared / math.log(2)
    assert float(torch.exp2(-lengths).sum()) == pytest.approx(1.0, abs=1e-6)


def test_residuals_with_all_directions_cost_minus_log_density_times_cell() -> None:
    moments, step = plane(), 0.01
    code = Gaussians.fit(moments, step=step)
    points = torch.tensor([[1.0, 0.5], [-2.0, 0.1], [7.0, -3.0]], dtype=torch.float64)
    covariance = (moments.scatter / moments.inputs).numpy()
    bell = stats.multivariate_normal(moments.mean.numpy(), covariance)
    expected = float(np.mean(-bell.logpdf(points.numpy()))) / math.log(2) - 2 * math.log2(step)
    all_directions = list(code.candidates(code.squares(points)))[2]
    assert all_directions.whole.mean_bits == pytest.approx(expected)
    # Mean 2, one angle, and two variances: as many as a mean and a covariance.
    assert all_directions.whole.parameters == 5


def test_a_residual_where_the_point_is_not_zero_pays_for_silence_and_each_spoken_coordinate() -> (
    None
):
    generator = torch.Generator().manual_seed(4)
    point = torch.randn(300, 3, generator=generator, dtype=torch.float64).round(decimals=1).relu()
    residual = 0.5 * torch.randn(300, 3, generator=generator, dtype=torch.float64) + 1
    described = replace(
        activity([[]] * 300, torch.empty(0), residual, num_components=0), activation=point
    )
    codes = ResidualCodes.fit(ResidualSums.of(described), step=0.1)
    silence = Described("independent", 3, 6, 2.5)
    *_, spoken = codes.candidates(codes.tally(described), silence=silence)
    bell = stats.norm(codes.mean.numpy(), codes.variance.sqrt().numpy())
    nats = -bell.logpdf(residual.numpy()) * (point != 0).numpy()
    each = nats.sum() / 300 / math.log(2) - float((point != 0).sum()) / 300 * math.log2(0.1)
    assert spoken.whole.mean_bits == pytest.approx(2.5 + each)
    assert spoken.whole.parameters == 3 + 2 * 3
    for j in range(3):
        own = residual[:, j][point[:, j] != 0]
        assert float(codes.mean[j]) == pytest.approx(float(own.mean()), abs=0.02)
        assert float(codes.variance[j]) == pytest.approx(float(own.var()), rel=0.05)


def test_labels_satisfy_kraft_with_one_symbol_for_all_unseen() -> None:
    counts = SetCounts(torch.tensor([2, 7]), torch.tensor([30, 10]), torch.zeros(2, 1).long())
    code = LabelCode.fit(counts)
    lengths = code.lengths(torch.tensor([2, 7, 5]))
    assert float(torch.exp2(-lengths).sum()) == pytest.approx(1.0)
    assert float(lengths[0]) == pytest.approx(-math.log2(30.5 / 41.5))
    assert float(code.lengths(torch.tensor([99]))) == float(lengths[2])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=6),
    st.floats(0.001, 2),
    st.floats(0.01, 20),
    st.integers(0, 2**31),
)
def test_what_was_said_reads_back_as_the_nearest_point_of_the_grid(
    sets: list[set[int]], step: float, coarseness: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(len(sets), 4, generator=generator)
    own_sets = [sorted(one) for one in sets]
    magnitudes = torch.randn(sum(map(len, own_sets)), generator=generator)
    one = activity(own_sets, magnitudes, x, num_components=6)
    directions = torch.randn(6, 4, generator=generator)
    directions[2] = 0
    words = Directions.of(x[0], directions, step=step, pitch=coarseness * step)
    point = (x.double() / step).round() * step
    used = torch.tensor([True, False, True, True, True])
    frame = torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
    principal = Principal(Directions.of(x[0], frame[:2], step=step, pitch=coarseness * step))
    for vocabulary in (Neurons(step, 4), words, words.using(used), principal):
        described = vocabulary.say(one)
        assert torch.allclose(vocabulary.read(described), point, atol=1e-9, rtol=0)
        assert (described.magnitudes != 0).all()
        assert torch.equal(described.magnitudes, described.magnitudes.round())


def test_directions_say_every_active_component_however_coarse_the_pitch() -> None:
    x = torch.ones(1, 2)
    one = activity([[0, 1]], torch.tensor([0.1, -0.1]), x, num_components=2)
    words = Directions.of(torch.zeros(2), torch.eye(2), step=0.01, pitch=5.0)
    assert words.say(one).magnitudes.tolist() == [1.0, -1.0]


@pytest.mark.parametrize(("inputs", "chosen"), [(16, "small"), (1024, "large")])
def test_a_code_with_more_parameters_must_pay_for_them(inputs: int, chosen: str) -> None:
    # 100 parameters more for a bit an input less: worth it from about 540 inputs on.
    small, large = Described("small", 0, 2, 8.0), Described("large", 100, 2, 7.0)
    assert shortest([small, large], inputs=inputs).code == chosen


def test_a_parameter_costs_half_the_logarithm_of_the_inputs() -> None:
    assert bits_per_parameter(1024) == 5.0
