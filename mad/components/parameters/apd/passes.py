"""A model whose decomposed layers ask what to return: as it is, with components, or changed."""

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mad.components.parameters.apd.components import Components
from mad.components.parameters.layers import MatrixLayer
from mad.components.parameters.looked import checked_output

Visit: TypeAlias = Callable[[str, Tensor, Tensor], Tensor]
"""Given a layer's name, what it was given and what it returns, says what to return instead."""


@final
@dataclass(frozen=True)
class Seen:
    """One run of a model: its output, and what each layer was given and returned.

    ``visit`` is what ran in the place of the decomposed layers.
    """

    output: Float[Tensor, "batch ..."]
    given: Mapping[str, Shaped[Tensor, "batch ..."]]
    returned: Mapping[str, Float[Tensor, "batch ..."]]
    visit: Visit


@final
class Visited:
    """A copy of a model that shares its weights, without their gradients, and has hooks.

    Several threads may run it at once.
    """

    def __init__(self, model: nn.Module, layers: Sequence[MatrixLayer]) -> None:
        shared = {
            id(one): nn.Parameter(one.detach(), requires_grad=False) for one in model.parameters()
        }
        self._model = copy.deepcopy(model, {**shared, **{id(one): one for one in model.buffers()}})
        self._model.eval()
        self._running = threading.local()
        self._takes_tokens = any(isinstance(one, nn.Embedding) for one in model.modules())
        self._dtype = next(model.parameters()).dtype
        self.biases: dict[str, Tensor | None] = {}
        for layer in layers:
            module = self._model.get_submodule(layer.name)
            module.register_forward_hook(self._hook(layer.name))
            bias = getattr(module, "bias", None)
            beside = [1] * (2 * (layer.window is not None))
            self.biases[layer.name] = None if bias is None else bias.reshape(-1, *beside)

    def as_input(self, captured: Float[Tensor, "batch ..."]) -> Shaped[Tensor, "batch ..."]:
        """Return what was captured on its way into the model in a type that the model takes.

        Tokens are captured as numbers in double precision; a model that looks them up takes whole
        ones. One that looks up something else, such as places, is given numbers as they are.
        """
        if self._takes_tokens and captured.dtype is torch.float64:
            return captured.long()
        return captured.to(self._dtype)

    def look(self, batch: Shaped[Tensor, "batch ..."]) -> Seen:
        """Run the model as it is.

        Raises:
            ConfigError: a layer is not called once in a run, or the output is not a tensor.
        """
        return self._look(batch, _as_it_is)

    def look_at_all(self, batch: Shaped[Tensor, "batch ..."], components: Components) -> Seen:
        """Run what all components add up to, which is the model as it is once they are faithful.

        Raises:
            ConfigError: as ``look``.
        """

        def all_of(name: str, given: Tensor, _out: Tensor) -> Tensor:
            every = torch.ones(len(given), components[name].width)
            return self._biased(name, components[name].written(given, every))

        return self._look(batch, all_of)

    def _look(self, batch: Tensor, within: Visit) -> Seen:
        calls = dict.fromkeys(self.biases, 0)
        given: dict[str, Tensor] = {}
        returned: dict[str, Tensor] = {}

        def visit(name: str, own: Tensor, out: Tensor) -> Tensor:
            calls[name] += 1
            answer = within(name, own, out)
            # Copies: the model may go on in place, such as by ReLU(inplace=True).
            given[name], returned[name] = own.clone(), answer.clone()
            return answer

        with torch.no_grad():
            output = self.run(batch, visit)
        return Seen(checked_output(output, calls=calls), given, returned, within)

    def with_components(
        self,
        batch: Shaped[Tensor, "batch ..."],
        components: Components,
        used: Float[Tensor, "batch component"],
    ) -> tuple[Float[Tensor, "batch ..."], Mapping[str, Float[Tensor, "batch ..."]]]:
        """Return the output, and what layers return, when only the used components are there."""
        returned: dict[str, Tensor] = {}

        def visit(name: str, given: Tensor, _out: Tensor) -> Tensor:
            returned[name] = self._biased(name, components[name].written(given, used))
            return returned[name]

        return self.run(batch, visit), returned

    def run(self, batch: Shaped[Tensor, "batch ..."], visit: Visit) -> Float[Tensor, "batch ..."]:
        """Run the model with what a visit makes of each decomposed layer."""
        self._running.visit = visit
        try:
            output: Tensor = self._model(batch)
        finally:
            self._running.visit = _as_it_is
        return output

    def _biased(self, name: str, written: Tensor) -> Tensor:
        bias = self.biases[name]
        return written if bias is None else written + bias

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def hook(_module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
            visit: Visit = getattr(self._running, "visit", _as_it_is)
            return visit(name, given[0], out)

        return hook


def _as_it_is(name: str, given: Tensor, out: Tensor) -> Tensor:  # noqa: ARG001  # Visit
    return out
