"""Peers against scipy, scikit-learn and, where it is installed, PyOD."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import skew
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from torch import Tensor

from mad.bench.peers.base import Labelled
from mad.bench.peers.combine import joined, max_over_sites, mean_over_sites, rarity_sum
from mad.bench.peers.gaussian import (
    by_predicted_class,
    mahalanobis,
    pca_residual,
    relative_to_all,
    relative_to_diagonal,
)
from mad.bench.peers.learned import autoencoder, isolation_forest
from mad.bench.peers.measure import JOINT_PEERS, SITE_PEERS, absent_peers
from mad.bench.peers.neighbours import cosine, euclidean, local_outlier_factor
from mad.bench.peers.outputs import energy, max_logit, max_softmax
from mad.bench.peers.tails import copod, ecod


def normal(count: int, *, seed: int, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(99))
    return 50 + torch.randn(count, width, generator=generator) @ mixing


TRUSTED, ASKED = normal(300, seed=1), normal(40, seed=2)
LABELS = torch.arange(300) % 3
IN_CLASSES = Labelled(TRUSTED + 20 * torch.eye(6)[LABELS], LABELS)
ASKED_IN_CLASSES = Labelled(ASKED + 20 * torch.eye(6)[LABELS[:40]], LABELS[:40])


def within_class_distances(asked: Tensor) -> np.ndarray:
    """Return squared distances to each class mean, in the tied covariance of scikit-learn."""
    fitted = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True)
    fitted.fit(IN_CLASSES.vectors.double().numpy(), LABELS.numpy())
    inverse = np.linalg.inv(fitted.covariance_ * 300 / 299)
    distances: np.ndarray = cdist(asked.double().numpy(), fitted.means_, "mahalanobis", VI=inverse)
    return distances**2


def test_mahalanobis_is_the_squared_distance_of_scipy() -> None:
    trusted, asked = TRUSTED.double().numpy(), ASKED.double().numpy()
    inverse = np.linalg.inv(np.cov(trusted, rowvar=False))
    distance = cdist(asked, trusted.mean(axis=0, keepdims=True), "mahalanobis", VI=inverse)[:, 0]
    np.testing.assert_allclose(mahalanobis(TRUSTED)(ASKED).numpy(), distance**2, rtol=1e-6)


def test_the_distance_of_independent_coordinates_is_taken_off() -> None:
    z = (ASKED.double() - TRUSTED.double().mean(dim=0)) / TRUSTED.double().std(dim=0)
    wanted = mahalanobis(TRUSTED)(ASKED) - z.square().sum(dim=1)
    torch.testing.assert_close(relative_to_diagonal(TRUSTED)(ASKED), wanted)


def test_a_class_distance_is_to_the_class_that_the_model_predicted() -> None:
    wanted = within_class_distances(ASKED_IN_CLASSES.vectors)
    found = by_predicted_class(IN_CLASSES)(ASKED_IN_CLASSES).numpy()
    np.testing.assert_allclose(found, wanted[range(40), LABELS[:40].numpy()], rtol=1e-6)
    other = Labelled(ASKED_IN_CLASSES.vectors, (LABELS[:40] + 1) % 3)
    assert (by_predicted_class(IN_CLASSES)(other).numpy() > found).mean() > 0.95


def test_a_class_that_trusted_data_never_had_gets_the_mean_of_all() -> None:
    score = by_predicted_class(IN_CLASSES)
    alone = Labelled(IN_CLASSES.vectors.mean(dim=0, keepdim=True), torch.tensor([7]))
    assert float(score(alone)) == pytest.approx(0, abs=1e-6)


def test_relative_distance_is_the_nearest_class_beyond_that_from_all() -> None:
    vectors = ASKED_IN_CLASSES.vectors
    wanted = within_class_distances(vectors).min(axis=1)
    wanted -= mahalanobis(IN_CLASSES.vectors)(vectors).numpy()
    found = relative_to_all(IN_CLASSES)(ASKED_IN_CLASSES).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_residual_is_what_the_principal_components_of_scikit_learn_leave() -> None:
    fitted = PCA(n_components=0.95, svd_solver="full").fit(TRUSTED.double().numpy())
    assert 0 < fitted.n_components_ < 6
    asked = ASKED.double().numpy()
    left = asked - fitted.inverse_transform(fitted.transform(asked))
    np.testing.assert_allclose(pca_residual(TRUSTED)(ASKED), (left**2).sum(axis=1), rtol=1e-6)


def test_a_direction_that_trusted_data_never_use_does_not_count() -> None:
    flat = torch.cat([TRUSTED, torch.ones(300, 1)], dim=1)
    off = torch.cat([ASKED, torch.full((40, 1), 7.0)], dim=1)
    torch.testing.assert_close(mahalanobis(flat)(off), mahalanobis(TRUSTED)(ASKED))


@pytest.mark.parametrize(("peer", "metric"), [(euclidean, "euclidean"), (cosine, "cosine")])
def test_a_neighbour_is_the_fifth_that_scikit_learn_finds(
    peer: Callable[[Tensor], Callable[[Tensor], Tensor]], metric: str
) -> None:
    search = NearestNeighbors(n_neighbors=5, metric=metric, algorithm="brute")
    distances, _ = search.fit(TRUSTED.double().numpy()).kneighbors(ASKED.double().numpy())
    np.testing.assert_allclose(peer(TRUSTED)(ASKED).numpy(), distances[:, -1], rtol=1e-3, atol=1e-6)


def test_an_outlier_factor_is_that_of_a_tree_search() -> None:
    wanted = LocalOutlierFactor(n_neighbors=20, novelty=True, algorithm="kd_tree")
    wanted.fit(TRUSTED.double().numpy())
    found = local_outlier_factor(TRUSTED)(ASKED).numpy()
    np.testing.assert_allclose(found, -wanted.score_samples(ASKED.double().numpy()), rtol=1e-4)


def test_repeated_trusted_vectors_are_no_reason_to_warn() -> None:
    found = local_outlier_factor(TRUSTED[:5].repeat(30, 1))(ASKED)
    assert found.isfinite().all()


@pytest.mark.parametrize("name", ["ecod", "copod"])
def test_tails_are_those_of_pyod_asked_about_one_vector_at_a_time(name: str) -> None:
    module = pytest.importorskip(f"pyod.models.{name}")
    sides = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    skewed, asked = (sides * ((one - 50) / 4).exp() for one in (TRUSTED, ASKED))
    fitted = getattr(module, name.upper())().fit(skewed.double().numpy())
    wanted = [fitted.decision_function(one.double().numpy())[0] for one in asked.split(1)]
    peer = {"ecod": ecod, "copod": copod}[name]
    np.testing.assert_allclose(peer(skewed)(asked).numpy(), wanted, rtol=1e-6)


def test_tails_of_one_coordinate_are_counted_by_hand() -> None:
    trusted = torch.tensor([[1.0], [2.0], [3.0], [9.0]])
    assert skew(trusted.numpy())[0] > 0
    # With itself among four others, 4 has four of five at or below and two at or above.
    left, right = -np.log(4 / 5), -np.log(2 / 5)
    asked = torch.tensor([[4.0]])
    assert float(ecod(trusted)(asked)) == pytest.approx(max(left, right))
    assert float(copod(trusted)(asked)) == pytest.approx(max(right, (left + right) / 2))
    # Beyond all of them it is one of five: far out, and finite.
    assert float(ecod(trusted)(torch.tensor([[1e9]]))) == pytest.approx(np.log(5))


def test_a_forest_isolates_a_far_vector_sooner() -> None:
    score = isolation_forest(TRUSTED, 0)
    assert float(score(normal(1, seed=3) + 100)) > float(score(TRUSTED).max())


def test_an_autoencoder_learns_what_trusted_vectors_have_in_common() -> None:
    # Six coordinates that are three directions: what breaks the pattern cannot be rebuilt.
    generator = torch.Generator().manual_seed(5)
    plane = torch.randn(3, 6, generator=generator)
    trusted = torch.randn(500, 3, generator=generator) @ plane
    held_out = torch.randn(100, 3, generator=generator) @ plane
    score = autoencoder(trusted, 0)
    off = held_out + torch.linalg.svd(plane).Vh[-1]
    assert float((score(off) > score(held_out).quantile(0.9)).double().mean()) > 0.9


@pytest.mark.parametrize(
    "peer", [isolation_forest, pytest.param(autoencoder, marks=pytest.mark.slow)]
)
def test_a_seed_makes_chance_repeatable_and_leaves_that_of_others_alone(
    peer: Callable[[Tensor, int], Callable[[Tensor], Tensor]],
) -> None:
    before = torch.get_rng_state()
    first, again, other = (peer(TRUSTED / 50, seed)(ASKED / 50) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


EVERY: dict[str, Callable[[Labelled], Callable[[Labelled], Tensor]]] = dict(SITE_PEERS)


@pytest.mark.parametrize("name", EVERY)
def test_a_score_does_not_depend_on_what_else_is_asked(name: str) -> None:
    score = EVERY[name](IN_CLASSES)
    alone = [score(Labelled(ASKED_IN_CLASSES.vectors[[row]], LABELS[[row]])) for row in range(40)]
    torch.testing.assert_close(score(ASKED_IN_CLASSES), torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", JOINT_PEERS)
def test_a_joint_score_does_not_depend_on_what_else_is_asked(name: str) -> None:
    score = JOINT_PEERS[name](TRUSTED / 50, 0)
    alone = torch.cat([score(one) for one in (ASKED / 50).split(1)])
    torch.testing.assert_close(score(ASKED / 50), alone, rtol=1e-4, atol=1e-6)


def test_sites_count_alike_whatever_the_unit_of_their_scores() -> None:
    scaling = torch.tensor([[0.0, 0.0], [2.0, 2_000.0]], dtype=torch.float64)
    asked = torch.tensor([[3.0, 1_000.0], [1.0, 4_000.0]], dtype=torch.float64)
    assert mean_over_sites(scaling)(asked).tolist() == [1.0, 1.5]
    assert max_over_sites(scaling)(asked).tolist() == [2.0, 3.0]


def test_a_site_that_never_varies_says_nothing_of_trusted_inputs() -> None:
    scaling = torch.tensor([[0.0, 5.0], [2.0, 5.0]], dtype=torch.float64)
    assert mean_over_sites(scaling)(scaling).tolist() == [-0.5, 0.5]


def test_an_ensemble_adds_up_how_rare_each_score_is() -> None:
    scaling = torch.stack([torch.arange(99.0), 1e6 * torch.arange(99.0)], dim=1).double()
    found = rarity_sum(scaling)(torch.tensor([[49.0, 0.0], [49.0, 49e6]], dtype=torch.float64))
    # Of 99 and itself, half are at least 49; all are at least 0.
    half = -np.log2(51 / 100)
    assert found.tolist() == pytest.approx([half, 2 * half])


def test_joined_sites_are_side_by_side_in_trusted_deviations() -> None:
    fitting = {"a": torch.tensor([[0.0], [2.0]]), "b": torch.tensor([[0.0], [20.0]])}
    asked = {"b": torch.tensor([[30.0]]), "a": torch.tensor([[3.0]])}
    assert joined(fitting)(asked).tolist() == [[2.0, 2.0]]


def test_what_a_classifier_is_unsure_of_scores_high() -> None:
    logits = torch.tensor([[0.0, 0.0], [float(np.log(3)), 0.0]])
    assert max_softmax(logits).tolist() == pytest.approx([-0.5, -0.75])
    assert max_logit(logits).tolist() == pytest.approx([0.0, -np.log(3)])
    wanted = -logsumexp(logits.double().numpy(), axis=1)
    assert energy(logits).tolist() == pytest.approx(wanted.tolist())


def test_peers_whose_extra_is_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert absent_peers() == set()
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert absent_peers() == {"lof", "iforest", "ensemble"}
