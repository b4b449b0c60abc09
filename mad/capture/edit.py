"""Run the model once with the outputs of chosen modules changed, leaving the model as it was."""

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mad.capture.hooks import (
    End,
    Hook,
    Outputs,
    activation,
    check_calls,
    forward,
    hooked,
    named_tensors,
    output_name,
    tensors_in,
)
from mad.capture.model import MonitoredModel
from mad.capture.sites import Address
from mad.types import Inputs, Site, batch_size

Edit: TypeAlias = Callable[[Float[Tensor, "batch ..."]], Float[Tensor, "batch ..."]]
"""Given a site's own output, with all its positions, returns what stands in its place: a tensor of
the same shape and type. It must not change what it is given."""


def run_edited(model: MonitoredModel, edits: Mapping[Site, Edit], inputs: Inputs) -> Outputs:
    """Run the model once with the outputs of some sites changed, and return its outputs.

    What runs after a site sees the edit, later sites too. Law: without edits, or with edits that
    return what they are given, outputs are bit for bit the model's own; inputs, hooks, mode,
    parameters and gradients stay as they were.

    Raises:
        ConfigError: as ``capture`` does.
    """
    with torch.no_grad(), editing(model, edits, batch=batch_size(inputs)):
        return named_tensors(forward(model, inputs))


@contextmanager
def editing(model: MonitoredModel, edits: Mapping[Site, Edit], *, batch: int) -> Iterator[None]:
    """Change the outputs of sites in the one forward pass that runs inside."""
    addresses = {site: Address.parse(site) for site in edits}
    by_end: dict[End, dict[Site, Address]] = defaultdict(dict)
    for site, address in addresses.items():
        by_end[address.end][site] = address
    ran: Counter[End] = Counter()

    def hook_of(end: End) -> Hook:
        def hook(_module: nn.Module, _args: object, output: object) -> object:
            ran[end] += 1
            for site, address in by_end[end].items():
                if address.call in (0, ran[end]):
                    before = activation(site, address, output, batch=batch)
                    after = edits[site](before)
                    assert (after.shape, after.dtype) == (before.shape, before.dtype)
                    name = output_name(site, address, output)
                    # Integers were given as exact floating-point numbers.
                    own = after.to(tensors_in(output)[name].dtype)
                    output = _replaced(output, name, own)
            return output

        return hook

    with hooked(model.module, {end: hook_of(end) for end in by_end}):
        yield
    for site, address in addresses.items():
        check_calls(site, address, ran[address.end])


def _replaced(output: object, name: str, by: Tensor) -> object:
    """Return an output of the same kind with one of its named tensors replaced."""
    match output:
        case Mapping():
            # Copied and not rebuilt: such a mapping may be a class with attributes of its own.
            changed = copy.copy(output)
            key = next(key for key in output if str(key) == name)
            changed[key] = by  # type: ignore[index]  # what a model returns can be assigned to
            return changed
        case list() | tuple():
            entries = list(output)
            entries[int(name.removeprefix("output_"))] = by
            build = getattr(type(output), "_make", type(output))
            return build(entries)
        case _:
            return by
