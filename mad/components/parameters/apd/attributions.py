"""How much of an input's output each component accounts for, to first order; and which are used."""

import warnings
from collections.abc import Mapping
from functools import cache, partial
from typing import Final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mad.components.parameters.apd.components import Components
from mad.components.parameters.apd.passes import Seen, Visited
from mad.errors import ConfigError

MOST_OUTPUTS: Final = 1_000
"""Numbers an input that are each followed back through the model, where tangents do not go."""

_ROWS: Final = 1 << 16
"""Changes of inputs that are followed through the model at once."""


def attributions(
    visited: Visited, seen: Seen, batch: Shaped[Tensor, "batch ..."], components: Components
) -> Float[Tensor, "batch component"]:
    """Return ``sum over outputs o of (sum over layers l of <d f_o / d y_l, a_l P_{c,l}>)^2``.

    ``y_l`` is what layer ``l`` returns in the run that was seen (APD, equation 6, without its root
    and its division by the number of outputs, which change no order). As in the paper's code, a
    backward pass for each number of the output finds it. The inner sums of all outputs together
    are the derivative of the output along one direction, so where components are no more than
    outputs, a forward pass of tangents for each component does instead.

    Raises:
        ConfigError: an operation of the model has no tangents, and its outputs are more than
            ``MOST_OUTPUTS``.
    """
    outputs = seen.output[0].numel()
    if outputs < next(iter(components.values())).width:
        return by_outputs(visited, seen, batch, components)
    try:
        return by_components(visited, seen, batch, components)
    except (NotImplementedError, RuntimeError) as cause:
        if outputs > MOST_OUTPUTS:
            reason = str(cause).partition("\n")[0]
            raise ConfigError(
                f"attributions cannot be found: the model has no derivatives forward ({reason}), "
                f"and answers {outputs} numbers an input, each of which would take a backward "
                f"pass (at most {MOST_OUTPUTS}): build it of plain operations, such as attention "
                "that is 'eager', or let it return fewer numbers"
            ) from cause
    return by_outputs(visited, seen, batch, components)


def by_components(
    visited: Visited, seen: Seen, batch: Shaped[Tensor, "batch ..."], components: Components
) -> Float[Tensor, "batch component"]:
    """Return attributions by a forward pass of tangents for each component.

    Raises:
        RuntimeError: an operation of the model has none.
    """
    _load_tangents()
    with torch.no_grad():
        each = {
            name: factors.each(seen.given[name]).detach() for name, factors in components.items()
        }
        nothing = {name: torch.zeros_like(one) for name, one in seen.returned.items()}

        def along(added: Mapping[str, Tensor]) -> Tensor:
            run = partial(_moved, visited, seen, batch)
            slope: Tensor = torch.func.jvp(run, (nothing,), (added,))[1]
            return slope

        chunk = max(1, _ROWS // len(batch))
        slopes: Tensor = torch.func.vmap(along, chunk_size=chunk)(each)
    return slopes.flatten(2).square().sum(dim=2).T


def by_outputs(
    visited: Visited, seen: Seen, batch: Shaped[Tensor, "batch ..."], components: Components
) -> Float[Tensor, "batch component"]:
    """Return attributions by a backward pass for each number of the output."""
    with torch.no_grad():
        inner = {name: one.inner(seen.given[name]) for name, one in components.items()}
    with torch.enable_grad():
        # Gradients go to what is added to layers, and so to no parameter of the model.
        added = {
            name: torch.zeros_like(one).requires_grad_() for name, one in seen.returned.items()
        }
        numbers = _moved(visited, seen, batch, added).flatten(1)
    found = torch.zeros(len(batch), next(iter(components.values())).width, dtype=numbers.dtype)
    for place in range(numbers.shape[1]):
        slopes = torch.autograd.grad(
            numbers[:, place].sum(),
            list(added.values()),
            retain_graph=place + 1 < numbers.shape[1],
            allow_unused=True,
        )
        with torch.no_grad():
            shares = torch.zeros_like(found)
            for name, slope in zip(added, slopes, strict=True):
                if slope is not None:
                    shares += components[name].along(inner[name], slope)
            found += shares.square()
    return found


def _moved(
    visited: Visited,
    seen: Seen,
    batch: Shaped[Tensor, "batch ..."],
    added: Mapping[str, Float[Tensor, "batch ..."]],
) -> Float[Tensor, "batch ..."]:
    """Return the output with something added to what each layer returns."""
    return visited.run(batch, lambda name, given, out: seen.visit(name, given, out) + added[name])


@cache
def _load_tangents() -> None:
    """Have torch load its rules for tangents, by a way of its own that it calls outdated."""
    # Once: whoever changes what becomes of warnings does so for all threads.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        one = torch.zeros(1)
        torch.func.jvp(torch.exp, (one,), (one,))


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
