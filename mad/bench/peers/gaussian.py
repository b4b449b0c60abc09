"""Distances in units of the trusted covariance: trusted vectors in, a score of others out."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.bench.peers.base import (
    Labelled,
    LabelledScore,
    Scores,
    Vectors,
    VectorScore,
)

RELATIVE_VARIANCE = 1e-5
"""Directions with less than this share of the largest variance do not count."""

KEPT_VARIANCE = 0.95
"""Share of the trusted variance that principal components explain before the rest is a residual."""


@final
@dataclass(frozen=True)
class Metric:
    """Squared length in units of a covariance (Mahalanobis 1936)."""

    precision: Float64[Tensor, "coordinate coordinate"]

    @staticmethod
    def of(centred: Float64[Tensor, "batch coordinate"]) -> "Metric":
        """Invert the covariance of vectors about zero, but for directions they hardly use."""
        covariance = centred.T @ centred / max(len(centred) - 1, 1)
        return Metric(torch.linalg.pinv(covariance, rtol=RELATIVE_VARIANCE, hermitian=True))

    def squared(self, away: Float64[Tensor, "batch coordinate"]) -> Scores:
        """Return the squared length of each vector."""
        return ((away @ self.precision) * away).sum(dim=1)


def mahalanobis(trusted: Vectors) -> VectorScore:
    """Score by squared distance from the trusted mean (Lee et al. 2018, with one class)."""
    mean = trusted.double().mean(dim=0)
    metric = Metric.of(trusted.double() - mean)
    return lambda vectors: metric.squared(vectors.double() - mean)


def relative_to_diagonal(trusted: Vectors) -> VectorScore:
    """Score by Mahalanobis distance beyond that of independent coordinates (as cupbearer does)."""
    mean = trusted.double().mean(dim=0)
    variance = (trusted.double() - mean).square().sum(dim=0) / max(len(trusted) - 1, 1)
    is_used = variance > RELATIVE_VARIANCE * variance.max()
    weight = torch.where(is_used, 1 / variance.clamp_min(1e-300), 0.0)
    whole = mahalanobis(trusted)

    def score(vectors: Vectors) -> Scores:
        return whole(vectors) - (vectors.double() - mean).square() @ weight

    return score


def by_predicted_class(trusted: Labelled) -> LabelledScore:
    """Score by squared distance from the mean of the predicted class, in its tied covariance.

    A class that no trusted input has is given the mean of all.
    """
    means, centred = _class_means(trusted)
    metric = Metric.of(centred)

    def score(asked: Labelled) -> Scores:
        label = asked.predicted.clamp_max(len(means) - 1)
        return metric.squared(asked.vectors.double() - means[label])

    return score


def relative_to_all(trusted: Labelled) -> LabelledScore:
    """Score by the nearest class beyond the distance from all (Ren et al. 2021).

    Classes are those that the model predicts, which need no labels of the trusted data.
    """
    means, centred = _class_means(trusted)
    metric, whole = Metric.of(centred), mahalanobis(trusted.vectors)
    seen = means[trusted.predicted.unique()]

    def score(asked: Labelled) -> Scores:
        vectors = asked.vectors.double()
        nearest = torch.stack([metric.squared(vectors - mean) for mean in seen]).amin(dim=0)
        return nearest - whole(asked.vectors)

    return score


def pca_residual(trusted: Vectors) -> VectorScore:
    """Score by squared length outside the components that explain 95 % of trusted variance."""
    mean = trusted.double().mean(dim=0)
    centred = trusted.double() - mean
    values, directions = torch.linalg.eigh(centred.T @ centred)
    explained = values.flip(0).clamp_min(0.0).cumsum(dim=0)
    kept = int((explained < KEPT_VARIANCE * explained[-1]).sum()) + 1
    left = directions.flip(1)[:, kept:]
    return lambda vectors: ((vectors.double() - mean) @ left).square().sum(dim=1)


def _class_means(
    trusted: Labelled,
) -> tuple[Float64[Tensor, "label coordinate"], Float64[Tensor, "batch coordinate"]]:
    """Return a mean for each label, one more for labels never seen, and vectors about theirs."""
    vectors, label = trusted.vectors.double(), trusted.predicted.clamp_min(0)
    overall = vectors.mean(dim=0)
    labels = int(label.max()) + 2
    count = torch.bincount(label, minlength=labels).double().unsqueeze(1)
    total = torch.zeros(labels, vectors.shape[1], dtype=torch.float64)
    total.index_add_(0, label, vectors)
    means = torch.where(count > 0, total / count.clamp_min(1.0), overall)
    return means, vectors - means[label]
