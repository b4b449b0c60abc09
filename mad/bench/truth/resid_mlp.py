"""Residual networks that compute ``x + relu(x)`` of sparse features with too few neurons.

A fixed embedding of random unit rows ``E`` writes features to a residual stream, each layer adds
``relu(stream @ w_in) @ w_out``, and ``E.T`` reads the features again (Bushnaq et al. 2025, APD).
Features are uniform on [-1, 1] with a probability of 0.01, and else zero.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mad.bench.truth.descent import descend
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training import layout
from mad.components.parameters.training.passes import Looked, Mask, Seen

RATE = 0.01
"""How often a feature is on."""

LEARNING_RATE, DECAY = 3e-3, 0.01


@final
class _Mlp(nn.Module):
    def __init__(self, w_in: Tensor, w_out: Tensor) -> None:
        super().__init__()
        (width, neurons), _ = w_in.shape, w_out.shape
        self.mlp_in = nn.Linear(width, neurons, bias=False)
        self.mlp_out = nn.Linear(neurons, width, bias=False)
        self.mlp_in.weight = nn.Parameter(w_in.T, requires_grad=False)
        self.mlp_out.weight = nn.Parameter(w_out.T, requires_grad=False)

    def forward(self, stream: Tensor) -> Tensor:
        added: Tensor = self.mlp_out(torch.relu(self.mlp_in(stream)))
        return added


@final
class ResidMlp(nn.Module):
    """Layers ``layers.0`` and on, each of ``mlp_in`` and ``mlp_out``, between fixed embeddings."""

    embedding: Float[Tensor, "feature stream"]

    def __init__(
        self,
        embedding: Float[Tensor, "feature stream"],
        layers: list[tuple[Float[Tensor, "stream neuron"], Float[Tensor, "neuron stream"]]],
    ) -> None:
        super().__init__()
        self.register_buffer("embedding", embedding)
        self.layers = nn.ModuleList(_Mlp(w_in, w_out) for w_in, w_out in layers)

    def forward(self, given: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch feature"]:
        """Return what the network makes of features."""
        stream = given @ self.embedding
        for layer in self.layers:
            stream = stream + layer(stream)
        return stream @ self.embedding.T


def sparse(
    rows: int, features: int, generator: torch.Generator, *, rate: float = RATE
) -> Float[Tensor, "row feature"]:
    """Draw inputs whose features are uniform on [-1, 1] when they are on."""
    drawn = torch.rand(2, rows, features, generator=generator)
    return (2 * drawn[0] - 1) * (drawn[1] < rate)


@final
@dataclass(frozen=True)
class ResidMlpTask:
    """Sizes of a network, ``neurons`` of each layer, and how long, on what, it is trained."""

    features: int
    neurons: int
    layers: int
    stream: int = 1_000
    batch: int = 2_048
    steps: int = 1_000
    rate: float = RATE

    def trained(self, seed: int) -> tuple[ResidMlp, int]:
        """Train a network as published (AdamW, cosine rate), and return it with its seed."""
        generator = torch.Generator().manual_seed(seed)
        embedding = functional.normalize(
            torch.randn(self.features, self.stream, generator=generator), dim=1
        )
        weights = []
        for _ in range(self.layers):
            w_in = torch.randn(self.stream, self.neurons, generator=generator)
            w_out = torch.randn(self.neurons, self.stream, generator=generator)
            weights += [w_in / math.sqrt(self.stream), w_out / math.sqrt(self.neurons)]
        weights = [one.requires_grad_() for one in weights]
        optimiser = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=DECAY, fused=True)
        for step in range(self.steps):
            batch = sparse(self.batch, self.features, generator, rate=self.rate)
            folded = Folded.of(embedding, list(zip(weights[::2], weights[1::2], strict=True)))
            missed = folded.output(batch) - (batch + torch.relu(batch))
            loss = missed.square().mean()
            descend(optimiser, loss, weights, rate=LEARNING_RATE, step=step, steps=self.steps)
        done = [one.detach() for one in weights]
        return ResidMlp(embedding, list(zip(done[::2], done[1::2], strict=True))), seed


@final
@dataclass(frozen=True)
class Folded:
    """A network whose stream is never formed: what is written to it times what reads it.

    As everything between writers and readers is linear, a reader sees the sum over writers of what
    each wrote times ``writer @ reader``, which is small.
    """

    embedding: Float[Tensor, "feature stream"]
    layers: list[tuple[Tensor, Tensor]]

    @staticmethod
    def of(embedding: Tensor, layers: list[tuple[Tensor, Tensor]]) -> "Folded":
        """Fold a network."""
        return Folded(embedding, layers)

    def output(self, batch: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch feature"]:
        """Run it."""
        written = [(batch, self.embedding)]
        for w_in, w_out in self.layers:
            written.append((torch.relu(read(written, w_in)), w_out))
        return read(written, self.embedding.T)


def read(written: list[tuple[Tensor, Tensor]], reader: Tensor) -> Tensor:
    """Return what a reader sees of what was written: pairs of numbers and their directions."""
    first, *others = (layout.product(numbers, one @ reader) for numbers, one in written)
    return sum(others, first)


@final
class FoldedPasses:
    """Masked passes of a network whose stream is never formed; scalar importance only."""

    def __init__(self, model: ResidMlp) -> None:
        self._embedding = model.embedding
        self._layers: list[tuple[tuple[str, str], Tensor, Tensor]] = []
        for number, layer in enumerate(model.layers):
            assert isinstance(layer, _Mlp)
            names = f"layers.{number}.mlp_in", f"layers.{number}.mlp_out"
            weights = layer.mlp_in.weight.detach().T, layer.mlp_out.weight.detach().T
            self._layers.append((names, *weights))

    def look(self, batch: Float[Tensor, "batch feature"]) -> Looked:
        """Run the model as it is.

        What ``mlp_in`` is given has a column for all that was written: features, and the neurons of
        layers before.
        """
        with torch.no_grad():
            written, seen = [(batch, self._embedding)], {}
            for (name_in, name_out), w_in, w_out in self._layers:
                before = read(written, w_in)
                given = torch.cat([numbers for numbers, _ in written], dim=1)
                seen[name_in] = Seen(given, before)
                neurons = torch.relu(before)
                seen[name_out] = Seen(neurons, neurons)
                written.append((neurons, w_out))
            return Looked(read(written, self._embedding.T), seen)

    def inner(self, looked: Looked, piece: Subcomponents) -> Float[Tensor, "*place component"]:
        """Return inner activations of a layer in the model as it is."""
        name = piece.layer.name
        given = looked.seen[name].given
        if name.endswith("mlp_out"):
            return layout.product(given, piece.v)
        directions = [self._embedding, *(w_out for _, _, w_out in self._layers)]
        before = torch.cat(directions[: int(name.split(".")[1]) + 1])
        return layout.product(given, before @ piece.v)

    def source(self, looked: Looked, piece: Subcomponents) -> Float[Tensor, "*place source"]:
        """Refuse: rows of the stream are what is never formed."""
        raise NotImplementedError

    def masked(
        self,
        looked: Looked,
        batch: Float[Tensor, "batch feature"],
        inner: Mapping[str, Float[Tensor, "..."]],
        masks: Mapping[str, tuple[Subcomponents, Mask]],
    ) -> Float[Tensor, "batch feature"]:
        """Return the output with these layers masked; ``inner`` is of the model as it is."""
        written = [(batch, self._embedding)]
        is_own = True
        for (name_in, name_out), w_in, w_out in self._layers:
            own = looked.seen[name_in].returned, looked.seen[name_out].given
            before = own[0] if is_own else read(written, w_in)
            if name_in in masks:
                piece, mask = masks[name_in]
                activations = inner[name_in] if is_own else read(written, piece.v)
                before = _masked(mask, activations, piece, before)
                is_own = False
            neurons = own[1] if is_own else torch.relu(before)
            if name_out not in masks:
                written.append((neurons, w_out))
                continue
            piece, mask = masks[name_out]
            activations = inner[name_out] if is_own else layout.product(neurons, piece.v)
            written += _written(mask, activations, piece, (neurons, w_out))
            is_own = False
        return read(written, self._embedding.T)


def _masked(mask: Mask, inner: Tensor, piece: Subcomponents, product: Tensor) -> Tensor:
    assert mask.routed is None, "subsets of layers need the model itself"
    if mask.delta is None:
        return (mask.subcomponents * inner) @ piece.u
    return ((mask.subcomponents - mask.delta) * inner) @ piece.u + mask.delta * product


def _written(
    mask: Mask, inner: Tensor, piece: Subcomponents, whole: tuple[Tensor, Tensor]
) -> list[tuple[Tensor, Tensor]]:
    assert mask.routed is None, "subsets of layers need the model itself"
    if mask.delta is None:
        return [(mask.subcomponents * inner, piece.u)]
    numbers, directions = whole
    scaled = (mask.subcomponents - mask.delta) * inner
    return [(scaled, piece.u), (mask.delta * numbers, directions)]
