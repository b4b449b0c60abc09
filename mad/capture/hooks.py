"""Run the model once and keep the output of chosen modules, leaving the model as it was found."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mad.capture.model import MonitoredModel
from mad.capture.sites import Address
from mad.errors import ConfigError
from mad.types import Activations, Inputs, Site, batch_size

_INTEGERS: Final = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})

Outputs: TypeAlias = Mapping[str, Shaped[Tensor, "..."]]

Hook: TypeAlias = Callable[[nn.Module, object, object], object]
"""Given a module, its arguments and its output; what it returns, if not None, is the output.

Of a module's inputs, the output is a dict of them: positional ones by their number, from ``"0"``.
"""

End: TypeAlias = tuple[str, bool]
"""A module by its name, and whether it is what goes into it that is seen, or what comes out."""


@final
@dataclass(frozen=True)
class Run:
    """What one forward pass computed: the model's own outputs, and the activations at the sites."""

    outputs: Outputs
    activations: Activations


def capture(model: MonitoredModel, sites: Sequence[Site], inputs: Inputs) -> Run:
    """Run the model once and return its outputs and the activations at the sites.

    Law: outputs are bit for bit what the model returns without us; inputs, hooks, mode,
    parameters and gradients stay as they were.

    Raises:
        ConfigError: a site does not run exactly once in a forward pass (name a call with ``#``),
            it is no floating-point tensor whose first axis is the batch (what goes in may be of
            integers), or part of the model is in training mode, in which a forward pass may change
            it.
    """
    calls: dict[End, list[object]] = defaultdict(list)
    addresses = {site: Address.parse(site) for site in sites}
    hooks = {address.end: partial(keep, calls[address.end]) for address in addresses.values()}
    with torch.no_grad(), hooked(model.module, hooks):
        output = forward(model, inputs)
    activations = gathered(addresses, calls, batch=batch_size(inputs))
    return Run(named_tensors(output), activations)


def gathered(
    addresses: Mapping[Site, Address], calls: Mapping[End, Sequence[object]], *, batch: int
) -> Activations:
    """Return each site's activation of what the modules gave; ConfigError as ``capture``."""
    activations = {}
    for site, address in addresses.items():
        of_end = calls[address.end]
        check_calls(site, address, len(of_end))
        kept = of_end[max(address.call, 1) - 1]
        activations[site] = activation(site, address, kept, batch=batch)
    return activations


def forward(model: MonitoredModel, inputs: Inputs) -> object:
    """Run the model on copies: a first operation in place would change the caller's inputs."""
    output: object = model.module(*(inputs[name].clone() for name in model.inputs))
    return output


def named_tensors(output: object) -> dict[str, Tensor]:
    """Name the tensors of a module's output: ``output``, ``output_0`` and on, or a dict's keys."""
    # Detached: a model may switch gradients on for itself.
    return {name: value.detach() for name, value in tensors_in(output).items()}


def tensors_in(output: object) -> dict[str, Tensor]:
    """Name the tensors of a module's output, as they are: with what autograd knows of them."""
    named: Mapping[str, object]
    match output:
        case Tensor():
            named = {"output": output}
        case Mapping():
            named = {str(key): value for key, value in output.items()}
        case list() | tuple():
            named = {f"output_{index}": value for index, value in enumerate(output)}
        case _:
            named = {}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


@contextmanager
def hooked(module: nn.Module, hooks: Mapping[End, Hook]) -> Iterator[None]:
    """Put a hook on each end of a module, and take all of them off again, come what may.

    Raises:
        ConfigError: there is no module of a name, or part of the model is in training mode.
    """
    modules = dict(module.named_modules())
    _check_evaluating(modules)
    with ExitStack() as registered:
        for (name, is_input), hook in hooks.items():
            if name not in modules:
                raise ConfigError(f"the model has no module named {name!r}")
            part = modules[name]
            handle = (
                part.register_forward_pre_hook(partial(_before, hook), with_kwargs=True)
                if is_input
                else part.register_forward_hook(hook)
            )
            registered.callback(handle.remove)
        yield


def check_calls(site: Site, address: Address, ran: int) -> None:
    """Refuse a site whose module ran too rarely, or more than once where no call is named."""
    if ran < max(address.call, 1):
        raise ConfigError(f"site {site!r} ran {ran} times in this forward pass")
    if address.call == 0 and ran > 1:
        raise ConfigError(
            f"site {site!r} runs {ran} times in one forward pass; name one call, such as "
            f"'{address.module}#1{site.removeprefix(address.module)}', or a module that runs once"
        )


def output_name(site: Site, address: Address, output: object) -> str:
    """Return which of the named tensors of a module's output the site is, or raise ConfigError."""
    named = tensors_in(output)
    wanted = address.output or next(iter(named), "")
    for name in (wanted, f"output_{wanted}"):
        if name in named:
            return name
    kind = "input" if address.is_input else "output"
    raise ConfigError(f"site {site!r} has no {kind} {wanted!r}; it has {sorted(named)}")


def activation(
    site: Site, address: Address, output: object, *, batch: int
) -> Float[Tensor, "batch ..."]:
    """Return the site's tensor of a module's output; ConfigError if it is no activation.

    Integers that go into a module, such as an embedding's tokens, are given in double precision,
    which has them exactly.
    """
    tensor = tensors_in(output)[output_name(site, address, output)]
    if address.is_input and tensor.dtype in _INTEGERS:
        tensor = tensor.double()
    if not tensor.is_floating_point() or tensor.ndim == 0 or tensor.shape[0] != batch:
        raise ConfigError(
            f"site {site!r} gives {tensor.dtype} of shape {tuple(tensor.shape)} for {batch} inputs;"
            " a site must give floating-point numbers with the batch as first axis"
        )
    return tensor


def _before(
    hook: Hook, module: nn.Module, positional: tuple[object, ...], named: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]] | None:
    """Show a hook a module's arguments; those that it returns take their place."""
    given = {**{str(place): value for place, value in enumerate(positional)}, **named}
    changed = hook(module, positional, given)
    if changed is None:
        return None
    assert isinstance(changed, dict)
    first = tuple(changed.pop(str(place)) for place in range(len(positional)))
    return first, changed


def _check_evaluating(modules: Mapping[str, nn.Module]) -> None:
    for name, part in modules.items():
        if part.training:
            raise ConfigError(
                f"module {name!r} of the model is in training mode; call eval() on the model"
            )


def keep(calls: list[object], _module: nn.Module, _args: object, output: object) -> None:
    """Add a copy of a module's output to those of its other calls, as a hook."""
    # A copy: a later in-place operation, such as ReLU(inplace=True), would change what we keep.
    match output:
        case Tensor():
            calls.append(output.detach().clone())
        case _:
            calls.append({name: kept.clone() for name, kept in named_tensors(output).items()})
