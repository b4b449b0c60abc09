"""How much of an input's output each component accounts for, to first order; and which are used."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from threading import Lock
from typing import Final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from mad.components.parameters.apd.components import Components
from mad.components.parameters.apd.passes import Seen, Visited
from mad.errors import ConfigError

MOST_OUTPUTS: Final = 1_000
"""Numbers an input that are each followed back through the model, where tangents do not go."""

_BACKWARD: Final = 3
"""What a backward pass costs in passes of tangents, which go side by side: measured on an MLP."""

_TANGENTS: Final = Lock()
"""Torch counts for the whole process how deep tangents are nested: without a lock those of a second
thread end with the first one's, and are zero."""

_NUMBERS: Final = 1 << 24
"""Numbers of layers' outputs and of the model's that are changed at once: they are in memory."""


def attributions(
    visited: Visited, seen: Seen, batch: Shaped[Tensor, "batch ..."], components: Components
) -> Float[Tensor, "batch component"]:
    """Return ``sum over outputs o of (sum over layers l of <d f_o / d y_l, a_l P_{c,l}>)^2``.

    ``y_l`` is what layer ``l`` returns in the run that was seen (APD, equation 6, without its root
    and its division by the number of outputs, which change no order). As in the paper's code, a
    backward pass for each number of the output finds it. The inner sums of all outputs together
    are the derivative of the output along one direction, so where components are few, a forward
    pass of tangents for each of them does instead.

    Raises:
        ConfigError: an operation of the model has no tangents, and its outputs are more than
            ``MOST_OUTPUTS``.
    """
    outputs = seen.output[0].numel()
    if outputs * _BACKWARD <= next(iter(components.values())).width:
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
    nothing = {name: torch.zeros_like(one) for name, one in seen.returned.items()}

    def squares(added: Mapping[str, Tensor]) -> Tensor:
        run = partial(_moved, visited, seen, batch)
        slope: Tensor = torch.func.jvp(run, (nothing,), (added,))[1]
        return slope.flatten(1).square().sum(dim=1)

    with _TANGENTS, torch.no_grad():
        _load_tangents()
        found = [torch.func.vmap(squares)(each) for each in _each(seen, components)]
    return torch.cat(found).T


def by_outputs(
    visited: Visited, seen: Seen, batch: Shaped[Tensor, "batch ..."], components: Components
) -> Float[Tensor, "batch component"]:
    """Return attributions by a backward pass for each number of the output."""
    with torch.enable_grad():
        # Gradients go to what is added to layers, and so to no parameter of the model.
        added = {
            name: torch.zeros_like(one).requires_grad_() for name, one in seen.returned.items()
        }
        numbers = _moved(visited, seen, batch, added).flatten(1).sum(dim=0)
    found = torch.zeros(())
    some = max(1, _NUMBERS // sum(one.numel() for one in added.values()))
    for start in range(0, len(numbers), some):
        slopes = _slopes(numbers, range(len(numbers))[start : start + some], added)
        with torch.no_grad():
            parts = [_squares(each, slopes) for each in _each(seen, components)]
            found = found + torch.cat(parts).T
    return found


def _slopes(
    numbers: Float[Tensor, " output"],
    places: Sequence[int],
    added: Mapping[str, Float[Tensor, "batch ..."]],
) -> Mapping[str, Float[Tensor, "some batch ..."]]:
    """Return the slopes of some of the outputs; after the last no more can be asked for."""
    rows = [
        torch.autograd.grad(
            numbers,
            list(added.values()),
            # Not an entry by itself: its way back would pass through all entries one by one.
            grad_outputs=functional.one_hot(torch.tensor(place), len(numbers)).to(numbers.dtype),
            retain_graph=place + 1 < len(numbers),
            allow_unused=True,
            materialize_grads=True,
        )
        for place in places
    ]
    return {
        name: torch.stack(own) for name, own in zip(added, zip(*rows, strict=True), strict=True)
    }


def _squares(
    each: Mapping[str, Float[Tensor, "component batch ..."]],
    slopes: Mapping[str, Float[Tensor, "output batch ..."]],
) -> Float[Tensor, "component batch"]:
    """Return the squares of what some components change of some outputs, added up over these."""
    changes = [
        torch.einsum("cbx,obx->ocb", own.flatten(2), slopes[name].flatten(2))
        for name, own in each.items()
    ]
    return torch.stack(changes).sum(dim=0).square().sum(dim=0)


def _each(
    seen: Seen, components: Components
) -> Iterator[Mapping[str, Float[Tensor, "some batch ..."]]]:
    """Yield what components write in each layer, as many at once as there is room for."""
    numbers = seen.output.numel() + sum(one.numel() for one in seen.returned.values())
    some = max(1, _NUMBERS // numbers)
    for start in range(0, next(iter(components.values())).width, some):
        yield {
            name: one.some(start, start + some).each(seen.given[name])
            for name, one in components.items()
        }


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
