"""What others would score: activations of trusted inputs in, scores of other inputs out.

Every peer is online: it reads trusted data and the model, never the inputs it is tested on. A score
of one site becomes a score of all of them by standardising it on held-out trusted inputs and
averaging over sites.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from mad.types import Site

Vectors: TypeAlias = Float[Tensor, "batch coordinate"]
Scores: TypeAlias = Float64[Tensor, " batch"]
SiteScore: TypeAlias = Callable[[Vectors], Scores]
"""How anomalous each vector of one site is; higher is more so."""

NEIGHBOUR = 10
"""Which nearest trusted vector a distance is taken to."""


def mahalanobis(trusted: Vectors) -> SiteScore:
    """Score by squared distance from the trusted mean, in units of the trusted covariance.

    Directions with less than 1e-5 of the largest variance do not count (Lee et al. 2018).
    """
    mean = trusted.double().mean(dim=0)
    centred = trusted.double() - mean
    precision = torch.linalg.pinv(
        centred.T @ centred / max(len(trusted) - 1, 1), rtol=1e-5, hermitian=True
    )

    def score(vectors: Vectors) -> Scores:
        away = vectors.double() - mean
        squared: Tensor = ((away @ precision) * away).sum(dim=1)
        return squared

    return score


def knn(trusted: Vectors) -> SiteScore:
    """Score by Euclidean distance to the 10th nearest trusted vector (Sun et al. 2022)."""
    # About the mean, where squared lengths are small, float32 keeps small differences.
    mean = trusted.mean(dim=0)
    centred = trusted - mean
    place = min(NEIGHBOUR, len(trusted))

    def score(vectors: Vectors) -> Scores:
        chunks = (vectors - mean).split(1_024)
        nearest = [
            torch.cdist(chunk, centred).topk(place, dim=1, largest=False).values[:, -1]
            for chunk in chunks
        ]
        return torch.cat(nearest).double()

    return score


def knn_cosine(trusted: Vectors) -> SiteScore:
    """Score by one minus the cosine to the 10th most similar trusted vector."""
    directions = functional.normalize(trusted, dim=1)
    place = min(NEIGHBOUR, len(trusted))

    def score(vectors: Vectors) -> Scores:
        chunks = functional.normalize(vectors, dim=1).split(1_024)
        similar = [(chunk @ directions.T).topk(place, dim=1).values[:, -1] for chunk in chunks]
        return 1 - torch.cat(similar).double()

    return score


SITE_PEERS: Mapping[str, Callable[[Vectors], SiteScore]] = {
    "mahalanobis": mahalanobis,
    "knn": knn,
    "knn_cosine": knn_cosine,
}


def over_sites(
    peer: Callable[[Vectors], SiteScore],
    fitting: Mapping[Site, Vectors],
    reference: Mapping[Site, Vectors],
) -> Callable[[Mapping[Site, Vectors]], Scores]:
    """Fit a peer at every site; standardise on the reference and average over sites."""
    fitted = []
    for site, trusted in fitting.items():
        score = peer(trusted)
        held_out = score(reference[site])
        spread = held_out.std(correction=0)
        # A site whose score never varies has nothing to be measured in.
        unit = spread if spread > 0 else torch.ones_like(spread)
        fitted.append((site, score, held_out.mean(), unit))

    def scores(vectors: Mapping[Site, Vectors]) -> Scores:
        standardised = [(score(vectors[site]) - mean) / unit for site, score, mean, unit in fitted]
        return torch.stack(standardised).mean(dim=0)

    return scores


def max_softmax(logits: Float[Tensor, "batch label"]) -> Scores:
    """Score by how little the model trusts its own answer: minus its largest probability."""
    return -logits.double().softmax(dim=1).amax(dim=1)
