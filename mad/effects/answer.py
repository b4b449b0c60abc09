"""The number that effects are on: what a model answers of the label that it predicts."""

import math
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from mad.capture.answer import labels, scores
from mad.capture.hooks import Outputs
from mad.errors import ConfigError

Answer: TypeAlias = Literal["score", "loss"]
"""The score of a label, as the model gives it, or the label's code length in bits: ``-log2`` of its
softmax. The slope of the second is near zero where the model is sure, so scores tell more there."""


def predicted(outputs: Outputs, *, batch: int) -> Int64[Tensor, " batch"]:
    """Return the label that the model predicts for each input; ConfigError if it predicts none."""
    return labels(_scores(outputs, batch=batch))


def answered(
    outputs: Outputs, label: Int64[Tensor, " batch"], *, answer: Answer = "score"
) -> Float[Tensor, " batch"]:
    """Return what a model answers of one label of each input, with what autograd knows of it.

    A single number is the score of label 1 against label 0: for the latter, its sign changes.

    Raises:
        ConfigError: the first output is no row of numbers an input.
    """
    found = _scores(outputs, batch=len(label))
    if answer == "loss":
        both = functional.pad(found, (1, 0)) if found.shape[1] == 1 else found
        own = functional.log_softmax(both, dim=1).gather(1, label.unsqueeze(1))
        return -own.squeeze(1) / math.log(2)
    if found.shape[1] == 1:
        return torch.where(label == 1, found[:, 0], -found[:, 0])
    return found.gather(1, label.unsqueeze(1)).squeeze(1)


def _scores(outputs: Outputs, *, batch: int) -> Float[Tensor, "batch label"]:
    found = scores(outputs, batch=batch)
    if found is None:
        raise ConfigError(
            "the model's first output is no row of numbers an input, so nothing can have an effect "
            "on it; give a model that returns scores"
        )
    return found
