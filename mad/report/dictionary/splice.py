"""What the model loses when a dictionary's reconstruction stands in the place of what it explains.

The model, a dictionary and a batch of inputs in; losses and agreement, to be added up, out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn import functional

from mad.capture.answer import labels, scores
from mad.capture.edit import Edit, run_edited
from mad.capture.hooks import Outputs
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.pooling import pool
from mad.errors import ConfigError
from mad.types import Activity, Inputs, Site, View, batch_size

Loss: TypeAlias = Literal["cross-entropy", "divergence"]
"""Against labels, or the Kullback-Leibler divergence from the model's own answer."""

Standing: TypeAlias = Literal["reconstruction", "zero", "mean"]
"""What stands in the place of the pooled activation."""

STANDINGS: Final[tuple[Standing, ...]] = ("reconstruction", "zero", "mean")


@final
@dataclass(frozen=True, slots=True)
class Effect:
    """The mean loss in bits, and the share of inputs that keep the label of the unchanged model."""

    loss_bits: float
    agreement: float


@final
@dataclass(frozen=True, slots=True)
class Splice:
    """The model's loss unchanged (``clean_bits``), with the reconstruction, and without either.

    The first output is read as logits. Of several sites explained at once, all are replaced. The
    pooled vector is what is replaced: by the reconstruction, by zero, or by its mean over
    fitting inputs, and positions follow as the pooling needs it.
    """

    loss: Loss
    clean_bits: float
    reconstructed: Effect
    zeroed: Effect
    averaged: Effect

    @property
    def recovered_from_zero(self) -> float:
        """The share of what zero ablation loses that the reconstruction keeps.

        ``1 - (spliced - clean) / (ablated - clean)`` (Rajamanoharan et al. 2024); NaN where
        ablation loses nothing.
        """
        return self._recovered(self.zeroed)

    @property
    def recovered_from_mean(self) -> float:
        """The same for what mean ablation loses, which is the harder standard."""
        return self._recovered(self.averaged)

    def _recovered(self, ablated: Effect) -> float:
        lost = ablated.loss_bits - self.clean_bits
        kept = self.reconstructed.loss_bits - self.clean_bits
        return 1 - kept / lost if lost > 0 else math.nan


@final
@dataclass(frozen=True)
class SpliceSums:
    """Sums over inputs: of the clean loss, and for each of ``STANDINGS`` of loss and agreement."""

    loss: Loss
    inputs: int
    clean: float
    lost: Float64[Tensor, " standing"]
    agreed: Float64[Tensor, " standing"]

    def merge(self, other: "SpliceSums") -> "SpliceSums":
        """Return the sums of both parts of the data."""
        return SpliceSums(
            self.loss,
            self.inputs + other.inputs,
            self.clean + other.clean,
            self.lost + other.lost,
            self.agreed + other.agreed,
        )

    @property
    def means(self) -> Splice:
        """The figures of all inputs."""
        effects = [
            Effect(float(lost) / self.inputs, float(agreed) / self.inputs)
            for lost, agreed in zip(self.lost, self.agreed, strict=True)
        ]
        return Splice(self.loss, self.clean / self.inputs, *effects)


@final
@dataclass(frozen=True)
class Answered:
    """What the unchanged model answers to a batch, and the true labels where they are known."""

    inputs: Inputs
    logits: Float64[Tensor, "batch label"]
    truth: Int64[Tensor, " batch"] | None

    @staticmethod
    def of(inputs: Inputs, outputs: Outputs, truth: Tensor | None) -> "Answered | None":
        """Read the answer; None of a model that predicts nothing.

        Raises:
            ConfigError: the labels are not one whole number an input that the model can answer.
        """
        logits = _logits(outputs, batch=batch_size(inputs))
        if logits is None:
            return None
        return Answered(inputs, logits, None if truth is None else _checked(truth, logits))

    @property
    def loss(self) -> Loss:
        """What losses are measured by."""
        return "divergence" if self.truth is None else "cross-entropy"

    def losses(self, logits: Float64[Tensor, "batch label"]) -> Float64[Tensor, " batch"]:
        """Return the loss of other answers to the same inputs, in bits."""
        spoken = functional.log_softmax(logits, dim=1)
        if self.truth is not None:
            return -spoken.gather(1, self.truth.unsqueeze(1)).squeeze(1) / math.log(2)
        own = functional.log_softmax(self.logits, dim=1)
        # A label of no chance at all costs nothing, however the other answer rates it.
        return torch.where(own.isneginf(), 0.0, own.exp() * (own - spoken)).sum(dim=1) / math.log(2)


def splice(
    model: MonitoredModel,
    dictionary: Dictionary,
    answered: Answered,
    activities: Mapping[View, Activity],
    mean: Float[Tensor, " target"],
) -> SpliceSums:
    """Run the model once for each standing, and compare with its unchanged answer."""
    own = [activities[view] for view in dictionary.views]
    explained = torch.cat([one.activation - one.residual for one in own], dim=1).float()
    by: Mapping[Standing, Tensor] = {
        "reconstruction": explained,
        "zero": torch.zeros_like(explained),
        "mean": mean.expand_as(explained),
    }
    lost, agreed = [], []
    for standing in STANDINGS:
        outputs = run_edited(model, _edits(dictionary, by[standing]), answered.inputs)
        logits = _logits(outputs, batch=len(explained))
        assert logits is not None, "an edit changes no output's shape"
        lost.append(answered.losses(logits).sum())
        agreed.append((labels(logits) == labels(answered.logits)).double().sum())
    clean = float(answered.losses(answered.logits).sum())
    return SpliceSums(answered.loss, len(explained), clean, torch.stack(lost), torch.stack(agreed))


def _edits(dictionary: Dictionary, wanted: Float[Tensor, "batch target"]) -> dict[Site, Edit]:
    def edit_of(view: View, own: Float[Tensor, "batch coordinate"]) -> Edit:
        def edit(now: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
            # From what is there now: an edit at an earlier site has already changed it.
            change = own - pool(now, dictionary.look.pooling).float()
            return now + dictionary.spread(view, change, now)

        return edit

    parts = wanted.split(dictionary.widths, dim=1)
    return {
        site: edit_of(view, own)
        for (view, site), own in zip(dictionary.views.items(), parts, strict=True)
    }


def _logits(outputs: Outputs, *, batch: int) -> Float64[Tensor, "batch label"] | None:
    found = scores(outputs, batch=batch)
    if found is None:
        return None
    # A single number is the score of label 1 against label 0.
    return (functional.pad(found, (1, 0)) if found.shape[1] == 1 else found).double()


def _checked(truth: Tensor, logits: Float64[Tensor, "batch label"]) -> Int64[Tensor, " batch"]:
    whole = truth.reshape(len(truth), -1)
    if whole.shape[1] != 1 or truth.is_floating_point():
        raise ConfigError(
            f"labels are {truth.dtype} of shape {tuple(truth.shape)}; give one whole number for "
            "each input"
        )
    own = whole[:, 0].long()
    wrong = own[(own < 0) | (own >= logits.shape[1])]
    if len(wrong):
        raise ConfigError(
            f"label {int(wrong[0])} is none of the {logits.shape[1]} that the model answers; name "
            "another array, or leave --labels out to compare with the model's own answers"
        )
    return own
