"""Distances to the nearest trusted vectors: trusted vectors in, a score of others out."""

import warnings

import torch
from torch.nn import functional

from mad.bench.peers.base import Scores, Vectors, VectorScore

NEIGHBOUR = 5
"""Which nearest trusted vector a distance is taken to."""

LOF_NEIGHBOURS = 20
"""Neighbours whose density an outlier lacks, as in scikit-learn and EleutherAI's fork."""

LOF_VECTORS = 5_000
"""Trusted vectors that LOF is fitted on at most: the first ones, which are no particular ones."""


def euclidean(trusted: Vectors) -> VectorScore:
    """Score by Euclidean distance to the fifth nearest trusted vector (Sun et al. 2022)."""
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


def cosine(trusted: Vectors) -> VectorScore:
    """Score by one minus the cosine to the fifth most similar trusted vector."""
    directions = functional.normalize(trusted, dim=1)
    place = min(NEIGHBOUR, len(trusted))

    def score(vectors: Vectors) -> Scores:
        chunks = functional.normalize(vectors, dim=1).split(1_024)
        similar = [(chunk @ directions.T).topk(place, dim=1).values[:, -1] for chunk in chunks]
        return 1 - torch.cat(similar).double()

    return score


def local_outlier_factor(trusted: Vectors) -> VectorScore:
    """Score by how much sparser a vector's surroundings are than its neighbours' (Breunig 2000).

    Raises:
        ImportError: scikit-learn is not installed.
    """
    from sklearn.neighbors import LocalOutlierFactor  # noqa: PLC0415  # an extra

    kept = trusted[:LOF_VECTORS]
    mean = kept.mean(dim=0)
    neighbours = min(LOF_NEIGHBOURS, len(kept) - 1)
    # Brute force: trees lose to it beyond some fifteen coordinates.
    fitted = LocalOutlierFactor(n_neighbors=neighbours, novelty=True, algorithm="brute")
    with warnings.catch_warnings():
        # Trusted inputs that are the same are no mistake: bits and tokens repeat.
        warnings.filterwarnings("ignore", message="Duplicate values", category=UserWarning)
        fitted.fit((kept - mean).numpy())

    def score(vectors: Vectors) -> Scores:
        return torch.from_numpy(-fitted.score_samples((vectors - mean).numpy())).double()

    return score
