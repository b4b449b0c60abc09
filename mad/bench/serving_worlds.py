"""Models to serve, each watched by two TopK dictionaries and a baseline of generated data.

The demo's classifier has its shipped weights, the transformer random ones; nobody trained the
dictionaries, since what a latent means takes no time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

import mad
from mad.arrays import Table
from mad.capture.hooks import capture
from mad.capture.loading import load_model
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.topk import topk_dictionary
from mad.components.joined import Joined
from mad.components.pooling import Pooling, pool
from mad.fit import FitPlan, fit
from mad.monitor import Monitor
from mad.types import Inputs

MODELS: Final = ("demo", "transformer")
TOKENS: Final = 1_000
LOOKS: Final[dict[str, tuple[tuple[str, Pooling], ...]]] = {
    "demo": (("shapes", "mean_max"), ("summary", "auto")),
    "transformer": (("blocks.2", "max"), ("blocks.5", "last")),
}
"""Sites and poolings: those of the demo, and what ``auto`` stands for of sequences."""


@final
@dataclass(frozen=True, kw_only=True)
class Size:
    """Of the dictionaries, of the transformer, and how many trusted inputs there are.

    With 8,400 of them each site keeps as many neighbours as it may by default, 5,000.
    """

    components: int = 4_096
    active: int = 4
    trusted: int = 8_400
    layers: int = 6
    width: int = 384
    heads: int = 6
    sequence: int = 64


@final
@dataclass(frozen=True)
class Watched:
    """A monitor at heights that agree, and inputs like the trusted ones."""

    monitor: Monitor
    draw: Callable[[int, int], Inputs]

    def live(self, count: int) -> Inputs:
        """Draw inputs that the baseline has not seen."""
        return self.draw(count, 1)


class Transformer(nn.Module):
    """Pre-norm blocks of attention and a multilayer perceptron; classifies the last position."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens = nn.Embedding(TOKENS, size.width)
        self.places = nn.Parameter(0.02 * torch.randn(size.sequence, size.width))
        self.blocks = nn.Sequential(*(_Block(size) for _ in range(size.layers)))
        self.classes = nn.Linear(size.width, 10)

    def forward(self, tokens: Int64[Tensor, "batch position"]) -> Float[Tensor, "batch class"]:
        """Return one logit for each class."""
        written: Tensor = self.blocks(self.tokens(tokens) + self.places)
        logits: Tensor = self.classes(written[:, -1])
        return logits


class _Block(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.first, self.second = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.into, self.out = (
            nn.Linear(size.width, 3 * size.width),
            nn.Linear(size.width, size.width),
        )
        self.up, self.down = (
            nn.Linear(size.width, 4 * size.width),
            nn.Linear(4 * size.width, size.width),
        )

    def forward(
        self, x: Float[Tensor, "batch position width"]
    ) -> Float[Tensor, "batch position width"]:
        query, key, value = (
            one.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for one in self.into(self.first(x)).chunk(3, dim=2)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        written: Tensor = x + self.down(functional.gelu(self.up(self.second(x))))
        return written


def watched(name: str, size: Size, *, most: int) -> Watched:
    """Build a model and all that watches it, for batches up to ``most``."""
    model, draw = _model(name, size)
    trusted = draw(size.trusted, 0)
    sample = capture(
        model,
        [site for site, _ in LOOKS[name]],
        {one: tensor[:256] for one, tensor in trusted.items()},
    ).activations
    decomposition = Joined(
        tuple(_untrained(site, pooling, sample[site], size) for site, pooling in LOOKS[name])
    )
    baseline = fit(
        model,
        decomposition,
        Table(dict(trusted)),
        FitPlan(name=name),
        created=datetime(2026, 1, 1, tzinfo=UTC),
        progress=_no_progress,
    )
    return Watched(Monitor.bind(model, decomposition, baseline).steadied(most=most), draw)


def _model(name: str, size: Size) -> tuple[MonitoredModel, Callable[[int, int], Inputs]]:
    if name == "demo":
        folder = Path(mad.__file__).parent / "demo"
        model = load_model(
            "mad.demo.model:build",
            folder / "clean.safetensors",
            name=name,
            inputs=["image"],
            arguments={},
            base=folder,
        )
        return model, _images
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Transformer(size)

    def draw(count: int, seed: int) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        return {"tokens": torch.randint(TOKENS, (count, size.sequence), generator=generator)}

    return MonitoredModel.of(module.eval(), name=name, inputs=["tokens"]), draw


def _images(count: int, seed: int) -> Inputs:
    """Return smooth noise: a random 7 by 7 pattern, four times as large."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(count, 1, 7, 7, generator=generator)
    large = functional.interpolate(small, scale_factor=4, mode="bilinear").squeeze(1)
    return {"image": (255 * large).to(torch.uint8)}


def _untrained(
    site: str, pooling: Pooling, sample: Float[Tensor, "batch ..."], size: Size
) -> Dictionary:
    """Make a dictionary of random unit directions around the site's mean."""
    vectors = pool(sample, pooling)
    frame = Frame.of(vectors, name=site)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(size.components, vectors.shape[1], generator=generator)
    directions = functional.normalize(drawn, dim=1)
    return topk_dictionary(
        site=site,
        pooling=pooling,
        k=size.active,
        encoder=directions.T.contiguous(),
        bias=torch.zeros(size.components),
        decoder=directions,
        centre=frame.centre,
        scale=frame.scale,
    )


def _no_progress(stage: str, *, done: int, total: int, note: str = "") -> None:
    """Say nothing."""
