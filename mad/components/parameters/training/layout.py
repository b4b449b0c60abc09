"""Inner activations and logits in the order in which compiled training is fast.

A subcomponent's numbers for all positions lie side by side in memory, so that a processor's vectors
run over positions: over the few hidden units of its network, they would have to be summed across.
Shapes are as everywhere; only strides differ.
"""

import math

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from mad.components.parameters.importance import ImportanceFunction, ScalarImportance
from mad.components.parameters.layers import MatrixLayer


def inner(
    layer: MatrixLayer, given: Shaped[Tensor, "..."], v: Float[Tensor, "source component"]
) -> Float[Tensor, "*place component"]:
    """Return ``layer.inner(given, v)``."""
    if layer.kind == "embedding":
        return layer.inner(given, v)
    return product(layer.rows(given), v)


def product(
    rows: Float[Tensor, "*place source"], v: Float[Tensor, "source component"]
) -> Float[Tensor, "*place component"]:
    """Return ``rows @ v``."""
    flat = rows.reshape(-1, rows.shape[-1])
    return (v.T @ flat.T).T.reshape(*rows.shape[:-1], v.shape[1])


def logits(
    importance: ImportanceFunction,
    activations: Float[Tensor, "*place component"],
    source: Float[Tensor, "*place source"] | None,
) -> Float[Tensor, "*place component"]:
    """Return ``importance.logits(activations, source)``."""
    if not isinstance(importance, ScalarImportance):
        return importance.logits(activations, source)
    by_component = activations.reshape(-1, activations.shape[-1]).T.unsqueeze(1)
    w_in, b_in, w_out = (
        one.unsqueeze(-1) for one in (importance.w_in, importance.b_in, importance.w_out)
    )
    hidden = functional.gelu(by_component * w_in + b_in)
    return ((hidden * w_out).sum(dim=1).T + importance.b_out).reshape(activations.shape)


def dealt(
    numbers: Float[Tensor, " number"], shape: tuple[int, ...]
) -> Float[Tensor, "*place component"]:
    """Return as many numbers in a shape, the last axis first in memory."""
    assert len(numbers) == math.prod(shape)
    return numbers.view(shape[-1], *shape[:-1]).movedim(0, -1)
