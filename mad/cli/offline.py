"""``mad score --offline``: in bits, what inputs of a batch have in common that trusted ones lack.

Each half of the batch is scored by what the other half has in common. No input has a say in its own
score, so the p-value of one like the trusted ones keeps its promise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from mad.bench.offline import over_sites, quantum_entropy
from mad.bench.peers.base import Vectors
from mad.bench.seen import see
from mad.calibration.conformal import p_values
from mad.deployment import Deployment
from mad.fit.reading import batches
from mad.types import Bits, Dataset, Progress, PValues, View

MAX_TRUSTED = 20_000
"""Trusted inputs read of each of three parts at most, so that their vectors fit into memory."""


@final
@dataclass(frozen=True)
class Offline:
    """Bits and p-value of each input of a batch; bits are infinite where there is no number."""

    bits: Bits
    p_values: PValues


def score_batch(deployment: Deployment, data: Dataset, *, progress: Progress) -> Offline:
    """Score a batch with whitened quantum entropy at every site, and add up the rarity of each.

    The three parts of the trusted data do what they do for verdicts: covariances are of those that
    codes are fitted on, rarity is counted on those that weigh parts, and p-values rank against the
    reference.

    Raises:
        InputError: a half of the batch has too few inputs whose activations are numbers.
    """
    trusted = deployment.trusted()
    rows = deployment.rows(trusted)
    fitting = _vectors(deployment, trusted, _some(rows.fitting), "trusted data", progress)
    weighing = _vectors(deployment, trusted, _some(rows.weighing), "held-out data", progress)
    reference = _vectors(deployment, trusted, _some(rows.reference), "the reference", progress)
    batch = _vectors(deployment, data, torch.arange(len(data)), "the batch", progress)
    bits = torch.full((len(data),), torch.inf, dtype=torch.float64)
    p = torch.full_like(bits, 1 / (len(next(iter(reference.values()))) + 1))
    sound = _is_sound(batch).nonzero()[:, 0]
    for asked, others in ((sound[::2], sound[1::2]), (sound[1::2], sound[::2])):
        score = over_sites(quantum_entropy, fitting, weighing, _only(batch, others))
        bits[asked] = score(_only(batch, asked))
        p[asked] = p_values(bits[asked], score(reference).sort().values)
    return Offline(bits, p)


def _vectors(
    deployment: Deployment,
    data: Dataset,
    rows: Int64[Tensor, " rows"],
    what: str,
    progress: Progress,
) -> dict[View, Vectors]:
    inputs = (batch for _, batch in batches(data, rows, 256, f"reading {what}", progress))
    pooling = deployment.settings.decomposition.pooling
    return dict(see(deployment.model, deployment.sites, inputs, pooling, clock=lambda: 0.0).vectors)


def _only(batch: Mapping[View, Vectors], rows: Int64[Tensor, " rows"]) -> dict[View, Vectors]:
    return {view: vectors[rows] for view, vectors in batch.items()}


def _some(rows: Int64[Tensor, " rows"]) -> Int64[Tensor, " some"]:
    """Return as many rows as are read, evenly spaced."""
    return rows[:: -(-len(rows) // MAX_TRUSTED)]


def _is_sound(vectors: dict[View, Vectors]) -> Bool[Tensor, " batch"]:
    """Say of which inputs every activation is a number."""
    return torch.stack([one.isfinite().all(dim=1) for one in vectors.values()]).all(dim=0)
