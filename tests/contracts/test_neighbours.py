"""The laws of the code of directions: a kernel density on a grid, left to others when its own."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm
from torch import Tensor
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from mad.codes.base import Code
from mad.codes.neighbours import NeighbourCode
from mad.codes.statistics import Kept
from mad.types import Activity

GENERATOR = torch.Generator().manual_seed(0)
NO_CONTEXT = torch.full((400,), -1)


def residual_activity(residual: Tensor) -> Activity:
    none = torch.zeros(len(residual) + 1, dtype=torch.int64)
    return Activity(none, none[:0], torch.empty(0), residual, residual, 0)


DIRECTIONS = functional.normalize(
    torch.randn(300, 2, generator=GENERATOR) + torch.tensor([3.0, 1.0]), dim=1
)


def neighbours() -> NeighbourCode:
    return NeighbourCode.fit(Kept(torch.arange(1000, 1300), 5 * DIRECTIONS))


def test_the_neighbour_code_sums_to_one_over_its_grid() -> None:
    few = functional.normalize(torch.randn(40, 2, generator=GENERATOR), dim=1)
    code = NeighbourCode.fit(Kept(torch.arange(40), few))
    line = torch.arange(-1.5, 1.5, 0.01 / math.sqrt(2), dtype=torch.float64)
    rows = (torch.stack([line, x.expand(len(line))], dim=1) for x in line)
    total = math.fsum(float(torch.exp2(-code.direction_lengths(row)).sum()) for row in rows)
    assert total == pytest.approx(1, abs=1e-6)


def test_the_neighbour_code_is_a_kernel_density_estimate() -> None:
    code = neighbours()
    points = functional.normalize(torch.randn(50, 2, generator=GENERATOR), dim=1).double()
    kernels, width = code.directions.double().numpy(), code.variance.sqrt().unsqueeze(1).numpy()
    logs = [
        logsumexp(np.sum(norm.logpdf(point, kernels, width), axis=1)) - math.log(len(kernels))
        for point in points.numpy()
    ]
    bits = -torch.tensor(logs) / math.log(2) - 2 * math.log2(0.01 / math.sqrt(2))
    torch.testing.assert_close(code.direction_lengths(points), bits, rtol=1e-9, atol=1e-9)


def test_neighbour_contributions_add_up_and_do_not_depend_on_scale() -> None:
    code: Code = neighbours()
    near, far = residual_activity(DIRECTIONS), residual_activity(77 * DIRECTIONS)
    none = NO_CONTEXT[:300]
    lengths = code.lengths(near, none)
    assert torch.equal(code.contributions(near, none).sum(dim=1), lengths)
    torch.testing.assert_close(code.lengths(far, none), lengths, rtol=1e-6, atol=1e-6)


def test_a_direction_nobody_trusted_costs_more_and_names_its_nearest() -> None:
    code = neighbours()
    usual, strange = residual_activity(DIRECTIONS[7:8]), residual_activity(-DIRECTIONS[7:8])
    assert code.lengths(strange, NO_CONTEXT[:1]) > code.lengths(usual, NO_CONTEXT[:1]) + 10
    row, cosine = code.nearest(usual)
    assert row == 1007
    assert cosine == pytest.approx(1)
    assert code.nearest(strange)[1] < -0.5


def test_kernels_are_as_wide_as_the_tenth_neighbour_is_far() -> None:
    code = neighbours()
    points = DIRECTIONS.double()
    distance = (torch.cdist(points, points).square() + 99 * torch.eye(300)).sort(dim=1).values
    place = code.rows - 1000
    tenth, first = distance[place, 9], distance[place, 0]
    expected = tenth * (first / tenth).mean() / 2
    floor = (0.01 / math.sqrt(2)) ** 2
    torch.testing.assert_close(code.variance, expected.clamp_min(floor), rtol=1e-3, atol=1e-9)


def test_the_same_distance_counts_for_more_among_a_crowd() -> None:
    generator = torch.Generator().manual_seed(5)
    crowd = torch.tensor([1.0, 0, 0]) + 0.01 * torch.randn(200, 3, generator=generator)
    sparse = torch.tensor([0, 1.0, 0]) + 0.2 * torch.randn(200, 3, generator=generator)
    code = NeighbourCode.fit(Kept(torch.arange(400), torch.cat([crowd, sparse])))
    off = torch.tensor([0.0, 0, 0.15])
    near_crowd, near_sparse = crowd.mean(dim=0) + off, sparse.mean(dim=0) + off
    lengths = code.lengths(
        residual_activity(torch.stack([near_crowd, near_sparse])), NO_CONTEXT[:2]
    )
    assert lengths[0] > lengths[1] + 10


def test_directions_that_many_share_have_a_finite_code() -> None:
    same = functional.normalize(torch.ones(50, 4), dim=1)
    code = NeighbourCode.fit(Kept(torch.arange(50), same))
    lengths = code.lengths(residual_activity(torch.cat([same[:1], -same[:1]])), NO_CONTEXT[:2])
    assert torch.isfinite(lengths).all()
    assert lengths[1] > lengths[0]


def test_the_most_isolated_trusted_directions_vouch_for_nobody() -> None:
    crowd = torch.cat([DIRECTIONS, -DIRECTIONS[:3]])
    code = NeighbourCode.fit(Kept(torch.arange(303), crowd))
    assert not {300, 301, 302} & set(code.rows.tolist())
    assert len(code.rows) == int(303 * 0.98)


def test_an_activation_of_zeros_has_a_finite_code() -> None:
    lengths = neighbours().lengths(residual_activity(torch.zeros(1, 2)), NO_CONTEXT[:1])
    assert torch.isfinite(lengths).all()


def test_typical_bits_are_the_mean_of_kernels_that_leave_out_their_own() -> None:
    code = neighbours()
    points, width = code.directions.double().numpy(), code.variance.sqrt().unsqueeze(1).numpy()
    logs = [
        logsumexp(
            np.sum(
                norm.logpdf(
                    point, np.delete(points, place, axis=0), np.delete(width, place, axis=0)
                ),
                axis=1,
            )
        )
        for place, point in enumerate(points)
    ]
    nats = math.log(len(points) - 1) - np.mean(logs)
    bits = nats / math.log(2) - 2 * math.log2(0.01 / math.sqrt(2))
    assert code.typical_bits == pytest.approx(bits, rel=1e-9)
    assert code.typical(NO_CONTEXT[:3]).flatten().tolist() == [code.typical_bits] * 3


def test_scoring_one_input_allocates_less_than_the_kept_directions() -> None:
    kept = torch.randn(2000, 64, generator=GENERATOR)
    code = NeighbourCode.fit(Kept(torch.arange(2000), kept))
    one = residual_activity(kept[:1])
    code.lengths(one, NO_CONTEXT[:1])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        code.lengths(one, NO_CONTEXT[:1])
    allocated = sum(max(event.self_cpu_memory_usage, 0) for event in run.key_averages())
    assert 0 < allocated < code.directions.nbytes / 4
