"""Peers against scipy and scikit-learn."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from mad.bench.peers import SITE_PEERS, knn, knn_cosine, mahalanobis, max_softmax, over_sites


def normal(count: int, *, seed: int, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(99))
    return 50 + torch.randn(count, width, generator=generator) @ mixing


TRUSTED, ASKED = normal(300, seed=1), normal(40, seed=2)


def test_mahalanobis_is_the_squared_distance_of_scipy() -> None:
    trusted, asked = TRUSTED.double().numpy(), ASKED.double().numpy()
    inverse = np.linalg.inv(np.cov(trusted, rowvar=False))
    distance = cdist(asked, trusted.mean(axis=0, keepdims=True), "mahalanobis", VI=inverse)[:, 0]
    np.testing.assert_allclose(mahalanobis(TRUSTED)(ASKED).numpy(), distance**2, rtol=1e-6)


def test_a_direction_that_trusted_data_never_use_does_not_count() -> None:
    flat = torch.cat([TRUSTED, torch.ones(300, 1)], dim=1)
    off = torch.cat([ASKED, torch.full((40, 1), 7.0)], dim=1)
    torch.testing.assert_close(mahalanobis(flat)(off), mahalanobis(TRUSTED)(ASKED))


@pytest.mark.parametrize(("peer", "metric"), [(knn, "euclidean"), (knn_cosine, "cosine")])
def test_a_neighbour_is_the_tenth_that_scikit_learn_finds(peer: object, metric: str) -> None:
    assert callable(peer)
    search = NearestNeighbors(n_neighbors=10, metric=metric, algorithm="brute")
    distances, _ = search.fit(TRUSTED.double().numpy()).kneighbors(ASKED.double().numpy())
    np.testing.assert_allclose(peer(TRUSTED)(ASKED).numpy(), distances[:, -1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", SITE_PEERS)
def test_a_score_does_not_depend_on_what_else_is_asked(name: str) -> None:
    score = SITE_PEERS[name](TRUSTED)
    alone = torch.cat([score(one) for one in ASKED.split(1)])
    torch.testing.assert_close(score(ASKED), alone, rtol=1e-5, atol=1e-6)


def test_sites_count_alike_whatever_the_unit_of_their_scores() -> None:
    def first(_trusted: Tensor) -> object:
        return lambda vectors: vectors[:, 0].double()

    reference = {"a": torch.tensor([[0.0], [2.0]]), "b": torch.tensor([[0.0], [2_000.0]])}
    score = over_sites(first, reference, reference)  # type: ignore[arg-type]  # a stand-in peer
    asked = {"a": torch.tensor([[3.0]]), "b": torch.tensor([[1_000.0]])}
    assert score(asked).tolist() == [(2.0 + 0.0) / 2]


def test_an_even_guess_is_the_least_certain() -> None:
    logits = torch.tensor([[0.0, 0.0], [np.log(3), 0.0]])
    assert max_softmax(logits).tolist() == pytest.approx([-0.5, -0.75])
