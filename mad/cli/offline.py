"""``mad score --offline``: in bits, what inputs of a batch have in common that trusted ones lack.

The batch shapes the score of each of its inputs, so these bits come with no p-value: a clean batch
is not exchangeable with trusted inputs that had no say in the score.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from mad.bench.offline import over_sites, quantum_entropy
from mad.bench.peers.base import Scores, Vectors
from mad.bench.seen import see
from mad.deployment import Deployment
from mad.fit.reading import batches
from mad.types import Dataset, Progress, Site

MAX_TRUSTED = 20_000
"""Trusted inputs read for each of two purposes at most: a covariance, and how rare a score is."""

COMMON_SHARE = 0.99
"""Trusted inputs that a batch is compared with in words."""


@final
@dataclass(frozen=True)
class OfflineBits:
    """Bits of each input, and what 99 % of trusted inputs stay below; infinite for no number."""

    bits: Scores
    common_bits: float


def offline_bits(deployment: Deployment, data: Dataset, *, progress: Progress) -> OfflineBits:
    """Score a batch with whitened quantum entropy at every site, and add up the rarity of each.

    Covariances are of the trusted inputs that codes are fitted on, and what is rare is counted on
    those held out.

    Raises:
        InputError: the batch has too few inputs whose activations are numbers.
    """
    trusted = deployment.trusted()
    rows = deployment.rows(trusted)
    fitting = _vectors(deployment, trusted, _some(rows.fitting), "trusted data", progress)
    scaling = _vectors(deployment, trusted, _some(rows.reference), "held-out data", progress)
    batch = _vectors(deployment, data, torch.arange(len(data)), "the batch", progress)
    sound = _is_sound(batch)
    untrusted = {site: vectors[sound] for site, vectors in batch.items()}
    score = over_sites(quantum_entropy, fitting, scaling, untrusted)
    bits = torch.full((len(data),), torch.inf, dtype=torch.float64)
    bits[sound] = score(untrusted)
    return OfflineBits(bits, float(score(scaling).quantile(COMMON_SHARE)))


def _vectors(
    deployment: Deployment,
    data: Dataset,
    rows: Int64[Tensor, " rows"],
    what: str,
    progress: Progress,
) -> dict[Site, Vectors]:
    inputs = (batch for _, batch in batches(data, rows, 256, f"reading {what}", progress))
    pooling = deployment.settings.decomposition.pooling
    return dict(see(deployment.model, deployment.sites, inputs, pooling, clock=lambda: 0.0).vectors)


def _some(rows: Int64[Tensor, " rows"]) -> Int64[Tensor, " some"]:
    """Return as many rows as are read, evenly spaced."""
    return rows[:: -(-len(rows) // MAX_TRUSTED)]


def _is_sound(vectors: dict[Site, Vectors]) -> Bool[Tensor, " batch"]:
    """Say of which inputs every activation is a number."""
    return torch.stack([one.isfinite().all(dim=1) for one in vectors.values()]).all(dim=0)
