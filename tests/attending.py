"""Small attention models whose every piece can be named, and experiments on them, for tests."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.effects import Experiment, LinearAttention, Nodes, Where, sites_of
from mad.types import Activations


class Attention(nn.Module):
    """Causal attention of linear layers ``q``, ``k``, ``v`` and ``o``."""

    def __init__(self, width: int, heads: int, *, causal: bool = True) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        q, k, v = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """A layer of a transformer: attention and a perceptron, each added to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add both branches."""
        x = x + self.attention(self.before(x))
        added: Tensor = x + self.mlp(self.between(x))
        return added


class Transformer(nn.Module):
    """Two layers that say, at the last position, what comes next."""

    def __init__(self, tokens: int = 16, width: int = 32, heads: int = 4, length: int = 12) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        self.places = nn.Parameter(0.1 * torch.randn(length, width))
        self.blocks = nn.Sequential(Block(width, heads), Block(width, heads))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, tokens)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores of the next token at each position."""
        stream = self.tokens(x) + self.places
        scores: Tensor = self.head(self.norm(self.blocks(stream)))
        return scores


def linears(prefix: str, *, heads: int, is_causal: bool = True) -> LinearAttention:
    """Describe an ``Attention`` by its layers."""
    q, k, v, o = (f"{prefix}.{part}" for part in "qkvo")
    return LinearAttention(q, k, v, o, heads=heads, is_causal=is_causal)


ATTENTIONS = tuple(linears(f"blocks.{layer}.attention", heads=4) for layer in (0, 1))
BRANCHES = tuple(f"blocks.{layer}.{part}" for layer in (0, 1) for part in ("attention", "mlp"))


def sequences(count: int, *, generator: torch.Generator) -> Tensor:
    """Return sequences that repeat: what came after a token comes after it again."""
    first = torch.stack([torch.randperm(16, generator=generator)[:8] for _ in range(count)])
    return torch.cat([first, first], dim=1)[:, :13]


@cache
def trained(steps: int, *, seed: int = 0) -> MonitoredModel:
    """Train a transformer to continue sequences that repeat."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = Transformer()
    generator = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(module.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = sequences(64, generator=generator)
        loss = functional.cross_entropy(
            module(batch[:, :-1])[:, 8:].flatten(0, 1), batch[:, 9:].flatten()
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
    adam.zero_grad()
    return MonitoredModel.of(module.requires_grad_(False), name="m", inputs=["x"])


NOWHERE = Where()


def monitored(module: nn.Module) -> MonitoredModel:
    return MonitoredModel.of(module, name="m", inputs=["x"])


def every(experiment: Experiment) -> list[Tensor]:
    """Measure all pairs."""
    pairs = [torch.arange(len(one.rows)) for one in experiment.changes]
    return list(experiment.ablations(chosen=pairs, at_once=40))


def experiment(
    module: nn.Module,
    nodes: Sequence[Nodes],
    x: Tensor,
    *,
    other: Tensor | None = None,
    where: Where = NOWHERE,
) -> Experiment:
    """Put what other inputs give, or zero, in the place of nodes."""
    model = monitored(module)
    seen: Activations | None = None
    if other is not None:
        seen = capture(model, sites_of(nodes, where), {"x": other}).activations
    return Experiment.of(model, nodes, {"x": x}, reference=seen, where=where)
