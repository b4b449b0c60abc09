"""Peers that are trained on chance: trusted vectors and a seed in, a score of others out."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mad.bench.peers.base import Scores, Vectors, VectorScore

TREES = 100
STEPS = 1_000
BATCH = 256
HIDDEN = 64
BOTTLENECK = 8


def isolation_forest(trusted: Vectors, seed: int) -> VectorScore:
    """Score by how few random cuts isolate a vector (Liu et al. 2008).

    Raises:
        ImportError: scikit-learn is not installed.
    """
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415  # an extra

    fitted = IsolationForest(n_estimators=TREES, random_state=seed).fit(trusted.numpy())
    return lambda vectors: torch.from_numpy(-fitted.score_samples(vectors.numpy())).double()


def autoencoder(trusted: Vectors, seed: int) -> VectorScore:
    """Score by the squared error of a small autoencoder trained on trusted vectors."""
    generator = torch.Generator().manual_seed(seed)
    network = _network(trusted.shape[1], generator)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(STEPS):
        chosen = trusted[torch.randint(len(trusted), (BATCH,), generator=generator)]
        optimiser.zero_grad()
        functional.mse_loss(network(chosen), chosen).backward()
        optimiser.step()

    @torch.no_grad()
    def score(vectors: Vectors) -> Scores:
        left: Tensor = (network(vectors) - vectors).double()
        return left.square().mean(dim=1)

    return score


def _network(width: int, generator: torch.Generator) -> nn.Module:
    narrow = max(min(BOTTLENECK, width // 2), 1)
    widths = (width, HIDDEN, narrow, HIDDEN, width)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        # Left as it is, so that the generators of others are.
        linear = nn.utils.skip_init(nn.Linear, before, after)
        nn.init.xavier_uniform_(linear.weight, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
