"""How unsure a classifier's own answer is: logits in, a score out."""

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor

from mad.bench.peers.base import Scores


def max_softmax(logits: Float[Tensor, "batch label"]) -> Scores:
    """Score by minus the largest probability (Hendrycks and Gimpel 2017)."""
    return -logits.double().softmax(dim=1).amax(dim=1)


def max_logit(logits: Float[Tensor, "batch label"]) -> Scores:
    """Score by minus the largest logit (Hendrycks et al. 2022)."""
    return -logits.double().amax(dim=1)


def energy(logits: Float[Tensor, "batch label"]) -> Scores:
    """Score by the free energy, ``-log sum exp`` of the logits (Liu et al. 2020)."""
    return -logits.double().logsumexp(dim=1)


OUTPUT_PEERS: Mapping[str, Callable[[Float[Tensor, "batch label"]], Scores]] = {
    "msp": max_softmax,
    "maxlogit": max_logit,
    "energy": energy,
}
