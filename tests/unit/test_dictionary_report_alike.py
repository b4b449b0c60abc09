"""Recovery of directions and similarity of codes, against brute force and closed forms."""

from itertools import permutations

import numpy as np
import pytest
import torch
from jaxtyping import Float64
from scipy import stats
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.recovery import recovery
from mad.report.dictionary.observed import Observed
from mad.report.dictionary.similarity import Codes, cka, debiased, rsa, similarity
from mad.types import Activity

INPUTS, WIDTH = 40, 16


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sparse_codes(seed: int, *, inputs: int = INPUTS, width: int = WIDTH) -> Tensor:
    """Return codes of which about a fourth is not zero, and at least one an input."""
    own = torch.Generator().manual_seed(seed)
    codes = torch.rand(inputs, width, generator=own)
    is_active = torch.rand(inputs, width, generator=own) < 0.25
    is_active[torch.arange(inputs), torch.arange(inputs) % width] = True
    return codes * is_active


def observed(codes: Tensor, reach: Tensor | None = None) -> Observed:
    """Return what a dictionary with these codes would have made of its inputs."""
    counts = (codes != 0).sum(dim=1)
    nothing = torch.zeros(len(codes), 1)
    activity = Activity(
        offsets=functional.pad(counts.cumsum(dim=0), (1, 0)),
        components=codes.nonzero()[:, 1],
        magnitudes=codes[codes != 0],
        residual=nothing,
        activation=nothing,
        num_components=codes.shape[1],
    )
    return Observed({"site": activity}, torch.ones(codes.shape[1]) if reach is None else reach)


def gram(x: Tensor) -> Float64[np.ndarray, "input input"]:
    products: np.ndarray = (x.double() @ x.double().T).numpy()
    return products


def test_each_of_some_permuted_directions_is_found_whatever_its_length() -> None:
    known = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    found = recovery(known, 5 * known[torch.randperm(30)])
    assert found.nearest.mean == pytest.approx(1, abs=1e-6)
    assert found.unique == 1
    assert found.matched is not None
    assert (found.matched.above_90, found.matched.above_95) == (1, 1)


def test_a_direction_found_once_is_no_match_of_two() -> None:
    known = torch.tensor([[1.0, 0.0], [0.95, 0.3122499], [0.0, -1.0]])
    found = recovery(known, torch.tensor([[1.0, 0.0]]))
    assert found.nearest.mean == pytest.approx((1 + 0.95 + 0) / 3)
    assert found.unique == pytest.approx(1 / 3)
    assert found.matched is not None
    assert found.matched.mean == pytest.approx(1 / 3)
    # One cosine is 1, one 0.95 to rounding, one zero.
    assert found.nearest.above_90 == pytest.approx(2 / 3)
    assert found.matched.above_90 == pytest.approx(1 / 3)


def test_the_opposite_of_a_direction_is_another() -> None:
    found = recovery(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [0.0, 1.0]]))
    assert found.nearest.mean == 0


def test_matches_are_those_of_the_largest_total() -> None:
    known = functional.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(1)))
    found = functional.normalize(torch.randn(5, 3, generator=torch.Generator().manual_seed(2)))
    cosines = known @ found.T
    best = max(
        sum(float(cosines[row, column]) for row, column in enumerate(order[:4]))
        for order in permutations(range(5))
    )
    matched = recovery(known, found).matched
    assert matched is not None
    assert matched.mean == pytest.approx(best / 4, rel=1e-5)


def test_dissimilarities_are_one_minus_the_correlation_of_rows() -> None:
    codes = sparse_codes(3)
    expected = 1 - np.corrcoef(codes.double().numpy())
    assert np.allclose(Codes.of(observed(codes)).dissimilarities, expected, atol=1e-9)


def test_codes_are_distances_along_directions() -> None:
    codes, reach = sparse_codes(3), torch.linspace(0.5, 2, WIDTH)
    assert np.allclose(Codes.of(observed(codes, reach)).gram, gram(codes * reach), atol=1e-5)


def test_similarity_of_geometry_is_spearmans_correlation_of_dissimilarities() -> None:
    first, second = (Codes.of(observed(sparse_codes(seed))).dissimilarities for seed in (3, 4))
    above = np.triu_indices(INPUTS, k=1)
    expected = stats.spearmanr(first[above], second[above]).statistic
    assert rsa(first, second, generator=generator())[0] == pytest.approx(expected)


def test_a_bootstrap_draws_inputs_and_leaves_out_pairs_of_one_with_itself() -> None:
    one = Codes.of(observed(sparse_codes(3, inputs=8))).dissimilarities
    two = Codes.of(observed(sparse_codes(4, inputs=8))).dissimilarities
    above = np.triu_indices(8, k=1)
    tables = []
    for table in (one, two):
        ranks = np.zeros((8, 8))
        ranks[above] = stats.rankdata(table[above])
        tables.append(ranks + ranks.T)
    found = []
    for counts in generator().multinomial(8, np.full(8, 1 / 8), size=500):
        drawn = np.repeat(np.arange(8), counts)
        pairs = [(a, b) for a in range(8) for b in range(a) if drawn[a] != drawn[b]]
        values = np.array([[table[drawn[a], drawn[b]] for a, b in pairs] for table in tables])
        found.append(np.corrcoef(values)[0, 1])
    expected = np.quantile(found, (0.025, 0.975))
    assert rsa(one, two, generator=generator())[1:] == pytest.approx(tuple(expected))


def test_the_interval_is_narrower_for_more_inputs_and_holds_the_estimate() -> None:
    widths = []
    for inputs in (30, 300):
        base = sparse_codes(5, inputs=inputs)
        codes = [base + 0.3 * sparse_codes(seed, inputs=inputs) for seed in (6, 7)]
        found = similarity(*(Codes.of(observed(one)) for one in codes), generator=generator())
        assert found.rsa_low < found.rsa < found.rsa_high
        widths.append(found.rsa_high - found.rsa_low)
    assert widths[1] < widths[0] / 2


def test_inputs_that_are_silent_in_either_are_left_out_of_the_geometry() -> None:
    first, second = sparse_codes(3), sparse_codes(4)
    first[5], second[9] = 0, 0
    kept = [row for row in range(INPUTS) if row not in (5, 9)]
    rows = [1 - np.corrcoef(one[kept].double().numpy()) for one in (first, second)]
    above = np.triu_indices(len(kept), k=1)
    expected = stats.spearmanr(rows[0][above], rows[1][above]).statistic
    codes = (Codes.of(observed(one)) for one in (first, second))
    assert similarity(*codes, generator=generator()).rsa == pytest.approx(expected)


def test_codes_that_say_nothing_have_no_similarity() -> None:
    nothing = Codes.of(observed(torch.zeros(INPUTS, WIDTH)))
    found = similarity(nothing, nothing, generator=generator())
    assert np.isnan([found.rsa, found.rsa_low, found.cka, found.cka_debiased]).all()


@pytest.mark.parametrize("measure", [cka, debiased])
def test_alignment_does_not_see_rotation_order_or_scale_of_latents(measure: object) -> None:
    assert callable(measure)
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    turned = 7 * x[:, torch.randperm(6)] @ torch.linalg.qr(torch.randn(6, 6)).Q
    assert measure(gram(x), gram(x)) == pytest.approx(1)
    assert measure(gram(x), gram(turned)) == pytest.approx(1, rel=1e-5)


def test_alignment_is_the_share_of_covariance_of_centred_columns() -> None:
    x, y = (
        torch.randn(50, width, generator=torch.Generator().manual_seed(seed)).double() + 1
        for seed, width in ((0, 6), (1, 9))
    )
    a, b = (one - one.mean(dim=0) for one in (x, y))
    # Kornblith et al. 2019: |Y'X|^2 / (|X'X| |Y'Y|), Frobenius norms of centred columns.
    expected = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert cka(gram(x), gram(y)) == pytest.approx(float(expected))


def test_unrelated_wide_codes_are_alike_only_to_the_biased_estimator() -> None:
    biased, unbiased = [], []
    for seed in range(20):
        own = torch.Generator().manual_seed(seed)
        one, two = (gram(torch.randn(60, 200, generator=own)) for _ in range(2))
        biased.append(cka(one, two))
        unbiased.append(debiased(one, two))
    assert min(biased) > 0.5
    assert abs(np.mean(unbiased)) < 0.05


def test_the_debiased_estimator_is_a_mean_over_distinct_inputs() -> None:
    x, y = (torch.randn(6, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        """Average over ordered quadruples of distinct inputs (Gretton et al. 2005, theorem 1)."""
        quadruples = permutations(range(6), 4)
        return float(
            np.mean([k[a, b] * (m[a, b] + m[c, d] - 2 * m[a, c]) for a, b, c, d in quadruples])
        )

    k, m = gram(x), gram(y)
    expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert debiased(k, m) == pytest.approx(expected)
