"""What training asks of pieces: that masked models answer alike, and that few are important.

Everything is a weighted mean over the inputs of a batch, so that an input that occurs several times
can be given once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import final

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional

from mad.components.parameters.sigmoids import lower_leaky, upper_leaky
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training import layout
from mad.components.parameters.training.noise import Noise
from mad.components.parameters.training.passes import Looked, Mask, Passes
from mad.components.parameters.training.plan import Distance, SpdPlan

ACTIVE = 0.1
EPSILON = 1e-12
"""Added to importance, so that a power below one has a slope at zero."""


@final
@dataclass(frozen=True)
class Terms:
    """Each term of a loss before its coefficient; zero where the plan does not ask for it."""

    stochastic: Float[Tensor, ""]
    layerwise: Float[Tensor, ""]
    subset: Float[Tensor, ""]
    adversarial: Float[Tensor, ""]
    importance: Float[Tensor, ""]
    frequency: Float[Tensor, ""]
    faithfulness: Float[Tensor, ""]

    def total(self, plan: SpdPlan) -> Float[Tensor, ""]:
        """Return the loss."""
        return sum(
            (
                getattr(plan, f"{one.name}_coefficient") * getattr(self, one.name)
                for one in fields(self)
                if getattr(plan, f"{one.name}_coefficient")
            ),
            torch.zeros(()),
        )


@final
@dataclass(frozen=True)
class Attempt:
    """One batch, the model's own run on it, and how important each piece is in it."""

    passes: Passes
    pieces: Mapping[str, Subcomponents]
    batch: Shaped[Tensor, "batch ..."]
    weight: Float[Tensor, " batch"]
    looked: Looked
    inner: Mapping[str, Float[Tensor, "..."]]
    logits: Mapping[str, Float[Tensor, "..."]]
    distance: Distance

    @staticmethod
    def at(
        passes: Passes,
        pieces: Mapping[str, Subcomponents],
        batch: Shaped[Tensor, "batch ..."],
        weight: Float[Tensor, " batch"],
        distance: Distance,
        *,
        to_compile: bool = False,
    ) -> "Attempt":
        """Run the model as it is; ``weight`` is how often each input occurs.

        ``to_compile`` where this is recorded for a compiler, which other forms suit.
        """
        looked = passes.look(batch)
        inner = {name: passes.inner(looked, piece) for name, piece in pieces.items()}
        logits = {}
        for name, piece in pieces.items():
            needs_source = piece.importance.needs_source
            source = passes.source(looked, piece) if needs_source else None
            logits[name] = layout.logits(
                piece.importance, inner[name], source, to_compile=to_compile
            )
        return Attempt(passes, pieces, batch, weight, looked, inner, logits, distance)

    def missed(
        self,
        sources: Mapping[str, Float[Tensor, "..."]],
        importance: Mapping[str, Float[Tensor, "..."]],
        routed: Mapping[str, Bool[Tensor, "..."]] | None = None,
    ) -> Float[Tensor, ""]:
        """Return how far the output is off with the layers masked that ``sources`` has."""
        everywhere = dict.fromkeys(sources)
        masks = {
            name: (self.pieces[name], _mask(importance[name], one, (routed or everywhere)[name]))
            for name, one in sources.items()
        }
        output = self.passes.masked(self.looked, self.batch, self.inner, masks)
        apart = _apart(output, self.looked.output, self.distance)
        return (self.weight * apart).sum() / self.weight.sum()

    def active(self) -> Float[Tensor, ""]:
        """Return how many subcomponents an input needs by more than 0.1, at each position."""
        counts = [
            self.weight
            @ (one.detach() > ACTIVE).sum(dim=-1).reshape(len(one), -1).float().mean(dim=1)
            for one in self.logits.values()
        ]
        return sum(counts, torch.zeros(())) / self.weight.sum()

    @property
    def places(self) -> Mapping[str, tuple[int, ...]]:
        """Positions of each layer."""
        return {name: tuple(one.shape[:-1]) for name, one in self.inner.items()}


@final
@dataclass(frozen=True)
class Now:
    """What a step has besides its batch: noise, the adversary's sources, ``p`` and ``gamma``."""

    noise: Noise
    sources: Mapping[str, Float[Tensor, "..."]]
    p: float | Float[Tensor, ""]
    gamma: float | Float[Tensor, ""]


def terms(attempt: Attempt, plan: SpdPlan, now: Now, unfaithful: Float[Tensor, ""]) -> Terms:
    """Return what a batch finds; ``unfaithful`` is what pieces miss of the weights."""
    noise = now.noise
    nothing = torch.zeros(())
    g = {name: lower_leaky(one) for name, one in attempt.logits.items()}
    of_layers = [attempt.missed({name: one}, g) for name, one in noise.layerwise.items()]
    importance, frequency = _costs(attempt, plan, now)
    routed = noise.routed(attempt.places) if noise.subset else None
    return Terms(
        stochastic=attempt.missed(noise.stochastic, g) if noise.stochastic else nothing,
        layerwise=sum(of_layers, nothing) / max(len(of_layers), 1),
        subset=attempt.missed(noise.subset, g, routed) if noise.subset else nothing,
        adversarial=attempt.missed(now.sources, g) if now.sources else nothing,
        importance=importance,
        frequency=frequency,
        faithfulness=unfaithful,
    )


def _mask(importance: Tensor, source: Tensor, routed: Tensor | None) -> Mask:
    width = importance.shape[-1]
    scaled = importance + (1 - importance) * source[..., :width]
    has_delta = source.shape[-1] > width
    delta = source[..., width:].expand(*importance.shape[:-1], 1) if has_delta else None
    return Mask(scaled, delta, routed)


def _apart(output: Tensor, wanted: Tensor, distance: Distance) -> Float[Tensor, " batch"]:
    if distance == "mse":
        apart = (output - wanted).square()
    else:
        ours, theirs = (functional.log_softmax(one, dim=-1) for one in (output, wanted))
        apart = (theirs.exp() * (theirs - ours)).sum(dim=-1)
    return apart.reshape(len(apart), -1).mean(dim=1)


def _costs(attempt: Attempt, plan: SpdPlan, now: Now) -> tuple[Tensor, Tensor]:
    """Return the sums over subcomponents of ``s / n`` and of ``s / n * log2(1 + s)``."""
    mean, often = torch.zeros(()), torch.zeros(())
    for logits in attempt.logits.values():
        cost = _cost(upper_leaky(logits), plan, now)
        of_input = cost.reshape(len(cost), -1, cost.shape[-1])
        s = torch.einsum("b,bpc->c", attempt.weight, of_input)
        n = attempt.weight.sum() * of_input.shape[1]
        mean = mean + s.sum() / n
        if plan.frequency_coefficient:
            often = often + (s * torch.log2(1 + s)).sum() / n
    return mean, often


def _cost(importance: Tensor, plan: SpdPlan, now: Now) -> Tensor:
    match plan.penalty:
        case "lp":
            return (importance + EPSILON).pow(now.p)
        case "smooth_l0":
            square = importance.square()
            return square / (square + now.gamma**2)
