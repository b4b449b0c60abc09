"""Detectors that read the inputs they judge: trusted vectors and a batch in, a score of each out.

They see what the batch has in common that trusted data have not, which no score of one input at a
time can, so they are compared with each other and never with online ones.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mad.bench.figures import Measured
from mad.bench.peers.base import Scores, Vectors, VectorScore
from mad.bench.peers.combine import rarity_sum
from mad.bench.seen import Seen
from mad.errors import InputError
from mad.types import View

OfflinePeer: TypeAlias = Callable[[Vectors, Vectors], VectorScore]
"""Fitted on trusted and untrusted vectors of one site."""

SHARPNESS = 4.0
"""How much more the direction counts in which the batch spreads most (Dong et al. 2019)."""

TENTH = 10
"""One in so many inputs of a benchmark's untrusted batch is anomalous."""

MIN_BATCH = 100
"""Untrusted inputs without which the spread of a batch is mostly chance."""

RELATIVE_VARIANCE = 1e-5
"""Directions with less than this share of the largest trusted variance do not count."""


def quantum_entropy(trusted: Vectors, untrusted: Vectors) -> VectorScore:
    """Score by ``z' exp(4 C / |C|) z / tr exp(4 C / |C|)``.

    ``z`` is whitened by the trusted mean and covariance, and ``C`` is the covariance of the
    untrusted ``z`` with its largest eigenvalue ``|C|`` (Dong, Hopkins and Li 2019; whitened as in
    cupbearer, and on both sides as in EleutherAI's fork). In ``C`` no ``z`` is longer than the
    longest trusted one: one huge input would be all that the batch has in common.
    """
    mean = trusted.double().mean(dim=0)
    whitening = _whitening(trusted.double() - mean)
    longest = ((trusted.double() - mean) @ whitening).norm(dim=1).amax()
    whitened = (untrusted.double() - mean) @ whitening
    cut = (longest / whitened.norm(dim=1, keepdim=True)).clamp_max(1.0)
    values, directions = torch.linalg.eigh(_covariance(whitened * cut))
    weight = (SHARPNESS * values / values[-1].clamp_min(1e-300)).exp()
    turned = whitening @ directions

    def score(vectors: Vectors) -> Scores:
        along: Tensor = (vectors.double() - mean) @ turned
        score: Tensor = along.square() @ (weight / weight.sum())
        return score

    return score


def spectral_signature(trusted: Vectors, untrusted: Vectors) -> VectorScore:
    """Score by squared length along the direction in which the batch spreads most (Tran 2018)."""
    del trusted  # the signature knows no trusted data
    mean = untrusted.double().mean(dim=0)
    top = torch.linalg.eigh(_covariance(untrusted.double() - mean)).eigenvectors[:, -1]
    return lambda vectors: ((vectors.double() - mean) @ top).square()


OFFLINE_PEERS: Mapping[str, OfflinePeer] = {
    "que": quantum_entropy,
    "spectral": spectral_signature,
}


def over_sites(
    peer: OfflinePeer,
    fitting: Mapping[View, Vectors],
    scaling: Mapping[View, Vectors],
    untrusted: Mapping[View, Vectors],
) -> Callable[[Mapping[View, Vectors]], Scores]:
    """Fit a peer at every site; add up the rarity, in bits, of its scores at each.

    ``scaling`` are trusted inputs that were not fitted on, and say what is rare.

    Raises:
        InputError: fewer untrusted inputs than ``MIN_BATCH``.
    """
    check_batch(len(next(iter(untrusted.values()))))
    scores = {site: peer(trusted, untrusted[site]) for site, trusted in fitting.items()}

    def columns(vectors: Mapping[View, Vectors]) -> Float64[Tensor, "batch site"]:
        return torch.stack([score(vectors[site]) for site, score in scores.items()], dim=1)

    combine = rarity_sum(columns(scaling))
    return lambda vectors: combine(columns(vectors))


def measure_offline(
    seen: Mapping[str, Seen], *, seed: int, clock: Callable[[], float]
) -> dict[str, Measured]:
    """Fit offline peers to a batch of tests, one in ten of them anomalous, and score all.

    They are left out where the tests are too few for such a batch.
    """
    untrusted = _mixed(seen["test_normal"], seen["test_anomalous"], seed=seed)
    if len(next(iter(untrusted.values()))) < MIN_BATCH:
        return {}
    asked = {name: one for name, one in seen.items() if name not in ("fitting", "scaling")}
    measured = {}
    for name, peer in OFFLINE_PEERS.items():
        start = clock()
        score = over_sites(peer, seen["fitting"].vectors, seen["scaling"].vectors, untrusted)
        fitted = clock()
        scores = {one: score(of_inputs.vectors) for one, of_inputs in asked.items()}
        seconds = clock() - fitted + sum(one.seconds for one in asked.values())
        count = sum(len(one) for one in asked.values())
        measured[f"{name}_untrusted10"] = Measured(scores, fitted - start, 1e6 * seconds / count)
    return measured


def check_batch(inputs: int) -> None:
    """Refuse a batch, or a half of one, whose covariance would be chance; InputError says so."""
    if inputs < MIN_BATCH:
        raise InputError(
            f"{inputs} untrusted inputs to learn from are too few to say what a batch has in "
            f"common: give at least {MIN_BATCH}, twice that where each half is scored by the "
            "other, or score them online, without --offline"
        )


def _mixed(normal: Seen, anomalous: Seen, *, seed: int) -> dict[View, Vectors]:
    """Draw as many tests as make a batch of which one in ten is anomalous."""
    generator = torch.Generator().manual_seed(seed)
    odd = min(len(anomalous), len(normal) // (TENTH - 1))
    chosen = torch.randperm(len(anomalous), generator=generator)[:odd]
    ordinary = torch.randperm(len(normal), generator=generator)[: odd * (TENTH - 1)]
    return {
        site: torch.cat([vectors[ordinary], anomalous.vectors[site][chosen]])
        for site, vectors in normal.vectors.items()
    }


def _whitening(
    centred: Float[Tensor, "batch coordinate"],
) -> Float64[Tensor, "coordinate direction"]:
    """Return directions, scaled so that trusted vectors have variance one along each."""
    values, directions = torch.linalg.eigh(_covariance(centred))
    is_used = values > RELATIVE_VARIANCE * values[-1]
    scaled: Tensor = directions[:, is_used] * values[is_used].rsqrt()
    return scaled


def _covariance(
    vectors: Float64[Tensor, "batch coordinate"],
) -> Float64[Tensor, "coordinate coordinate"]:
    centred = vectors - vectors.mean(dim=0)
    return centred.T @ centred / max(len(centred) - 1, 1)
