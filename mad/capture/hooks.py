"""Run the model once and keep the output of chosen modules, leaving the model as it was found."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, final

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from mad.capture.model import MonitoredModel
from mad.capture.sites import Address
from mad.errors import ConfigError
from mad.types import Activations, Inputs, Site, batch_size

Outputs: TypeAlias = Mapping[str, Shaped[Tensor, "..."]]


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
            its output is no floating-point tensor whose first axis is the batch, or part of the
            model is in training mode, in which a forward pass may change it.
    """
    calls: dict[str, list[object]] = defaultdict(list)
    addresses = {site: Address.parse(site) for site in sites}
    with torch.no_grad(), _kept(model.module, addresses.values(), into=calls):
        # Copies: a first operation in place would change the caller's inputs.
        output = model.module(*(inputs[name].clone() for name in model.inputs))
    batch = batch_size(inputs)
    activations = {
        site: _activation(site, _call(site, address, calls[address.module]), address, batch=batch)
        for site, address in addresses.items()
    }
    return Run(named_tensors(output), activations)


def named_tensors(output: object) -> dict[str, Tensor]:
    """Name the tensors of a module's output: ``output``, ``output_0`` and on, or a dict's keys."""
    match output:
        case Tensor():
            return {"output": output.detach()}
        case Mapping():
            named = {str(key): value for key, value in output.items()}
        case list() | tuple():
            named = {f"output_{index}": value for index, value in enumerate(output)}
        case _:
            named = {}
    # Detached: a model may switch gradients on for itself.
    return {name: value.detach() for name, value in named.items() if isinstance(value, Tensor)}


def _check_evaluating(modules: Mapping[str, nn.Module]) -> None:
    for name, part in modules.items():
        if part.training:
            raise ConfigError(
                f"module {name!r} of the model is in training mode; call eval() on the model"
            )


@contextmanager
def _kept(
    module: nn.Module, addresses: Iterable[Address], *, into: dict[str, list[object]]
) -> Iterator[None]:
    modules = dict(module.named_modules())
    _check_evaluating(modules)
    with ExitStack() as hooks:
        for name in {address.module for address in addresses}:
            if name not in modules:
                raise ConfigError(f"the model has no module named {name!r}")
            handle = modules[name].register_forward_hook(partial(_keep, into[name]))
            hooks.callback(handle.remove)
        yield


def _keep(calls: list[object], _module: nn.Module, _args: object, output: object) -> None:
    # A copy: a later in-place operation, such as ReLU(inplace=True), would change what we keep.
    match output:
        case Tensor():
            calls.append(output.detach().clone())
        case _:
            calls.append({name: kept.clone() for name, kept in named_tensors(output).items()})


def _call(site: Site, address: Address, calls: list[object]) -> object:
    if len(calls) < max(address.call, 1):
        raise ConfigError(f"site {site!r} ran {len(calls)} times in this forward pass")
    if address.call == 0 and len(calls) > 1:
        raise ConfigError(
            f"site {site!r} runs {len(calls)} times in one forward pass; name one call, such as "
            f"'{site}#1', or a module that runs once"
        )
    return calls[max(address.call, 1) - 1]


def _activation(site: Site, output: object, address: Address, *, batch: int) -> Tensor:
    named = named_tensors(output)
    wanted = address.output or next(iter(named), "")
    tensor = named.get(wanted, named.get(f"output_{wanted}"))
    if tensor is None:
        raise ConfigError(f"site {site!r} has no output {wanted!r}; it has {sorted(named)}")
    if not tensor.is_floating_point() or tensor.ndim == 0 or tensor.shape[0] != batch:
        raise ConfigError(
            f"site {site!r} gives {tensor.dtype} of shape {tuple(tensor.shape)} for {batch} inputs;"
            " a site must give floating-point numbers with the batch as first axis"
        )
    return tensor
