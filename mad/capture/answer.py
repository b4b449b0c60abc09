"""What the model answered: its first output, read as one row of scores an input."""

from jaxtyping import Float, Int64
from torch import Tensor

from mad.capture.hooks import Outputs


def scores(outputs: Outputs, *, batch: int) -> Float[Tensor, "batch label"] | None:
    """Return the first output's last axis at its last position, with what autograd knows of it.

    A single number is the score of label 1 against label 0. None where the output predicts
    nothing: it is of complex numbers, of none, or not one row an input.
    """
    first = next(iter(outputs.values()), None)
    if first is None or first.ndim == 0 or first.shape[0] != batch or first.numel() == 0:
        return None
    if first.is_complex():
        return None
    last = first
    if first.ndim != 2:  # noqa: PLR2004  # batch and labels
        last = first.reshape(batch, -1, first.shape[-1] if first.ndim > 1 else 1)[:, -1]
    return last if last.is_floating_point() else last.double()


def labels(scores: Float[Tensor, "batch label"]) -> Int64[Tensor, " batch"]:
    """Return the label of the largest score, or the sign of a single one."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0).long()
    return scores.argmax(dim=1)
