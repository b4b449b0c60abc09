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
from mad.components.parameters.training import networks
from mad.components.parameters.training.strides import kept_side_by_side


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
    by_component = kept_side_by_side(v.T @ flat.T)
    return by_component.T.reshape(*rows.shape[:-1], v.shape[1])


def logits(
    importance: ImportanceFunction,
    activations: Float[Tensor, "*place component"],
    source: Float[Tensor, "*place source"] | None,
    *,
    to_compile: bool = False,
) -> Float[Tensor, "*place component"]:
    """Return ``importance.logits(activations, source)``; ``to_compile`` in a form for compilers."""
    if not isinstance(importance, ScalarImportance):
        return importance.logits(activations, source)
    by_component = activations.reshape(-1, activations.shape[-1]).T
    weights = importance.w_in, importance.b_in, importance.w_out
    found = (
        networks.logits(by_component, *weights) if to_compile else _summed(by_component, *weights)
    )
    return (found.T + importance.b_out).reshape(activations.shape)


def hidden_first(
    weights: Float[Tensor, "component hidden"],
) -> Float[Tensor, "component hidden"]:
    """Return the weights with hidden units apart in memory: loops run over positions, not them."""
    return weights.T.contiguous().T


def dealt(
    numbers: Float[Tensor, " number"], shape: tuple[int, ...]
) -> Float[Tensor, "*place component"]:
    """Return as many numbers in a shape, the last axis first in memory."""
    assert len(numbers) == math.prod(shape)
    return numbers.view(shape[-1], *shape[:-1]).movedim(0, -1)


def _summed(inner: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor) -> Tensor:
    hidden = functional.gelu(inner.unsqueeze(1) * w_in.unsqueeze(-1) + b_in.unsqueeze(-1))
    return (hidden * w_out.unsqueeze(-1)).sum(dim=1)
