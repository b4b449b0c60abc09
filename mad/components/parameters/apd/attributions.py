"""How much of an input's output each component accounts for, to first order; and which are used."""

import warnings
from collections.abc import Mapping
from typing import Final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mad.components.parameters.apd.components import Components
from mad.components.parameters.apd.passes import Seen, Visited

_ROWS: Final = 1 << 16
"""Changes of inputs that are followed through the model at once."""


def attributions(
    visited: Visited, seen: Seen, batch: Shaped[Tensor, "batch ..."], components: Components
) -> Float[Tensor, "batch component"]:
    """Return ``sum over outputs o of (sum over layers l of <d f_o / d y_l, a_l P_{c,l}>)^2``.

    ``y_l`` is what layer ``l`` returns in the run that was seen (APD, equation 6, without its root
    and its division by the number of outputs, which change no order). The inner sums of all outputs
    together are the derivative of the output along one direction, so each component takes one
    forward pass of tangents, however many outputs there are; the paper's code takes one backward
    pass an output.
    """
    with torch.no_grad():
        each = {
            name: factors.each(seen.given[name]).detach() for name, factors in components.items()
        }
        nothing = {name: torch.zeros_like(one) for name, one in seen.returned.items()}

        def moved(added: Mapping[str, Tensor]) -> Tensor:
            return visited.run(
                batch, lambda name, given, out: seen.visit(name, given, out) + added[name]
            )

        def along(added: Mapping[str, Tensor]) -> Tensor:
            slope: Tensor = torch.func.jvp(moved, (nothing,), (added,))[1]
            return slope

        chunk = max(1, _ROWS // len(batch))
        with warnings.catch_warnings():
            # Torch loads its rules for tangents by a way of its own that it calls outdated.
            warnings.simplefilter("ignore", DeprecationWarning)
            slopes: Tensor = torch.func.vmap(along, chunk_size=chunk)(each)
    return slopes.flatten(2).square().sum(dim=2).T


def most_of_batch(
    found: Float[Tensor, "batch component"], *, active: float
) -> Float[Tensor, "batch component"]:
    """Return 1 for the largest of a whole batch, ``active`` an input on average; else 0.

    What an input uses so depends on its companions: for training only.
    """
    return _largest(found.reshape(1, -1), int(active * len(found))).reshape(found.shape)


def most_of_each(
    found: Float[Tensor, "batch component"], *, active: int
) -> Float[Tensor, "batch component"]:
    """Return 1 for the ``active`` largest of each input, else 0."""
    return _largest(found, active)


def _largest(found: Float[Tensor, "row column"], count: int) -> Float[Tensor, "row column"]:
    places = found.topk(count, dim=1).indices
    return torch.zeros_like(found).scatter_(1, places, 1.0)
